//! TFLite: operators over tensors, in a FlatBuffer. Elements are float32, float16, or 8-bit integers
//! with scales.
//!
//! The numbers of fields, operators and types are those of `schema.fbs` in TensorFlow.

use super::super::dtype::StoredDType;
use super::super::format_bytes;
use super::super::raw::Quantization;
use super::super::source::Source;
use super::flatbuffer::{Buffer, Table};
use super::graph::{
    Arithmetic, Axis, Border, Constant, Data, Graph, MAX_NODES, MAX_SMALL, Node, Op, SliceMasks,
    WindowRule,
};
use super::operations::{numbers, positive};
use crate::error::{Error, Result, error};
use crate::ops::Activation;
use crate::text::excerpt;
use std::sync::Arc;

/// Maximum length of a file in bytes. The largest supported networks have 0.3 GiB.
const MAX_FILE: u64 = 1 << 30;
/// Maximum number of axes, inputs, or outputs.
const MAX_LIST: usize = 32;

/// Returns whether a file starts like TFLite.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.get(4..8) == Some(b"TFL3")
}

/// Reads the graph of a file.
pub(super) fn read(source: &Source) -> Result<Graph> {
    if source.len() > MAX_FILE {
        let (len, max) = (format_bytes(source.len()), format_bytes(MAX_FILE));
        return Err(error!(Weights, "the file has {len}, at most {max} are supported"));
    }
    crate::memory::check(source.len(), "reading the graph")?;
    let bytes = source.bytes(0, source.len() as usize)?;
    let model = Buffer(&bytes).root()?;
    let subgraphs = model.tables(2, "graphs", MAX_LIST)?;
    let subgraph = subgraphs.first().ok_or_else(|| error!(Weights, "the file has no graph"))?;
    let mut reader = Reader {
        file_len: source.len(),
        buffers: model.tables(4, "buffers", MAX_NODES)?,
        tensors: subgraph.tables(0, "tensors", MAX_NODES)?,
        graph: Graph::default(),
        of_tensor: Vec::new(),
    };
    reader.of_tensor = vec![None; reader.tensors.len()];
    let codes = model.tables(1, "operator codes", MAX_NODES)?;
    let codes = codes.iter().map(code).collect::<Result<Vec<_>>>()?;
    for input in subgraph.ints(1, MAX_LIST)? {
        reader.input(input)?;
    }
    for (i, operator) in subgraph.tables(3, "operators", MAX_NODES)?.iter().enumerate() {
        let at = |e: Error| e.at(format!("operator {i}"));
        let code = codes
            .get(operator.int(0, 0).map_err(at)? as usize)
            .ok_or_else(|| at(error!(Weights, "its code is missing")))?;
        reader.operator(operator, code).map_err(at)?;
    }
    if reader.graph.nodes.len() > 4 * MAX_NODES {
        return Err(error!(Weights, "the graph has too many nodes"));
    }
    Ok(reader.graph)
}

/// An operator: its number, and its name if it is a custom one.
struct Code {
    builtin: i32,
    custom: String,
}

fn code(table: &Table) -> Result<Code> {
    // Numbers below 127 are in the first field, which old files have alone.
    let builtin = table.int(3, 0)?.max(i32::from(table.byte(0)?));
    Ok(Code { builtin, custom: excerpt(table.text(1)?) })
}

struct Reader<'a> {
    file_len: u64,
    buffers: Vec<Table<'a>>,
    tensors: Vec<Table<'a>>,
    graph: Graph,
    /// Node that computes each tensor.
    of_tensor: Vec<Option<usize>>,
}

impl Reader<'_> {
    fn push(&mut self, name: &str, op: Op, inputs: Vec<usize>) -> usize {
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs });
        self.graph.nodes.len() - 1
    }

    fn index(&self, tensor: i32) -> Result<usize> {
        let index = usize::try_from(tensor).ok().filter(|&i| i < self.tensors.len());
        index.ok_or_else(|| error!(Weights, "tensor {tensor} does not exist"))
    }

    fn name(&self, tensor: usize) -> Result<String> {
        let name = self.tensors[tensor].text(3)?;
        Ok(crate::text::truncate(name, 1024).into_owned())
    }

    fn input(&mut self, tensor: i32) -> Result<()> {
        let index = self.index(tensor)?;
        let table = self.tensors[index];
        let mut dims = table.ints(7, MAX_LIST)?;
        if dims.is_empty() {
            dims = table.ints(0, MAX_LIST)?;
        }
        let dims = dims.into_iter().map(|d| usize::try_from(d).ok().filter(|&d| d > 0)).collect();
        // Bytes are pixels. Signed ones are what the caller makes of them.
        let is_integer = table.byte(1)? == 3;
        let name = self.name(index)?;
        let mut node = self.push(&name, Op::Placeholder { dims, is_integer }, Vec::new());
        if let (true, Some(q)) = (is_integer, quantization(&table, StoredDType::U8)?)
            && let (&[scale], &[zero_point]) = (&q.scales[..], &q.zero_points[..])
        {
            for (op, value) in
                [(Arithmetic::Sub, zero_point as f64), (Arithmetic::Mul, f64::from(scale))]
            {
                let constant = self.number(&name, value);
                node = self.push(&name, Op::Arithmetic(op), vec![node, constant]);
            }
        }
        self.of_tensor[index] = Some(node);
        Ok(())
    }

    /// Adds a number that the file does not store as a tensor.
    fn number(&mut self, name: &str, value: f64) -> usize {
        self.graph.constants.push(Constant {
            dtype: StoredDType::F32,
            dims: Vec::new(),
            data: Data::Values,
            small: Some(vec![value]),
            quantization: None,
            is_tflite: true,
        });
        let id = self.graph.constants.len() - 1;
        self.push(name, Op::Constant(id), Vec::new())
    }

    /// Returns the node of a tensor that an operator reads.
    fn node(&mut self, tensor: i32) -> Result<usize> {
        let index = self.index(tensor)?;
        if let Some(node) = self.of_tensor[index] {
            return Ok(node);
        }
        let name = self.name(index)?;
        let at = |e: Error| e.at(format!("tensor `{}`", excerpt(&name)));
        let op = match self.constant(index).map_err(at)? {
            Ok(constant) => {
                self.graph.constants.push(constant);
                Op::Constant(self.graph.constants.len() - 1)
            }
            Err(reason) => Op::Other(reason),
        };
        let node = self.push(&name, op, Vec::new());
        self.of_tensor[index] = Some(node);
        Ok(node)
    }

    /// Reads a constant tensor. The inner error is the reason why it cannot be one.
    fn constant(&self, index: usize) -> Result<std::result::Result<Constant, String>> {
        let table = self.tensors[index];
        let dtype = match table.byte(1)? {
            0 => StoredDType::F32,
            1 => StoredDType::F16,
            2 => StoredDType::I32,
            3 => StoredDType::U8,
            4 => StoredDType::I64,
            6 => StoredDType::Bool,
            7 => StoredDType::I16,
            9 => StoredDType::I8,
            10 => StoredDType::F64,
            18 => StoredDType::BF16,
            other => return Ok(Err(format!("a tensor of the element type {other}"))),
        };
        if table.table(6)?.is_some() {
            return Ok(Err("a sparse tensor".to_owned()));
        }
        let dims = table.ints(0, MAX_LIST)?;
        let dims =
            dims.into_iter().map(usize::try_from).collect::<std::result::Result<Vec<_>, _>>();
        let dims = dims.map_err(|e| error!(Weights, "a negative dimension").source(e))?;
        let buffer = self.buffers.get(table.int(2, 0)? as usize);
        let buffer = buffer.ok_or_else(|| error!(Weights, "its buffer is missing"))?;
        let data = buffer.vector(0, 1)?;
        // Files of more than 2 GiB have buffers outside of the FlatBuffer.
        let (start, len) = match (data.len as u64, buffer.long(1)?, buffer.long(2)?) {
            (0, offset, len) if offset > 1 => (offset, len),
            (len, ..) => (data.start as u64, len),
        };
        let end = start.checked_add(len).filter(|&end| end <= self.file_len);
        if len == 0 || end.is_none() {
            return Ok(Err("a tensor that nothing computes".to_owned()));
        }
        let bytes = dims.iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d as u64));
        if bytes != Some(len) {
            let len = format_bytes(len);
            return Err(error!(Weights, "{dims:?} of {dtype} does not have {len}"));
        }
        let is_small = len <= (MAX_SMALL * dtype.size()) as u64 && data.len as u64 == len;
        let small = if is_small { numbers(dtype, data.bytes(1)) } else { None };
        let quantization = quantization(&table, dtype)?;
        let data = Data::Range { start, len, repeated: false };
        Ok(Ok(Constant { dtype, dims, data, small, quantization, is_tflite: true }))
    }

    /// Adds the nodes of an operator: what it does, then its bias and activation.
    fn operator(&mut self, operator: &Table, code: &Code) -> Result<()> {
        let tensors = operator.ints(1, 1 << 10)?;
        let outputs = operator.ints(2, MAX_LIST)?;
        let options = operator.table(4)?;
        // Optional inputs that are missing have the number -1.
        let mut inputs = Vec::with_capacity(tensors.len());
        for tensor in tensors.into_iter().filter(|&tensor| tensor != -1) {
            inputs.push(self.node(tensor)?);
        }
        let (op, activation) = operation(code, options.as_ref())?;
        let Some(&first) = outputs.first() else { return Ok(()) };
        let name = self.name(self.index(first)?)?;
        let bias = match op {
            Op::Conv { .. } if inputs.len() > 2 => inputs.pop(),
            _ => None,
        };
        let mut node = self.push(&name, op, inputs);
        if let Some(bias) = bias {
            node = self.push(&name, Op::Bias, vec![node, bias]);
        }
        if let Some(activation) = activation {
            node = self.push(&name, activation, vec![node]);
        }
        for (i, &output) in outputs.iter().enumerate() {
            let index = self.index(output)?;
            if self.of_tensor[index].is_some() {
                let name = excerpt(&self.name(index)?);
                return Err(error!(Weights, "tensor `{name}` is computed twice, or too late"));
            }
            let of_output = match i {
                0 => node,
                _ => self.push(&name, Op::Other(format!("output {i} of an operator")), vec![node]),
            };
            self.of_tensor[index] = Some(of_output);
        }
        Ok(())
    }
}

fn quantization(table: &Table, dtype: StoredDType) -> Result<Option<Arc<Quantization>>> {
    let Some(table) = table.table(4)?.filter(|_| !dtype.is_float()) else { return Ok(None) };
    let scales = table.floats(2, MAX_NODES)?;
    if scales.is_empty() || !matches!(dtype, StoredDType::I8 | StoredDType::U8 | StoredDType::I32) {
        return Ok(None);
    }
    if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
        return Err(error!(Weights, "a scale is not positive"));
    }
    let mut zero_points = table.longs(3, MAX_NODES)?;
    if zero_points.is_empty() {
        zero_points = vec![0; scales.len()];
    }
    if zero_points.len() != scales.len() {
        let (zeros, scales) = (zero_points.len(), scales.len());
        return Err(error!(Weights, "{scales} scales but {zeros} zero points"));
    }
    let axis = usize::try_from(table.int(6, 0)?).unwrap_or(usize::MAX);
    Ok(Some(Arc::new(Quantization { scales, zero_points, axis })))
}

/// The options of an operator. Missing ones have their defaults.
struct Options<'a>(Option<&'a Table<'a>>);

impl Options<'_> {
    fn int(&self, id: usize, default: i32) -> Result<i32> {
        self.0.map_or(Ok(default), |table| table.int(id, default))
    }

    fn byte(&self, id: usize) -> Result<u8> {
        self.0.map_or(Ok(0), |table| table.byte(id))
    }

    fn size(&self, what: &str, id: usize, default: i32) -> Result<usize> {
        positive(what, usize::try_from(self.int(id, default)?).unwrap_or(0))
    }

    /// Returns the activation in a field: `None` for the identity.
    fn activation(&self, id: usize) -> Result<Option<Op>> {
        Ok(match self.byte(id)? {
            0 => None,
            1 => Some(Op::Activation(Activation::Relu)),
            3 => Some(Op::Activation(Activation::Relu6)),
            other => Some(Op::Other(format!("the activation {other}"))),
        })
    }

    /// Returns strides, dilations and padding. `dilation` is the field of the dilation of columns.
    fn rule(&self, dilation: Option<usize>) -> Result<WindowRule> {
        let border = if self.byte(0)? == 0 { Border::Same } else { Border::Valid };
        let stride = [self.size("the stride", 2, 0)?, self.size("the stride", 1, 0)?];
        let dilation = match dilation {
            Some(id) => [self.size("the dilation", id + 1, 1)?, self.size("the dilation", id, 1)?],
            None => [1, 1],
        };
        Ok(WindowRule { stride, dilation, border })
    }
}

/// Returns the operation of an operator, and its activation.
fn operation(code: &Code, options: Option<&Table>) -> Result<(Op, Option<Op>)> {
    let options = Options(options);
    let arithmetic = |op| Ok((Op::Arithmetic(op), options.activation(0)?));
    let plain = |op| Ok((op, None));
    match code.builtin {
        0 => arithmetic(Arithmetic::Add),
        18 => arithmetic(Arithmetic::Mul),
        41 => arithmetic(Arithmetic::Sub),
        42 => arithmetic(Arithmetic::Div),
        1 | 17 => {
            let kernel = [options.size("the window", 4, 0)?, options.size("the window", 3, 0)?];
            let op = Op::Pool { max: code.builtin == 17, kernel, rule: options.rule(None)? };
            Ok((op, options.activation(5)?))
        }
        2 => {
            let axis = Axis::Value(options.int(0, 0)?.into());
            Ok((Op::Concat(axis), options.activation(1)?))
        }
        3 => {
            let op = Op::Conv { depthwise: false, rule: options.rule(Some(4))? };
            Ok((op, options.activation(3)?))
        }
        4 => {
            let op = Op::Conv { depthwise: true, rule: options.rule(Some(5))? };
            Ok((op, options.activation(4)?))
        }
        6 | 114 => plain(Op::Identity),
        19 => plain(Op::Activation(Activation::Relu)),
        21 => plain(Op::Activation(Activation::Relu6)),
        22 | 43 | 70 => plain(Op::Reshape),
        23 => {
            let (align_corners, half_pixel_centers) =
                (options.byte(2)? != 0, options.byte(3)? != 0);
            plain(Op::Resize { align_corners, half_pixel_centers })
        }
        34 => plain(Op::Pad),
        37 => plain(Op::BatchToSpace),
        38 => plain(Op::SpaceToBatch),
        40 => plain(Op::Mean),
        45 => {
            let [begin, end, shrink] = [0, 1, 4].map(|id| options.int(id, 0));
            let (begin, end, shrink) = (begin?.into(), end?.into(), shrink?.into());
            plain(Op::StridedSlice(SliceMasks { begin, end, shrink }))
        }
        53 => plain(Op::Identity),
        55 => plain(Op::Arithmetic(Arithmetic::Maximum)),
        57 => plain(Op::Arithmetic(Arithmetic::Minimum)),
        77 => plain(Op::Shape),
        83 => plain(Op::Pack),
        32 => plain(Op::Other(format!("the custom operator {}", code.custom))),
        9 => plain(Op::Other("FULLY_CONNECTED".to_owned())),
        67 => plain(Op::Other("TRANSPOSE_CONV".to_owned())),
        other => plain(Op::Other(format!("the operator {other}"))),
    }
}
