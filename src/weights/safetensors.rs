//! The safetensors format: the length of the header in eight bytes, a JSON header, then the
//! elements without gaps.
//!
//! <https://huggingface.co/docs/safetensors/index#format>

use super::dtype::{FloatDType, StoredDType};
use super::raw::{Contents, Location, RawTensor, Storage};
use super::source::Source;
use super::{format_bytes, save};
use crate::error::{Result, error};
use ::safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

/// Maximum length of a header in bytes. The largest supported networks need 0.3 MiB.
const MAX_HEADER: u64 = 16 << 20;
const METADATA: &str = "__metadata__";

/// Returns whether a file starts like safetensors: eight bytes, then the brace of a JSON object.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{')
}

/// Reads and checks the header.
pub(super) fn open(source: &Source) -> Result<Contents> {
    let mut length = [0; 8];
    source.read_at(0, &mut length)?;
    let header_len = u64::from_le_bytes(length);
    let max_len = source.len() - 8;
    if header_len > max_len {
        let (expected, actual) = (format_bytes(header_len), format_bytes(source.len()));
        return Err(error!(
            Weights,
            "the header should have {expected} but the file has {actual}: the file is truncated"
        ));
    }
    if header_len > MAX_HEADER {
        let (len, max) = (format_bytes(header_len), format_bytes(MAX_HEADER));
        return Err(error!(Weights, "the header has {len}, at most {max} are supported"));
    }
    let bytes = source.bytes(8, header_len as usize)?;
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|e| error!(Weights, "invalid safetensors header").source(e))?;

    let data = max_len - header_len;
    check_offsets(&header.tensors, data)?;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for (name, info) in header.tensors {
        tensors.push(tensor(name.into_owned(), info, data)?);
    }
    let storages =
        vec![Storage { location: Location::Plain(8 + header_len), len: data, shard: None }];
    let metadata = header.metadata.into_owned();
    Ok(Contents { tensors, storages, metadata, ..Contents::default() })
}

/// Checks that every byte of the data belongs to exactly one tensor, as the format requires.
fn check_offsets(tensors: &[(Cow<'_, str>, TensorInfo)], data: u64) -> Result<()> {
    if let Some((name, info)) = tensors.iter().max_by_key(|(_, info)| info.data_offsets.1)
        && info.data_offsets.1 as u64 > data
    {
        let excess = format_bytes(info.data_offsets.1 as u64 - data);
        return Err(error!(
            Weights,
            "tensor `{name}` ends {excess} past the end of the file: the file is truncated"
        ));
    }
    let mut order: Vec<_> = tensors.iter().map(|(name, info)| (info.data_offsets, name)).collect();
    order.sort_unstable();
    let mut covered = 0;
    let mut previous = "the header";
    for ((begin, end), name) in order {
        if end < begin {
            return Err(error!(
                Weights,
                "tensor `{name}` ends at byte {end}, before its start at byte {begin}"
            ));
        }
        if begin < covered {
            return Err(error!(
                Weights,
                "tensor `{name}` starts at byte {begin} and overlaps `{previous}`, which ends at byte {covered}"
            ));
        }
        if begin > covered {
            return Err(error!(
                Weights,
                "gap of {} before tensor `{name}`",
                format_bytes((begin - covered) as u64)
            ));
        }
        covered = end;
        previous = name;
    }
    if (covered as u64) < data {
        return Err(error!(
            Weights,
            "{} of unused data after the last tensor",
            format_bytes(data - covered as u64)
        ));
    }
    Ok(())
}

fn tensor(name: String, info: TensorInfo, data: u64) -> Result<RawTensor> {
    let Some(dtype) = stored_dtype(info.dtype) else {
        return Err(error!(Weights, "unsupported element type {}", info.dtype)
            .at(format!("tensor `{name}`")));
    };
    let (begin, end) = info.data_offsets;
    let bytes = info.shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    if bytes != Some(end - begin) {
        let required =
            bytes.map_or("more than the address space".into(), |b| format_bytes(b as u64));
        let actual = format_bytes((end - begin) as u64);
        let shape = &info.shape[..info.shape.len().min(8)];
        return Err(error!(
            Weights,
            "{shape:?} of {dtype} requires {required}, but the header specifies {actual}"
        )
        .at(format!("tensor `{name}`")));
    }
    RawTensor::new(name, dtype, info.shape, None, (0, begin as u64, data))
}

fn stored_dtype(dtype: Dtype) -> Option<StoredDType> {
    Some(match dtype {
        Dtype::F64 => StoredDType::F64,
        Dtype::F32 => StoredDType::F32,
        Dtype::F16 => StoredDType::F16,
        Dtype::BF16 => StoredDType::BF16,
        Dtype::I64 => StoredDType::I64,
        Dtype::I32 => StoredDType::I32,
        Dtype::I16 => StoredDType::I16,
        Dtype::I8 => StoredDType::I8,
        Dtype::U64 => StoredDType::U64,
        Dtype::U32 => StoredDType::U32,
        Dtype::U16 => StoredDType::U16,
        Dtype::U8 => StoredDType::U8,
        Dtype::BOOL => StoredDType::Bool,
        _ => return None,
    })
}

/// The JSON header. The reader of the `safetensors` crate is not used because it stores tensors in
/// a hash map: that loses the file order, duplicate names and the name of an invalid tensor, and
/// needs a temporary copy of many times the header's size.
struct Header<'a> {
    metadata: Cow<'a, BTreeMap<String, String>>,
    tensors: Vec<(Cow<'a, str>, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header<'static>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut header = Header { metadata: Cow::default(), tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        header.metadata = Cow::Owned(map.next_value()?);
                    } else {
                        let info = map
                            .next_value()
                            .map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                        header.tensors.push((Cow::Owned(name), info));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &*self.metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

/// Writes tensors in the given order. Each tensor is its name, its dimensions, and its elements in
/// row-major order.
///
/// The file appears at `path` once it is complete. The same tensors and metadata produce the same
/// bytes.
///
/// # Errors
/// Returns an error if two names are equal, if the number of elements does not match the
/// dimensions, if a value is NaN, infinite or outside the range of `dtype`, or if the file cannot
/// be written.
pub fn write_safetensors<N: Into<String>, D: AsRef<[usize]>, V: AsRef<[f32]>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, D, V)>,
    metadata: &BTreeMap<String, String>,
    dtype: FloatDType,
) -> Result<()> {
    let path = path.as_ref();
    let tensors = save::collect(tensors, dtype).map_err(|e| e.file(path))?;
    let header_dtype = match dtype {
        FloatDType::F32 => Dtype::F32,
        FloatDType::F16 => Dtype::F16,
        FloatDType::BF16 => Dtype::BF16,
    };
    let mut header =
        Header { metadata: Cow::Borrowed(metadata), tensors: Vec::with_capacity(tensors.len()) };
    let mut offset = 0;
    for t in &tensors {
        if t.name == METADATA {
            return Err(error!(Usage, "invalid tensor name `{METADATA}`").file(path));
        }
        let end = offset + t.data.as_ref().len() * t.dtype.size();
        let shape = t.dims.as_ref().to_vec();
        header.tensors.push((
            Cow::Borrowed(&t.name),
            TensorInfo {
                dtype: if t.dtype == StoredDType::I64 { Dtype::I64 } else { header_dtype },
                shape,
                data_offsets: (offset, end),
            },
        ));
        offset = end;
    }
    let header = encode_header(&header).map_err(|e| e.file(path))?;
    save::replace(path, |to| {
        to.write_all(&header)?;
        tensors.iter().try_for_each(|t| save::write_elements(to, t, dtype))
    })
}

/// Encodes everything before the elements: the length of the header, and the header.
fn encode_header(header: &Header) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 8];
    serde_json::to_writer(&mut bytes, header)
        .map_err(|e| error!(Weights, "could not encode the header").source(e))?;
    // Pad with spaces to a multiple of eight, so that the data is aligned in a memory map.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    let length = bytes.len() as u64 - 8;
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Encodes everything before the elements of a file with a single f32 tensor, for callers that
/// write the elements themselves.
///
/// # Errors
/// Returns an error if the size of the tensor overflows.
#[cfg(feature = "cli")]
pub(crate) fn single_tensor_header(name: &str, dims: &[usize]) -> Result<Vec<u8>> {
    let bytes = dims
        .iter()
        .try_fold(4usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| error!(Usage, "{dims:?} has too many elements"))?;
    let info = TensorInfo { dtype: Dtype::F32, shape: dims.to_vec(), data_offsets: (0, bytes) };
    encode_header(&Header { metadata: Cow::default(), tensors: vec![(Cow::Borrowed(name), info)] })
}
