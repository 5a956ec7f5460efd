//! Tensors and storages out of a pickle's values: what `torch._utils._rebuild_tensor_v2` and its
//! relatives would make.

use super::super::dtype::StoredDType;
use super::value::{Id, Node, Values};
use crate::text::excerpt;

/// Rebuilders that wrap others (a parameter around its tensor) may nest this deep.
const MAX_WRAPS: usize = 8;

/// A storage as the pickle names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StorageRef<'a> {
    /// Name of its data in the file.
    pub key: &'a str,
    /// Type of its elements, where that can be read.
    pub dtype: Option<StoredDType>,
    /// What PyTorch calls the type of its elements, where that cannot be read.
    pub unread: Option<&'static str>,
    /// Bytes of one element.
    pub element: usize,
    /// Number of elements.
    pub len: u64,
    /// Elements before the part that is meant, where only a part is (PyTorch before 0.4).
    pub view: u64,
}

/// A tensor as the pickle describes it. Nothing about it is checked against the storage yet.
#[derive(Debug)]
pub(super) struct TensorRef<'a> {
    pub storage: StorageRef<'a>,
    pub dtype: StoredDType,
    /// Elements from the storage's start.
    pub offset: u64,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a value of a state dict turns out to be.
#[derive(Debug)]
pub(super) enum Rebuilt<'a> {
    Tensor(TensorRef<'a>),
    /// Not a tensor, or one of a kind that is not read; in words.
    Other(String),
    /// A tensor whose description contradicts itself; in words.
    Broken(&'static str),
}

/// Whether a value is the call of one of PyTorch's rebuilders, so that a dict of such values is a
/// state dict.
pub(super) fn is_tensor(values: &Values<'_>, id: Id) -> bool {
    match values.get(id) {
        Node::Call(call) => {
            values.global(call.callable).is_some_and(|(module, name)| match module {
                "torch._utils" => name.starts_with("_rebuild_"),
                "torch._tensor" => name == "_rebuild_from_type_v2",
                _ => false,
            })
        }
        _ => false,
    }
}

/// Follows a value to the tensor that it stands for.
pub(super) fn rebuild<'a>(values: &Values<'a>, id: Id) -> Rebuilt<'a> {
    let mut id = id;
    for _ in 0..MAX_WRAPS {
        let Node::Call(call) = values.get(id) else { return Rebuilt::Other(values.describe(id)) };
        let Some(args) = values.sequence(call.args) else {
            return Rebuilt::Broken("it is rebuilt from something that is no tuple");
        };
        match (values.global(call.callable), args) {
            (
                Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")),
                [data, ..],
            ) => id = *data,
            (Some(("torch._tensor", "_rebuild_from_type_v2")), [function, _, inner, ..]) => {
                return match values.sequence(*inner) {
                    Some(inner) => plain(values, values.global(*function), inner)
                        .unwrap_or_else(|| Rebuilt::Other(values.describe(id))),
                    None => Rebuilt::Broken("it is rebuilt from something that is no tuple"),
                };
            }
            (function, args) => {
                return plain(values, function, args)
                    .unwrap_or_else(|| Rebuilt::Other(values.describe(id)));
            }
        }
    }
    Rebuilt::Broken("parameters are wrapped in parameters without end")
}

/// A tensor from the arguments of the rebuilder that makes it; `None` for rebuilders of other kinds
/// (sparse, quantized).
fn plain<'a>(
    values: &Values<'a>,
    function: Option<(&str, &str)>,
    args: &[Id],
) -> Option<Rebuilt<'a>> {
    if let Some(("torch._utils", name)) = function
        && name.starts_with("_rebuild_sparse_")
    {
        return Some(Rebuilt::Other("a sparse tensor".into()));
    }
    let (Some(("torch._utils", name)), [storage, offset, dims, strides, rest @ ..]) =
        (function, args)
    else {
        return None;
    };
    let (explicit, flags) = match (name, rest) {
        ("_rebuild_tensor", _) => (None, None),
        ("_rebuild_tensor_v2", _) => (None, rest.get(2)),
        ("_rebuild_tensor_v3", [_, _, dtype, ..]) => (Some(*dtype), rest.get(3)),
        ("_rebuild_qtensor", _) => return Some(Rebuilt::Other("a quantized tensor".into())),
        _ => return None,
    };
    let Some(storage) = storage_ref(values, *storage) else {
        return Some(Rebuilt::Broken("its storage is not described"));
    };
    let dtype = match explicit {
        Some(dtype) => values
            .global(dtype)
            .and_then(|(module, name)| (module == "torch").then(|| named(name))?),
        None => storage.dtype,
    };
    let Some(dtype) = dtype else {
        let named = explicit.and_then(|dtype| values.global(dtype)).map(|(_, name)| excerpt(name));
        let name = named.or_else(|| storage.unread.map(str::to_owned));
        return Some(Rebuilt::Other(name.map_or("a tensor of an unknown type".into(), |name| {
            format!("a tensor of type {name}")
        })));
    };
    // Views that are conjugated or negated only when they are used.
    if flags.and_then(|&flags| values.entries(flags)).is_some_and(|flags| !flags.is_empty()) {
        return Some(Rebuilt::Other("a tensor that is negated or conjugated lazily".into()));
    }
    let numbers = |id: Id| -> Option<Vec<usize>> {
        values.sequence(id)?.iter().map(|&n| usize::try_from(values.size(n)?).ok()).collect()
    };
    Some(match (values.size(*offset), numbers(*dims), numbers(*strides)) {
        (Some(offset), Some(dims), Some(strides)) => match offset.checked_add(storage.view) {
            Some(offset) => Rebuilt::Tensor(TensorRef { storage, dtype, offset, dims, strides }),
            None => Rebuilt::Broken("its offset is past any file"),
        },
        _ => Rebuilt::Broken("its offset, size or stride is no row of numbers of zero or more"),
    })
}

/// Reads `('storage', torch.FloatStorage, key, location, elements[, view])`.
pub(super) fn storage_ref<'a>(values: &Values<'a>, id: Id) -> Option<StorageRef<'a>> {
    let Node::Persistent(id) = values.get(id) else { return None };
    let [kind, class, key, _location, len, rest @ ..] = values.sequence(*id)? else { return None };
    if values.str(*kind) != Some("storage") {
        return None;
    }
    let (module, class) = values.global(*class)?;
    let (dtype, unread, element) = match (module, class.strip_suffix("Storage")?) {
        ("torch.storage", "Untyped") => (None, None, 1),
        (m, class) if m == "torch" || m.starts_with("torch.") => storage_type(class)?,
        _ => return None,
    };
    let view = match rest.first().map(|&id| (id, values.get(id))) {
        None | Some((_, Node::None)) => 0,
        Some((id, _)) => values.size(*values.sequence(id)?.get(1)?)?,
    };
    Some(StorageRef {
        key: values.str(*key)?,
        dtype,
        unread,
        element,
        len: values.size(*len)?,
        view,
    })
}

/// Element type and size from the name of PyTorch's storage class; of types that are not read,
/// PyTorch's name.
fn storage_type(class: &str) -> Option<(Option<StoredDType>, Option<&'static str>, usize)> {
    let unread = |name, size| Some((None, Some(name), size));
    let dtype = match class {
        "Double" => StoredDType::F64,
        "Float" => StoredDType::F32,
        "Half" => StoredDType::F16,
        "BFloat16" => StoredDType::BF16,
        "Long" => StoredDType::I64,
        "Int" => StoredDType::I32,
        "Short" => StoredDType::I16,
        "Char" => StoredDType::I8,
        "Byte" => StoredDType::U8,
        "Bool" => StoredDType::Bool,
        "ComplexDouble" => return unread("complex128", 16),
        "ComplexFloat" => return unread("complex64", 8),
        "QInt32" => return unread("qint32", 4),
        "QInt8" => return unread("qint8", 1),
        "QUInt8" => return unread("quint8", 1),
        "QUInt4x2" => return unread("quint4x2", 1),
        "QUInt2x4" => return unread("quint2x4", 1),
        _ => return None,
    };
    Some((Some(dtype), None, dtype.size()))
}

/// Element type from PyTorch's name for it, as `_rebuild_tensor_v3` gives it.
fn named(dtype: &str) -> Option<StoredDType> {
    Some(match dtype {
        "float64" => StoredDType::F64,
        "float32" => StoredDType::F32,
        "float16" => StoredDType::F16,
        "bfloat16" => StoredDType::BF16,
        "int64" => StoredDType::I64,
        "int32" => StoredDType::I32,
        "int16" => StoredDType::I16,
        "int8" => StoredDType::I8,
        "uint64" => StoredDType::U64,
        "uint32" => StoredDType::U32,
        "uint16" => StoredDType::U16,
        "uint8" => StoredDType::U8,
        "bool" => StoredDType::Bool,
        _ => return None,
    })
}
