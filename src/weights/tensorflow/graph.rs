//! The graph of a file, in the terms that GraphDef and TFLite share: nodes in any order, and
//! constants whose elements are still on disk.

use super::super::dtype::StoredDType;
use super::super::raw::Quantization;
use crate::error::{Result, error};
use crate::ops::Activation;
use std::sync::Arc;

/// Maximum number of nodes, operators, tensors, or fields of a list. The largest networks have a few
/// thousand.
pub(super) const MAX_NODES: usize = 1 << 16;
/// Maximum number of elements of a constant that is read for its values: sizes, axes, paddings.
pub(super) const MAX_SMALL: usize = 64;

/// A graph: nodes, whose inputs are positions in the same list, and constants.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub constants: Vec<Constant>,
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    pub op: Op,
    /// Positions of the nodes that it reads.
    pub inputs: Vec<usize>,
}

/// A constant: a weight, or a small list of numbers.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    pub dtype: StoredDType,
    pub dims: Vec<usize>,
    pub data: Data,
    /// The values, if there are at most [`MAX_SMALL`].
    pub small: Option<Vec<f64>>,
    pub quantization: Option<Arc<Quantization>>,
    /// Whether kernels have TFLite's axes: `[c_out, kh, kw, c_in]`, depthwise `[1, kh, kw, c]`.
    pub is_tflite: bool,
}

/// The elements of a constant.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// A range of bytes of the file.
    Range {
        /// First byte.
        start: u64,
        /// Number of bytes.
        len: u64,
        /// Whether the range has one element, which is repeated.
        repeated: bool,
    },
    /// Only the small values are known.
    Values,
}

/// Padding of a convolution or pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Border {
    Same,
    Valid,
}

/// Distances and padding of a convolution or pooling; pairs are rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowRule {
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub border: Border,
}

/// Position of the axis among the inputs of a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// The axis is an attribute.
    Value(i64),
    /// The axis is the first input.
    First,
    /// The axis is the last input.
    Last,
}

/// Arithmetic of two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    FloorMod,
    Maximum,
    Minimum,
}

impl Arithmetic {
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::FloorDiv => (a / b).floor(),
            Self::FloorMod => a - b * (a / b).floor(),
            Self::Maximum => a.max(b),
            Self::Minimum => a.min(b),
        }
    }
}

/// The masks of a strided slice. Other masks than these are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SliceMasks {
    pub begin: i64,
    pub end: i64,
    pub shrink: i64,
}

/// An operation. Inputs are listed where they are not obvious.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// An input of the graph.
    Placeholder {
        /// Dimensions, `None` for those that are not fixed. Empty if the rank is unknown.
        dims: Vec<Option<usize>>,
        /// Whether the elements are integers: an image before its normalization.
        is_integer: bool,
    },
    /// Position in [`Graph::constants`].
    Constant(usize),
    /// Copies its first input, possibly with another element type.
    Identity,
    /// Converts numbers to integers.
    Truncate,
    /// `[x, kernel]`.
    Conv {
        depthwise: bool,
        rule: WindowRule,
    },
    /// `[x, bias]`.
    Bias,
    /// `[a, b]`.
    Arithmetic(Arithmetic),
    /// `[x, gamma, beta, mean, variance]`.
    BatchNorm {
        eps: f32,
    },
    Activation(Activation),
    Concat(Axis),
    /// `[x, size]`, bilinear.
    Resize {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    Pool {
        max: bool,
        kernel: [usize; 2],
        rule: WindowRule,
    },
    /// `[x, axes]`.
    Mean,
    /// `[x, paddings]`, with zeros.
    Pad,
    /// `[x, block shape, paddings]`.
    SpaceToBatch,
    /// `[x, block shape, crops]`.
    BatchToSpace,
    Shape,
    /// `[x, begin, end, strides]`.
    StridedSlice(SliceMasks),
    /// Stacks scalars.
    Pack,
    /// Changes the axes of its first input: reshape, squeeze, expand dims.
    Reshape,
    /// Not supported inside a network; with the name for messages.
    Other(String),
}

impl Op {
    pub fn is_conv(&self) -> bool {
        matches!(self, Op::Conv { .. })
    }
}

/// Returns the name of a node for messages.
pub(super) fn address(node: &Node) -> String {
    format!("node `{}`", crate::text::excerpt(&node.name))
}

/// Checks a count in a file against [`MAX_NODES`].
pub(super) fn check_count(what: &str, count: usize) -> Result<()> {
    if count <= MAX_NODES {
        return Ok(());
    }
    Err(error!(Weights, "{count} {what}, at most {MAX_NODES} are supported"))
}
