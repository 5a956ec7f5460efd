//! The values of a graph while it is built: constants, and maps `[N, H, W, C]` whose axes the file
//! may have in another order.

use super::constant::Constant;
use crate::geometry::{Padding, Size};
use crate::graph::ValueId;
use crate::ops::PixelAlignment;
use crate::tensor::Shape;
use std::sync::Arc;

/// A value of the file's graph.
#[derive(Debug, Clone)]
pub(super) enum Value<'n> {
    /// An optional input that is left out.
    Missing,
    /// Known before the network runs.
    Constant(Arc<Constant>),
    /// A constant that is too large to be a size: name and dimensions.
    Weight(&'n str, &'n [usize]),
    /// Depends on the image.
    Map(Map),
}

/// An axis of a value in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Images of the batch.
    N,
    /// Channels.
    C,
    /// Rows.
    H,
    /// Columns.
    W,
    /// Of size 1.
    One,
}

/// The order of axes of ONNX's operators.
pub(super) const NCHW: [Axis; 4] = [Axis::N, Axis::C, Axis::H, Axis::W];
/// The order of axes of TensorFlow.
pub(super) const NHWC: [Axis; 4] = [Axis::N, Axis::H, Axis::W, Axis::C];

impl Axis {
    pub fn of(self, shape: Shape) -> usize {
        match self {
            Self::N => shape.n,
            Self::C => shape.c,
            Self::H => shape.h,
            Self::W => shape.w,
            Self::One => 1,
        }
    }
}

/// A value that depends on the image, with the operations that are still to be added. What follows
/// the scores of a network is never added: the pipeline has operations of its own for it.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub id: ValueId,
    /// Axes in the file. Those that are left out have size 1.
    pub axes: Vec<Axis>,
    /// Operations on `id`, and the nodes that they come from, in order.
    pub pending: Vec<(usize, Pending)>,
}

/// An operation that is added when its result is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pending {
    /// Zeros around the map, which become the padding of a convolution.
    Pad(Padding),
    Resize {
        size: Size,
        alignment: PixelAlignment,
    },
    Sigmoid,
    Softmax,
    /// The logarithm of a softmax, which only scores can have.
    LogSoftmax,
    /// The class of the largest score.
    Argmax,
}

impl Pending {
    /// Returns the shape of the result for an input of shape `x`.
    pub fn shape(self, x: Shape) -> Shape {
        match self {
            Self::Pad(Padding { top, bottom, left, right }) => x.with_hw(
                x.h.saturating_add(top).saturating_add(bottom),
                x.w.saturating_add(left).saturating_add(right),
            ),
            Self::Resize { size, .. } => x.with_size(size),
            Self::Sigmoid | Self::Softmax | Self::LogSoftmax => x,
            Self::Argmax => x.with_c(1),
        }
    }
}
