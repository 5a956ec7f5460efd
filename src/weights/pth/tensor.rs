//! Interpreting the values of a pickle as tensors and storages, like
//! `torch._utils._rebuild_tensor_v2` and its variants.

use super::super::dtype::StoredDType;
use super::value::{Id, Node, Values};
use crate::text::excerpt;

/// Maximum nesting of rebuild functions (a parameter around its tensor).
const MAX_NESTING: usize = 8;

/// Reference to a storage in a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StorageRef<'a> {
    /// Key of its data in the file.
    pub key: &'a str,
    /// Element type, if supported.
    pub dtype: Option<StoredDType>,
    /// PyTorch's name of the element type, if unsupported.
    pub unsupported: Option<&'static str>,
    /// Size of an element in bytes.
    pub element_size: usize,
    /// Number of elements.
    pub len: u64,
    /// Offset of a view into the storage, in elements (PyTorch before 0.4).
    pub view_offset: u64,
}

/// Description of a tensor in a pickle, not yet checked against its storage.
#[derive(Debug)]
pub(super) struct TensorRef<'a> {
    pub storage: StorageRef<'a>,
    pub dtype: StoredDType,
    /// Offset in the storage, in elements.
    pub offset: u64,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Interpretation of a value of a state dict.
#[derive(Debug)]
pub(super) enum Rebuilt<'a> {
    Tensor(TensorRef<'a>),
    /// Another object, or a tensor of an unsupported kind; with its description.
    Other(String),
    /// A tensor with an invalid description; with the error message.
    Invalid(&'static str),
}

/// Returns whether a value is a call of one of PyTorch's rebuild functions. A dict of such values
/// is a state dict.
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

/// Interprets a value as a tensor.
pub(super) fn rebuild<'a>(values: &Values<'a>, id: Id) -> Rebuilt<'a> {
    let mut id = id;
    for _ in 0..MAX_NESTING {
        let Node::Call(call) = values.get(id) else { return Rebuilt::Other(values.describe(id)) };
        let Some(args) = values.sequence(call.args) else {
            return Rebuilt::Invalid("the arguments of its rebuild function are not a tuple");
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
                    None => {
                        Rebuilt::Invalid("the arguments of its rebuild function are not a tuple")
                    }
                };
            }
            (function, args) => {
                return plain(values, function, args)
                    .unwrap_or_else(|| Rebuilt::Other(values.describe(id)));
            }
        }
    }
    Rebuilt::Invalid("its rebuild functions are nested too deeply")
}

/// Interprets the call of a rebuild function. `None` if the function is unknown.
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
    let (Some(("torch._utils", name)), [storage, offset, dims, strides, other_args @ ..]) =
        (function, args)
    else {
        return None;
    };
    let (explicit_dtype, flags) = match (name, other_args) {
        ("_rebuild_tensor", _) => (None, None),
        ("_rebuild_tensor_v2", _) => (None, other_args.get(2)),
        ("_rebuild_tensor_v3", [_, _, dtype, ..]) => (Some(*dtype), other_args.get(3)),
        ("_rebuild_qtensor", _) => return Some(Rebuilt::Other("a quantized tensor".into())),
        _ => return None,
    };
    let Some(storage) = storage_ref(values, *storage) else {
        return Some(Rebuilt::Invalid("the reference to its storage is invalid"));
    };
    let dtype = match explicit_dtype {
        Some(dtype) => values
            .global(dtype)
            .and_then(|(module, name)| (module == "torch").then(|| dtype_by_name(name))?),
        None => storage.dtype,
    };
    let Some(dtype) = dtype else {
        let explicit_name =
            explicit_dtype.and_then(|dtype| values.global(dtype)).map(|(_, name)| excerpt(name));
        let name = explicit_name.or_else(|| storage.unsupported.map(str::to_owned));
        return Some(Rebuilt::Other(name.map_or("a tensor of an unknown type".into(), |name| {
            format!("a tensor of type {name}")
        })));
    };
    // Flags of lazily conjugated or negated views.
    if flags.and_then(|&flags| values.entries(flags)).is_some_and(|flags| !flags.is_empty()) {
        return Some(Rebuilt::Other("a lazily negated or conjugated tensor".into()));
    }
    let sizes = |id: Id| -> Option<Vec<usize>> {
        values.sequence(id)?.iter().map(|&n| usize::try_from(values.size(n)?).ok()).collect()
    };
    Some(match (values.size(*offset), sizes(*dims), sizes(*strides)) {
        (Some(offset), Some(dims), Some(strides)) => {
            match offset.checked_add(storage.view_offset) {
                Some(offset) => {
                    Rebuilt::Tensor(TensorRef { storage, dtype, offset, dims, strides })
                }
                None => Rebuilt::Invalid("its offset overflows"),
            }
        }
        _ => Rebuilt::Invalid("its offset, size or stride is not a non-negative integer"),
    })
}

/// Parses a storage reference `('storage', torch.FloatStorage, key, location, elements[, view])`.
pub(super) fn storage_ref<'a>(values: &Values<'a>, id: Id) -> Option<StorageRef<'a>> {
    let Node::Persistent(id) = values.get(id) else { return None };
    let [kind, class, key, _location, len, view @ ..] = values.sequence(*id)? else { return None };
    if values.str(*kind) != Some("storage") {
        return None;
    }
    let (module, class) = values.global(*class)?;
    let (dtype, unsupported, element_size) = match (module, class.strip_suffix("Storage")?) {
        ("torch.storage", "Untyped") => (None, None, 1),
        (m, class) if m == "torch" || m.starts_with("torch.") => storage_type(class)?,
        _ => return None,
    };
    let view_offset = match view.first().map(|&id| (id, values.get(id))) {
        None | Some((_, Node::None)) => 0,
        Some((id, _)) => values.size(*values.sequence(id)?.get(1)?)?,
    };
    Some(StorageRef {
        key: values.str(*key)?,
        dtype,
        unsupported,
        element_size,
        len: values.size(*len)?,
        view_offset,
    })
}

/// Returns the element type of a storage class (without `Storage`), or PyTorch's name of it if
/// unsupported, and the element size.
fn storage_type(class: &str) -> Option<(Option<StoredDType>, Option<&'static str>, usize)> {
    let unsupported = |name, size| Some((None, Some(name), size));
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
        "ComplexDouble" => return unsupported("complex128", 16),
        "ComplexFloat" => return unsupported("complex64", 8),
        "QInt32" => return unsupported("qint32", 4),
        "QInt8" => return unsupported("qint8", 1),
        "QUInt8" => return unsupported("quint8", 1),
        "QUInt4x2" => return unsupported("quint4x2", 1),
        "QUInt2x4" => return unsupported("quint2x4", 1),
        _ => return None,
    };
    Some((Some(dtype), None, dtype.size()))
}

/// Returns the element type with PyTorch's name, as in the arguments of `_rebuild_tensor_v3`.
fn dtype_by_name(dtype: &str) -> Option<StoredDType> {
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
