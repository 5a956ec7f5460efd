//! What an operation is in ONNX: nodes of standard operators (opset 17), without the file format.
//!
//! Activations are `[N, C, H, W]` there, and kernels `[O, C / groups, kh, kw]`. Each operation adds
//! its nodes in [`Op::onnx`](super::Op::onnx).

use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::tensor::{Shape, TensorType};

/// An operator of ONNX with its attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxNode {
    /// The operator: `Conv`.
    pub op_type: &'static str,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Names of the outputs.
    pub outputs: Vec<String>,
    /// Names and values of the attributes.
    pub attributes: Vec<(&'static str, OnnxAttribute)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum OnnxAttribute {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// Several integers.
    Ints(Vec<i64>),
    /// A name.
    Text(&'static str),
}

/// Elements of a constant.
#[derive(Debug, Clone, PartialEq)]
pub enum OnnxElements {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// A constant that nodes read.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxConstant {
    /// Name of the value.
    pub name: String,
    /// Dimensions; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements, in row-major order.
    pub elements: OnnxElements,
}

/// A value that a node reads or writes.
#[derive(Debug, Clone)]
pub struct OnnxValue {
    /// Its name in the file.
    pub name: String,
    /// Its type in the graph, whose shape is `[N, H, W, C]`.
    pub ty: TensorType,
    /// Whether it is a parameter.
    pub is_param: bool,
}

/// The nodes and constants that stand for one node of a graph.
#[derive(Debug, Clone)]
pub struct OnnxForm {
    /// Name of the node; what it adds is named below it.
    name: String,
    inputs: Vec<OnnxValue>,
    outputs: Vec<OnnxValue>,
    /// Name of an i64 value `[height, width]` with the size of the output, if that is only known
    /// when the network runs.
    size: Option<String>,
    /// The added nodes, in the order of execution.
    pub nodes: Vec<OnnxNode>,
    /// The added constants.
    pub constants: Vec<OnnxConstant>,
}

impl OnnxForm {
    /// Creates the form of a node. `size` is the name of its output's size `[height, width]`, if
    /// that is computed when the network runs.
    pub fn new(
        name: &str,
        inputs: Vec<OnnxValue>,
        outputs: Vec<OnnxValue>,
        size: Option<String>,
    ) -> Self {
        let name = name.to_owned();
        Self { name, inputs, outputs, size, nodes: Vec::new(), constants: Vec::new() }
    }

    /// Returns the name of an input.
    pub fn input(&self, index: usize) -> String {
        self.inputs[index].name.clone()
    }

    /// Returns the names of all inputs.
    pub fn input_names(&self) -> Vec<String> {
        self.inputs.iter().map(|value| value.name.clone()).collect()
    }

    /// Returns the shape of an input in the graph, `[N, H, W, C]`.
    pub fn shape(&self, index: usize) -> Shape {
        self.inputs[index].ty.shape
    }

    /// Returns whether an input is a parameter.
    pub fn is_param(&self, index: usize) -> bool {
        self.inputs[index].is_param
    }

    /// Returns the shape of an output in the graph, `[N, H, W, C]`.
    pub fn output_shape(&self, index: usize) -> Shape {
        self.outputs[index].ty.shape
    }

    /// Adds a node that writes the operation's first output.
    pub fn output(
        &mut self,
        op_type: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, OnnxAttribute)>,
    ) {
        let outputs = vec![self.outputs[0].name.clone()];
        self.nodes.push(OnnxNode { op_type, inputs, outputs, attributes });
    }

    /// Adds a node inside the operation, and returns the name of its output.
    pub fn node(
        &mut self,
        op_type: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, OnnxAttribute)>,
    ) -> String {
        let name = format!("{}/{}{}", self.name, op_type, self.nodes.len());
        self.nodes.push(OnnxNode { op_type, inputs, outputs: vec![name.clone()], attributes });
        name
    }

    /// Adds a constant, and returns its name.
    pub fn constant(&mut self, what: &str, dims: &[usize], elements: OnnxElements) -> String {
        let name = format!("{}/{what}", self.name);
        self.constants.push(OnnxConstant { name: name.clone(), dims: dims.to_vec(), elements });
        name
    }

    /// Adds a number, and returns its name.
    pub fn number(&mut self, what: &str, value: f32) -> String {
        self.constant(what, &[], OnnxElements::F32(vec![value]))
    }

    /// Adds a list of integers, and returns its name.
    pub fn integers(&mut self, what: &str, values: &[i64]) -> String {
        self.constant(what, &[values.len()], OnnxElements::I64(values.to_vec()))
    }

    /// Adds a bilinear resizing of an input to the size of the first output, and returns the name
    /// of the result.
    pub fn resized(&mut self, index: usize, mode: &'static str) -> String {
        let sizes = match self.size.clone() {
            None => {
                let (n, c) = (self.shape(index).n, self.shape(index).c);
                let Size { width, height } = self.output_shape(0).size();
                self.integers("sizes", &[n, c, height, width].map(|n| n as i64))
            }
            Some(size) => {
                let start = self.integers("start", &[0]);
                let end = self.integers("end", &[2]);
                let shape = self.node("Shape", vec![self.input(index)], Vec::new());
                let images = self.node("Slice", vec![shape, start, end], Vec::new());
                self.node("Concat", vec![images, size], vec![("axis", OnnxAttribute::Int(0))])
            }
        };
        let attributes = vec![
            ("coordinate_transformation_mode", OnnxAttribute::Text(mode)),
            ("mode", OnnxAttribute::Text("linear")),
        ];
        let (none, input) = (String::new(), self.input(index));
        self.node("Resize", vec![input, none.clone(), none, sizes], attributes)
    }

    /// Returns the error of an attribute that ONNX has no form for.
    ///
    /// # Errors
    /// Always.
    pub fn refuse<T>(&self, what: &str) -> Result<T> {
        Err(error!(Graph, "{what} has no form in ONNX").at(format!("node `{}`", self.name)))
    }
}

/// Attributes of a window: `kernel_shape`, `strides`, `dilations`, `pads`.
pub fn window_attributes(
    kernel: Size,
    stride: Spacing,
    dilation: Option<Spacing>,
    padding: Padding,
) -> Vec<(&'static str, OnnxAttribute)> {
    let ints = |values: &[usize]| OnnxAttribute::Ints(values.iter().map(|&n| n as i64).collect());
    let Padding { top, left, bottom, right } = padding;
    let mut attributes = vec![
        ("kernel_shape", ints(&[kernel.height, kernel.width])),
        ("strides", ints(&[stride.y, stride.x])),
        ("pads", ints(&[top, left, bottom, right])),
    ];
    attributes.extend(dilation.map(|d| ("dilations", ints(&[d.y, d.x]))));
    attributes
}
