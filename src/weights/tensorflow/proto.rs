//! The fields that are read of TensorFlow's protocol buffers.
//!
//! Nested messages whose size a damaged or malicious file could inflate in memory, such as shapes
//! and lists, are kept as the bytes of the file and decoded where they are used, after a check of
//! their length. A protocol buffer stores messages and bytes the same way.

use super::super::dtype::StoredDType;
use crate::error::{Error, Result, error};
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::decode_varint;
use std::collections::HashMap;

/// Maximum length of a shape or a list of numbers in bytes.
const MAX_LIST: usize = 4 << 10;
/// Maximum rank of a shape.
const MAX_RANK: usize = 16;

/// `NodeDef` of `node_def.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeDef {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub op: String,
    #[prost(string, repeated, tag = "3")]
    pub input: Vec<String>,
    #[prost(map = "string, message", tag = "5")]
    pub attr: HashMap<String, AttrValue>,
}

/// `AttrValue` of `attr_value.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttrValue {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub list: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub s: Option<Bytes>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(float, optional, tag = "4")]
    pub f: Option<f32>,
    #[prost(bool, optional, tag = "5")]
    pub b: Option<bool>,
    #[prost(int32, optional, tag = "6")]
    pub kind: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub shape: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub tensor: Option<Bytes>,
}

/// `AttrValue.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListValue {
    #[prost(int64, repeated, tag = "3")]
    pub i: Vec<i64>,
}

/// `TensorProto` of `tensor.proto`. The packed lists of values are bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub tensor_shape: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub tensor_content: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub float_val: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub int_val: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub int64_val: Bytes,
}

/// `TensorShapeProto` of `tensor_shape.proto`.
#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
    #[prost(bool, tag = "3")]
    unknown_rank: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// `BundleHeaderProto` of `tensor_bundle.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BundleHeader {
    #[prost(int32, tag = "1")]
    pub num_shards: i32,
    /// 0 is little-endian, 1 is big-endian.
    #[prost(int32, tag = "2")]
    pub endianness: i32,
}

/// `BundleEntryProto` of `tensor_bundle.proto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BundleEntry {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub shape: Bytes,
    #[prost(int32, tag = "3")]
    pub shard_id: i32,
    #[prost(int64, tag = "4")]
    pub offset: i64,
    #[prost(int64, tag = "5")]
    pub size: i64,
    #[prost(fixed32, tag = "6")]
    pub crc32c: u32,
    /// Present if the tensor is stored in slices under other keys.
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub slices: Option<Bytes>,
}

/// Converts an error of the decoder.
pub(super) fn damaged(e: prost::DecodeError) -> Error {
    error!(Weights, "the protocol buffer is damaged").source(e)
}

/// Decodes a shape. `None` for dimensions that are not fixed; empty for an unknown rank.
pub(super) fn shape(bytes: &Bytes) -> Result<Vec<Option<usize>>> {
    check_len(bytes)?;
    let shape = TensorShape::decode(bytes.clone()).map_err(damaged)?;
    if shape.unknown_rank {
        return Ok(Vec::new());
    }
    if shape.dim.len() > MAX_RANK {
        let rank = shape.dim.len();
        return Err(error!(Weights, "{rank} axes, at most {MAX_RANK} are supported"));
    }
    Ok(shape.dim.iter().map(|dim| usize::try_from(dim.size).ok()).collect())
}

/// Decodes a shape whose dimensions must all be fixed.
pub(super) fn fixed_shape(bytes: &Bytes) -> Result<Vec<usize>> {
    let dims = shape(bytes)?.into_iter().collect::<Option<Vec<usize>>>();
    dims.ok_or_else(|| error!(Weights, "a dimension is negative or too large"))
}

/// Decodes a list of integers.
pub(super) fn integers(bytes: &Bytes) -> Result<Vec<i64>> {
    check_len(bytes)?;
    Ok(ListValue::decode(bytes.clone()).map_err(damaged)?.i)
}

/// Decodes a packed list of variable-length integers.
pub(super) fn packed_integers(bytes: &Bytes) -> Result<Vec<i64>> {
    check_len(bytes)?;
    let mut rest = &bytes[..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(decode_varint(&mut rest).map_err(damaged)? as i64);
    }
    Ok(values)
}

fn check_len(bytes: &Bytes) -> Result<()> {
    if bytes.len() <= MAX_LIST {
        return Ok(());
    }
    Err(error!(
        Weights,
        "a shape or list has {} bytes, at most {MAX_LIST} are supported",
        bytes.len()
    ))
}

/// Returns the element type of a `DataType` of `types.proto`. `None` for types that cannot be read:
/// strings, resources, complex and quantized types.
pub(super) fn dtype(kind: i32) -> Option<StoredDType> {
    Some(match kind {
        1 => StoredDType::F32,
        2 => StoredDType::F64,
        3 => StoredDType::I32,
        4 => StoredDType::U8,
        5 => StoredDType::I16,
        6 => StoredDType::I8,
        9 => StoredDType::I64,
        10 => StoredDType::Bool,
        14 => StoredDType::BF16,
        17 => StoredDType::U16,
        19 => StoredDType::F16,
        22 => StoredDType::U32,
        23 => StoredDType::U64,
        _ => return None,
    })
}

/// Returns the name of a `DataType` that [`dtype`] does not support.
pub(super) fn type_name(kind: i32) -> &'static str {
    match kind {
        7 => "string",
        8 => "complex64",
        11 => "qint8",
        12 => "quint8",
        13 => "qint32",
        15 => "qint16",
        16 => "quint16",
        18 => "complex128",
        20 => "resource",
        21 => "variant",
        _ => "an unknown type",
    }
}
