//! The layers of a network at one image size: convolutions with their padding in pixels, batch
//! norms, activations, pooling. What TensorFlow spreads over several nodes is one layer here: atrous
//! convolutions between `SpaceToBatchND` and `BatchToSpaceND`, explicit padding, sizes computed from
//! shapes.

use super::graph::{Border, Constant, WindowRule};
use super::operations::positive;
use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::ops::Activation;
use crate::tensor::Shape;

/// Maximum extent of a value in pixels or channels.
const MAX_EXTENT: usize = 1 << 20;

/// A layer.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Node of the graph, for messages.
    pub node: usize,
    pub kind: Kind,
    /// Positions of the layers that it reads.
    pub inputs: Vec<usize>,
    pub shape: Shape,
}

/// What a layer does. Numbers are positions of constants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// The normalized image.
    Image,
    Conv(Conv),
    Bias(usize),
    /// Gamma, beta, mean, variance.
    Norm {
        constants: [usize; 4],
        eps: f32,
    },
    Activation(Activation),
    Add,
    Concat,
    /// `None` if the setting is irrelevant, because the source is a single pixel.
    Resize {
        align_corners: Option<bool>,
    },
    Pool {
        max: bool,
        window: Window,
    },
    GlobalAvgPool,
}

/// A convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conv {
    /// Position of the kernel's constant.
    pub kernel: usize,
    pub depthwise: bool,
    pub window: Window,
}

/// The square window of a convolution or pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub kernel: Size,
    pub stride: usize,
    pub dilation: usize,
    /// Padding at the image size of the layers.
    pub padding: Padding,
    /// Whether the padding depends on the size, by the rule of `SAME`.
    pub is_same: bool,
}

impl Window {
    /// Creates a window over values of `size`. `explicit` is padding that precedes it.
    pub fn new(
        kernel: [usize; 2],
        rule: WindowRule,
        size: Size,
        explicit: Option<Padding>,
    ) -> Result<Self> {
        let [kh, kw] = kernel;
        positive("the kernel size", kh)?;
        positive("the kernel size", kw)?;
        let (stride, dilation) =
            (equal("strides", rule.stride)?, equal("dilations", rule.dilation)?);
        let is_same = rule.border == Border::Same;
        let padding = match (is_same, explicit) {
            (false, explicit) => explicit.unwrap_or_default(),
            (true, Some(_)) => {
                return Err(error!(Weights, "explicit padding in front of padding `SAME`"));
            }
            (true, None) if kh == kw => Padding::tf_same(size, kh, stride, dilation),
            (true, None) => return Err(error!(Weights, "a {kh}x{kw} kernel with padding `SAME`")),
        };
        Ok(Self { kernel: Size::new(kw, kh), stride, dilation, padding, is_same })
    }

    /// Returns the size of the output for an input of `size`.
    pub fn output(&self, size: Size) -> Result<Size> {
        let Self { kernel, stride, dilation, padding, .. } = *self;
        let extent = |size: usize, kernel: usize, before: usize, after: usize| {
            let padded = size.checked_add(before)?.checked_add(after)?;
            let span = dilation.checked_mul(kernel - 1)?.checked_add(1)?;
            Some(padded.checked_sub(span)? / stride + 1)
        };
        let height = extent(size.height, kernel.height, padding.top, padding.bottom);
        let width = extent(size.width, kernel.width, padding.left, padding.right);
        width.zip(height).map(|(w, h)| Size::new(w, h)).ok_or_else(|| {
            error!(Weights, "a {kernel} window with dilation {dilation} does not fit {size}")
        })
    }

    /// Returns the stride in the type of operations.
    pub fn spacing(&self) -> Spacing {
        Spacing::square(self.stride)
    }
}

fn equal(what: &str, [y, x]: [usize; 2]) -> Result<usize> {
    if y != x {
        return Err(error!(Weights, "different {what} along rows and columns: {y} and {x}"));
    }
    positive(what, y)
}

/// Dimensions of a convolution's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KernelDims {
    pub height: usize,
    pub width: usize,
    pub in_channels: usize,
    /// For a depthwise kernel the same as the input's.
    pub out_channels: usize,
}

impl KernelDims {
    /// Returns the dimensions of a kernel constant for an input of `channels`.
    pub fn of(constant: &Constant, depthwise: bool, channels: usize) -> Result<Self> {
        let [a, b, c, d] = constant.dims[..] else {
            return Err(error!(Weights, "expected a kernel of four axes, got {:?}", constant.dims));
        };
        let (height, width, in_channels, out_channels) = match (constant.is_tflite, depthwise) {
            (false, false) => (a, b, c, d),
            (false, true) if d == 1 => (a, b, c, c),
            (true, false) => (b, c, d, a),
            (true, true) if a == 1 => (b, c, d, d),
            _ => {
                return Err(error!(
                    Weights,
                    "a depthwise kernel {:?} with a multiplier", constant.dims
                ));
            }
        };
        if in_channels != channels {
            return Err(error!(
                Weights,
                "the kernel {:?} does not fit an input of {channels} channels", constant.dims
            ));
        }
        Ok(Self { height, width, in_channels, out_channels })
    }
}

/// A shape of a batch of one, within limits.
pub(super) fn image_shape(size: Size, channels: usize) -> Result<Shape> {
    let within = |n: usize| (1..=MAX_EXTENT).contains(&n);
    if within(size.width) && within(size.height) && within(channels) {
        return Ok(Shape::images(1, size, channels));
    }
    Err(error!(Weights, "a value of {size} pixels and {channels} channels is not supported"))
}
