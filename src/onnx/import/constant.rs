//! Constants: what weights are stored as, and the sizes that a graph computes with.

use super::super::proto::{EXTERNAL, TensorProto};
use crate::error::{Error, Result, error};
use crate::files::open_regular;
use crate::memory;
use crate::text::excerpt;
use crate::weights::StoredDType;
use prost::bytes::Bytes;
use prost::encoding::decode_varint;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

/// A tensor that is known before the network runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub dims: Vec<usize>,
    pub values: Values,
}

/// Elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    /// Integers, and booleans as 0 and 1.
    Int(Vec<i64>),
    Float(Vec<f32>),
}

impl Constant {
    /// Creates a vector of integers.
    pub fn ints(values: Vec<i64>) -> Self {
        Self { dims: vec![values.len()], values: Values::Int(values) }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Int(values) => values.len(),
            Values::Float(values) => values.len(),
        }
    }

    /// Returns the elements as f32.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Int(values) => values.iter().map(|&v| v as f32).collect(),
            Values::Float(values) => values.clone(),
        }
    }

    /// Returns the elements.
    ///
    /// # Errors
    /// Returns an error if they are no integers.
    pub fn integers(&self) -> Result<&[i64]> {
        match &self.values {
            Values::Int(values) => Ok(values),
            Values::Float(_) => Err(error!(Weights, "expected integers, got floating point")),
        }
    }
}

/// Element type of a `TensorProto`. `None` for types that are not read.
fn dtype(data_type: i32) -> Option<StoredDType> {
    Some(match data_type {
        1 => StoredDType::F32,
        2 => StoredDType::U8,
        3 => StoredDType::I8,
        4 => StoredDType::U16,
        5 => StoredDType::I16,
        6 => StoredDType::I32,
        7 => StoredDType::I64,
        9 => StoredDType::Bool,
        10 => StoredDType::F16,
        11 => StoredDType::F64,
        12 => StoredDType::U32,
        13 => StoredDType::U64,
        16 => StoredDType::BF16,
        _ => return None,
    })
}

/// Returns the dimensions of a stored tensor and the number of its elements.
///
/// # Errors
/// Returns an error if a dimension is negative, or the number exceeds the address space.
pub(super) fn dims(tensor: &TensorProto) -> Result<(Vec<usize>, usize)> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&n| usize::try_from(n).ok()).collect();
    let counted = dims.and_then(|dims| {
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        count.checked_mul(8).map(|_| (dims, count))
    });
    counted.ok_or_else(|| error!(Weights, "impossible dimensions {:?}", tensor.dims))
}

/// Reads the elements of a stored tensor; those in another file from `directory`.
///
/// # Errors
/// Returns an error if their number or type does not fit, or if the other file cannot be read.
pub(super) fn read(tensor: &TensorProto, directory: Option<&Path>) -> Result<Constant> {
    let (dims, count) = dims(tensor)?;
    let dtype = dtype(tensor.data_type).ok_or_else(|| {
        error!(Weights, "elements of type {} are not supported", tensor.data_type)
    })?;
    let bytes = count * dtype.size();
    let values = if tensor.data_location == EXTERNAL {
        decode(dtype, &external(tensor, directory, bytes)?)?
    } else if !tensor.raw_data.is_empty() {
        check_len(tensor.raw_data.len(), bytes)?;
        decode(dtype, &tensor.raw_data)?
    } else {
        list(tensor, dtype)?
    };
    let constant = Constant { dims, values };
    check_len(constant.len(), count)?;
    Ok(constant)
}

fn check_len(len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(error!(Weights, "expected {expected} bytes or elements, got {len}: the file is damaged"))
}

/// Decodes little-endian elements.
fn decode(dtype: StoredDType, bytes: &[u8]) -> Result<Values> {
    if dtype.is_float() {
        let mut values = memory::with_capacity(bytes.len() / dtype.size())?;
        dtype.decode(bytes, &mut values);
        return Ok(Values::Float(values));
    }
    let signed = matches!(dtype, StoredDType::I8 | StoredDType::I16 | StoredDType::I32);
    let integer = |chunk: &[u8]| {
        let sign = if signed && chunk.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(wide)
    };
    let len = bytes.len() / dtype.size();
    Ok(Values::Int(memory::collect(len, bytes.chunks_exact(dtype.size()).map(integer))?))
}

/// Decodes the elements of a typed list.
fn list(tensor: &TensorProto, dtype: StoredDType) -> Result<Values> {
    match dtype {
        StoredDType::F32 => decode(dtype, &tensor.float_data),
        StoredDType::F64 => decode(dtype, &tensor.double_data),
        StoredDType::I64 => Ok(Values::Int(varints(&tensor.int64_data)?)),
        StoredDType::F16 | StoredDType::BF16 => {
            let bits = varints(&tensor.int32_data)?;
            let bytes: Vec<u8> = bits.iter().flat_map(|&b| (b as u16).to_le_bytes()).collect();
            decode(dtype, &bytes)
        }
        StoredDType::U32 | StoredDType::U64 => {
            Err(error!(Weights, "lists of unsigned integers are not supported"))
        }
        _ => Ok(Values::Int(varints(&tensor.int32_data)?)),
    }
}

fn varints(list: &Bytes) -> Result<Vec<i64>> {
    let mut rest = &list[..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        let value = decode_varint(&mut rest)
            .map_err(|e| error!(Weights, "a list of integers is damaged").source(e))?;
        values.push(value as i64);
    }
    Ok(values)
}

/// Reads the elements of a tensor from the file that it names.
fn external(tensor: &TensorProto, directory: Option<&Path>, len: usize) -> Result<Vec<u8>> {
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    };
    let location = entry("location").map_or("", String::as_str);
    let name = Path::new(location);
    // A file must not make others be read that are not its own.
    let inside = name.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(error!(
            Weights,
            "the weights are in `{}`, which is not below the file's directory",
            excerpt(location)
        ));
    }
    let Some(directory) = directory else {
        return Err(error!(Weights, "the weights are in another file, `{}`", excerpt(location))
            .advice("open the file by its path, with the other one beside it"));
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| error!(Weights, "invalid {key} `{}` of external weights", excerpt(text))),
    };
    if let Some(stated) = number("length")? {
        check_len(usize::try_from(stated).unwrap_or(usize::MAX), len)?;
    }
    let offset = number("offset")?.unwrap_or(0);
    let path = directory.join(name);
    let mut file = open_regular(&path, "the file with the weights")?;
    let failed = |e| Error::io(&path, "could not be read", e);
    let available = file.metadata().map_err(failed)?.len().saturating_sub(offset);
    if (len as u64) > available {
        return Err(
            error!(Weights, "{len} bytes at {offset} are past the end of the file").file(&path)
        );
    }
    let mut bytes = memory::zeros(len)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
