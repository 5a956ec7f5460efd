//! Reading the messages of a file, with limits on what they may occupy in memory.

use super::super::proto::{
    AttributeProto, INT64, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use prost::Message;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Maximum number of fields of the messages of a file. A decoded message may be a hundred times as
/// large as in the file, so that many empty ones would exhaust the memory.
const MAX_FIELDS: usize = 1 << 18;
/// Maximum length in bytes of what is neither a tensor nor contains one.
const MAX_SHORT: usize = 64 << 10;
/// The names of the standard operators' domain.
const STANDARD: [&str; 2] = ["", "ai.onnx"];

/// The contents of an ONNX file.
#[derive(Debug)]
pub(super) struct OnnxFile {
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Version of the standard operators.
    pub opset: i64,
    /// Nodes in order of execution, without those of constants.
    pub nodes: Vec<NodeProto>,
    /// Constants by name.
    pub constants: HashMap<String, TensorProto>,
    /// Inputs that are no constants.
    pub inputs: Vec<ValueInfoProto>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    /// Directory of the files with elements; `None` for a file in memory.
    pub directory: Option<PathBuf>,
}

/// Returns whether a file starts like a model: with the version of its format, which is at least 3,
/// then its producer or the sets of operators.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    matches!(head, [0x08, 3..=32, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..])
}

/// Reads a model.
///
/// # Errors
/// Returns an error if the file is damaged, or would occupy more memory than its size suggests.
pub(super) fn parse(bytes: Bytes, path: Option<&Path>) -> Result<OnnxFile> {
    let mut reader = Reader::new(path);
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next(&mut reader.budget)? {
        reader.model_field(field)?;
    }
    reader.finish()
}

/// A field of a message: its number, and its bytes if it has a length.
struct Field {
    number: u32,
    bytes: Bytes,
}

/// The fields of a message, in order.
struct Fields {
    rest: Bytes,
}

impl Fields {
    fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// Returns the next field, and subtracts it from the budget.
    fn next(&mut self, budget: &mut usize) -> Result<Option<Field>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        *budget = budget.checked_sub(1).ok_or_else(|| {
            error!(Weights, "the file has more than {MAX_FIELDS} nodes, constants and attributes")
        })?;
        let (number, wire) = decode_key(&mut self.rest).map_err(damaged)?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, number, &mut self.rest, DecodeContext::default()).map_err(damaged)?;
            return Ok(Some(Field { number, bytes: Bytes::new() }));
        }
        let len = decode_varint(&mut self.rest).map_err(damaged)?;
        let remaining = self.rest.remaining();
        match usize::try_from(len) {
            Ok(len) if len <= remaining => {
                Ok(Some(Field { number, bytes: self.rest.split_to(len) }))
            }
            _ => Err(error!(
                Weights,
                "{len} bytes are announced {remaining} bytes before the end: the file is truncated"
            )),
        }
    }
}

fn damaged(e: prost::DecodeError) -> Error {
    error!(Weights, "the protocol buffer is damaged").source(e)
}

struct Reader {
    file: OnnxFile,
    budget: usize,
}

impl Reader {
    fn new(path: Option<&Path>) -> Self {
        let file = OnnxFile {
            producer: String::new(),
            opset: 0,
            nodes: Vec::new(),
            constants: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            metadata: BTreeMap::new(),
            directory: path.and_then(Path::parent).map(Path::to_owned),
        };
        Self { file, budget: MAX_FIELDS }
    }

    /// Reads a field of `ModelProto`.
    fn model_field(&mut self, Field { number, bytes }: Field) -> Result<()> {
        match number {
            2 | 3 => {
                check_short(&bytes)?;
                if !self.file.producer.is_empty() {
                    self.file.producer.push(' ');
                }
                self.file.producer += &String::from_utf8_lossy(&bytes);
            }
            7 => {
                let mut fields = Fields::new(bytes);
                while let Some(field) = fields.next(&mut self.budget)? {
                    self.graph_field(field)?;
                }
            }
            8 => {
                check_short(&bytes)?;
                let set = OperatorSetIdProto::decode(bytes).map_err(damaged)?;
                if STANDARD.contains(&set.domain.as_str()) {
                    self.file.opset = set.version;
                }
            }
            14 => {
                check_short(&bytes)?;
                let entry = StringStringEntryProto::decode(bytes).map_err(damaged)?;
                self.file.metadata.insert(entry.key, entry.value);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a field of `GraphProto`.
    fn graph_field(&mut self, Field { number, bytes }: Field) -> Result<()> {
        match number {
            1 => self.node(bytes)?,
            5 => {
                self.check(bytes.clone(), Kind::Tensor)?;
                let tensor = TensorProto::decode(bytes).map_err(damaged)?;
                self.file.constants.insert(tensor.name.clone(), tensor);
            }
            11 => {
                check_short(&bytes)?;
                self.file.inputs.push(ValueInfoProto::decode(bytes).map_err(damaged)?);
            }
            12 => {
                check_short(&bytes)?;
                self.file.outputs.push(ValueInfoProto::decode(bytes).map_err(damaged)?.name);
            }
            15 => return Err(error!(Weights, "sparse weights are not supported")),
            _ => {}
        }
        Ok(())
    }

    fn node(&mut self, bytes: Bytes) -> Result<()> {
        self.check(bytes.clone(), Kind::Node)?;
        let mut node = NodeProto::decode(bytes).map_err(damaged)?;
        if node.op_type != "Constant" || !STANDARD.contains(&node.domain.as_str()) {
            self.file.nodes.push(node);
            return Ok(());
        }
        let attribute = node.attribute.pop();
        match (node.output.pop(), attribute.and_then(constant)) {
            (Some(name), Some(tensor)) => {
                self.file.constants.insert(name, tensor);
                Ok(())
            }
            _ => Err(error!(Weights, "a constant is not a tensor of numbers")
                .at(format!("node `{}`", excerpt(&node.name)))),
        }
    }

    /// Checks the number and lengths of fields before a message is decoded.
    fn check(&mut self, bytes: Bytes, kind: Kind) -> Result<()> {
        let mut fields = Fields::new(bytes);
        while let Some(Field { number, bytes }) = fields.next(&mut self.budget)? {
            match (kind, number) {
                (Kind::Node, 5) => self.check(bytes, Kind::Attribute)?,
                (Kind::Attribute, 5) => self.check(bytes, Kind::Tensor)?,
                // The elements, and graphs, which are not read.
                (Kind::Tensor, 4 | 5 | 7 | 9 | 10 | 11) | (Kind::Attribute, 6 | 11) => {}
                _ => check_short(&bytes)?,
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<OnnxFile> {
        let file = &mut self.file;
        if file.opset == 0 {
            return Err(error!(Weights, "the file does not state its version of the operators"));
        }
        // Before version 4 of the format, constants were inputs, too.
        file.inputs.retain(|input| !file.constants.contains_key(&input.name));
        if file.outputs.is_empty() {
            return Err(error!(Weights, "the graph has no output"));
        }
        Ok(self.file)
    }
}

/// A message whose fields are checked.
#[derive(Clone, Copy)]
enum Kind {
    Node,
    Attribute,
    Tensor,
}

fn check_short(bytes: &Bytes) -> Result<()> {
    if bytes.len() <= MAX_SHORT {
        return Ok(());
    }
    Err(error!(
        Weights,
        "a name, shape or list has {} bytes, at most {MAX_SHORT} are supported",
        bytes.len()
    ))
}

/// Returns the tensor of a node of type `Constant`, from its attribute.
fn constant(attribute: AttributeProto) -> Option<TensorProto> {
    let vector = |n: usize| vec![n as i64];
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let ints = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let AttributeProto { name, f, i, t, floats: fs, ints: is, .. } = attribute;
    let (dims, data_type, raw) = match name.as_str() {
        "value" => return t,
        "value_float" => (Vec::new(), super::super::proto::FLOAT, floats(&[f])),
        "value_floats" => (vector(fs.len()), super::super::proto::FLOAT, floats(&fs)),
        "value_int" => (Vec::new(), INT64, ints(&[i])),
        "value_ints" => (vector(is.len()), INT64, ints(&is)),
        _ => return None,
    };
    Some(TensorProto { dims, data_type, raw_data: raw.into(), ..TensorProto::default() })
}
