//! Frozen graphs: a `GraphDef` protocol buffer whose variables have become constants.
//!
//! Nodes are read one at a time, so that the elements of constants stay on disk.

use super::super::format_bytes;
use super::super::source::Source;
use super::graph::{Constant, Data, Graph, MAX_SMALL, Node, Op, address, check_count};
use super::operations;
use super::proto::{self, NodeDef, TensorProto, damaged};
use crate::error::{Error, Result, error};
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::{WireType, decode_key, decode_varint, encoded_len_varint};
use std::collections::HashMap;

/// Maximum length of a node in bytes. The largest kernels of the supported networks have 38 MiB.
const MAX_NODE: u64 = 64 << 20;
/// Length from which a node's fields are counted before it is decoded.
const LONG_NODE: usize = 64 << 10;
/// Maximum number of fields of a long node, which is a constant.
const MAX_FIELDS: usize = 64;
/// Field of `GraphDef` with a node.
const NODE: u32 = 1;

/// Returns whether a file starts like a graph: with a node, which starts with its name or its
/// operation.
pub(super) fn looks_like(head: &[u8]) -> bool {
    let Some((0x0a, mut rest)) = head.split_first().map(|(&first, rest)| (first, rest)) else {
        return false;
    };
    let Ok(node_len) = decode_varint(&mut rest) else { return false };
    let [0x0a | 0x12, rest @ ..] = rest else { return false };
    let mut rest = rest;
    let Ok(len) = decode_varint(&mut rest) else { return false };
    let first = rest.first().is_some_and(|&c| c.is_ascii_alphanumeric() || b"._".contains(&c));
    len > 0 && len < node_len && first
}

/// A field of `GraphDef`: its number and the range of its bytes.
struct Field {
    number: u32,
    start: u64,
    len: u64,
}

/// Reads the fields of a `GraphDef` in order.
struct Fields<'a> {
    source: &'a Source,
    at: u64,
}

impl Fields<'_> {
    fn next(&mut self) -> Result<Option<Field>> {
        if self.at >= self.source.len() {
            return Ok(None);
        }
        let head = self.source.bytes(self.at, (self.source.len() - self.at).min(16) as usize)?;
        let mut rest = &head[..];
        let (number, wire) = decode_key(&mut rest).map_err(damaged)?;
        let len = match wire {
            WireType::LengthDelimited => decode_varint(&mut rest).map_err(damaged)?,
            WireType::Varint => {
                encoded_len_varint(decode_varint(&mut &rest[..]).map_err(damaged)?) as u64
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            _ => return Err(error!(Weights, "the protocol buffer is damaged at byte {}", self.at)),
        };
        let start = self.at + (head.len() - rest.len()) as u64;
        let remaining = self.source.len().saturating_sub(start);
        if len > remaining {
            return Err(error!(
                Weights,
                "a node of {} starts {} before the end of the file: the file is truncated",
                format_bytes(len),
                format_bytes(remaining)
            ));
        }
        self.at = start + len;
        Ok(Some(Field { number, start, len }))
    }
}

/// Reads a graph.
pub(super) fn read(source: &Source) -> Result<Graph> {
    let mut fields = Fields { source, at: 0 };
    let mut reader = Reader::default();
    let mut count = 0;
    while let Some(field) = fields.next()? {
        count += 1;
        check_count("fields", count)?;
        if field.number != NODE {
            continue;
        }
        if field.len > MAX_NODE {
            let (len, max) = (format_bytes(field.len), format_bytes(MAX_NODE));
            return Err(error!(Weights, "a node has {len}, at most {max} are supported"));
        }
        let bytes = Bytes::from(source.bytes(field.start, field.len as usize)?);
        reader.add(bytes, field.start)?;
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    graph: Graph,
    by_name: HashMap<String, usize>,
    /// Names of the inputs of each node.
    inputs: Vec<Vec<String>>,
}

impl Reader {
    /// Adds the node in `bytes`, which start at byte `start` of the file.
    fn add(&mut self, bytes: Bytes, start: u64) -> Result<()> {
        check_fields(&bytes)?;
        let mut def = NodeDef::decode(bytes.clone()).map_err(damaged)?;
        let index = self.graph.nodes.len();
        let name = std::mem::take(&mut def.name);
        let at = |e: Error| e.at(format!("node `{}`", crate::text::excerpt(&name)));
        let op = if def.op == "Const" {
            let tensor = def.attr.get("value").and_then(|value| value.tensor.clone());
            match constant(&tensor.unwrap_or_default(), &bytes, start).map_err(at)? {
                Ok(constant) => {
                    self.graph.constants.push(constant);
                    Op::Constant(self.graph.constants.len() - 1)
                }
                Err(kind) => Op::Other(format!("a constant of type {kind}")),
            }
        } else {
            operations::op(&def).map_err(at)?
        };
        if self.by_name.insert(name.clone(), index).is_some() {
            return Err(error!(Weights, "two nodes are named `{}`", crate::text::excerpt(&name)));
        }
        def.input.retain(|input| !input.starts_with('^'));
        self.graph.nodes.push(Node { name, op, inputs: Vec::new() });
        self.inputs.push(def.input);
        Ok(())
    }

    /// Resolves the names of inputs.
    fn finish(mut self) -> Result<Graph> {
        if self.graph.nodes.is_empty() {
            return Err(error!(Weights, "the graph has no nodes"));
        }
        let total: usize = self.inputs.iter().map(Vec::len).sum();
        check_count("inputs of nodes", total / 4)?;
        for (index, names) in self.inputs.into_iter().enumerate() {
            for text in names {
                let (name, output) = match text.rsplit_once(':') {
                    Some((name, output)) => (name, output.parse().unwrap_or(u32::MAX)),
                    None => (text.as_str(), 0),
                };
                let Some(&input) = self.by_name.get(name) else {
                    let name = crate::text::excerpt(name);
                    return Err(error!(Weights, "it reads `{name}`, which the graph lacks")
                        .at(address(&self.graph.nodes[index])));
                };
                // Only the first outputs of operations are supported; others get a node of their
                // own.
                let input = if output == 0 {
                    input
                } else {
                    let name = format!("{name}:{output}");
                    let op = Op::Other(format!("output {output} of a node"));
                    self.graph.nodes.push(Node { name, op, inputs: vec![input] });
                    self.graph.nodes.len() - 1
                };
                self.graph.nodes[index].inputs.push(input);
            }
        }
        Ok(self.graph)
    }
}

/// Refuses a long node with many fields, which would occupy more memory than in the file.
fn check_fields(bytes: &Bytes) -> Result<()> {
    if bytes.len() <= LONG_NODE {
        return Ok(());
    }
    let mut rest = bytes.clone();
    for _ in 0..MAX_FIELDS {
        if rest.is_empty() {
            return Ok(());
        }
        let (number, wire) = decode_key(&mut rest).map_err(damaged)?;
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(wire, number, &mut rest, context).map_err(damaged)?;
    }
    let len = format_bytes(bytes.len() as u64);
    Err(error!(Weights, "a node of {len} has more than {MAX_FIELDS} fields"))
}

/// Reads a constant. The inner error is the name of an unsupported element type.
fn constant(
    tensor: &Bytes,
    node: &Bytes,
    start: u64,
) -> Result<std::result::Result<Constant, &'static str>> {
    let proto = TensorProto::decode(tensor.clone()).map_err(damaged)?;
    let Some(dtype) = proto::dtype(proto.dtype) else {
        return Ok(Err(proto::type_name(proto.dtype)));
    };
    let dims = proto::fixed_shape(&proto.tensor_shape)?;
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count =
        count.ok_or_else(|| error!(Weights, "dimensions {dims:?} exceed the address space"))?;
    let raw =
        if proto.tensor_content.is_empty() { &proto.float_val } else { &proto.tensor_content };
    let offset = (raw.as_ptr() as usize).wrapping_sub(node.as_ptr() as usize);
    let data = if raw.is_empty() || offset > node.len() {
        Data::Values
    } else {
        let len = raw.len() as u64;
        Data::Range { start: start + offset as u64, len, repeated: raw.len() == dtype.size() }
    };
    let integers = [&proto.int_val, &proto.int64_val].into_iter().find(|list| !list.is_empty());
    let small = match integers {
        Some(list) if count <= MAX_SMALL => {
            Some(proto::packed_integers(list)?.into_iter().map(|n| n as f64).collect())
        }
        None if count <= MAX_SMALL && raw.len() <= MAX_SMALL * 8 => operations::numbers(dtype, raw),
        _ => None,
    };
    // TensorFlow stores the last value only once if it is repeated until the end. A list without
    // values is all zeros.
    let small = small.map(|mut values: Vec<f64>| {
        let last = values.last().copied().unwrap_or(0.0);
        values.resize(count, last);
        values
    });
    let quantization = None;
    Ok(Ok(Constant { dtype, dims, data, small, quantization, is_tflite: false }))
}
