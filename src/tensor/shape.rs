//! Shapes of tensors and of kernels.

use crate::geometry::Size;
use std::fmt;

/// The shape of a tensor: four axes, channels last.
///
/// Activations are `[N, H, W, C]`. Parameters use the same four axes: a convolution's kernel is
/// `[kh, kw, c_in / groups, c_out]`, a vector of one value per channel is `[1, 1, 1, C]`. The last
/// axis is always the vectorized one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Batch (kernel height for a convolution's kernel).
    pub n: usize,
    /// Height in rows (kernel width for a convolution's kernel).
    pub h: usize,
    /// Width in columns (input channels of a group for a convolution's kernel).
    pub w: usize,
    /// Channels (output channels for a convolution's kernel).
    pub c: usize,
}

impl Shape {
    /// Creates the shape `[n, h, w, c]`.
    pub const fn new(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { n, h, w, c }
    }

    /// Creates the shape of one value per channel, `[1, 1, 1, c]`.
    pub const fn vector(c: usize) -> Self {
        Self::new(1, 1, 1, c)
    }

    /// Returns the number of elements. Saturates instead of overflowing, so that an absurd shape
    /// compares as too large.
    pub const fn len(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w).saturating_mul(self.c)
    }

    /// Returns whether the shape has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of pixels of the batch, `n * h * w`.
    pub const fn positions(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w)
    }

    /// Returns the channels in groups of four, rounded up: the size of a pixel in device memory, in
    /// `vec4`s.
    pub const fn c4(&self) -> usize {
        self.c.div_ceil(4)
    }

    /// Returns the shape with another number of channels.
    pub const fn with_c(self, c: usize) -> Self {
        Self { c, ..self }
    }

    /// Returns the shape with another height and width.
    pub const fn with_hw(self, h: usize, w: usize) -> Self {
        Self { h, w, ..self }
    }

    /// Creates the shape of `n` images of the same size.
    pub const fn images(n: usize, size: Size, c: usize) -> Self {
        Self::new(n, size.height, size.width, c)
    }

    /// Returns the width and height.
    pub const fn size(self) -> Size {
        Size::new(self.w, self.h)
    }

    /// Returns the shape with another width and height.
    pub const fn with_size(self, size: Size) -> Self {
        Self { h: size.height, w: size.width, ..self }
    }

    /// Returns the index of an element in a contiguous buffer.
    pub const fn index(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        ((n * self.h + y) * self.w + x) * self.c + c
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.n, self.h, self.w, self.c)
    }
}

/// The shape of a convolution's kernel. Tensors store it as `[height, width, in_channels,
/// out_channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelShape {
    /// Rows of taps.
    pub height: usize,
    /// Columns of taps.
    pub width: usize,
    /// Input channels of one group: 1 for a depthwise convolution.
    pub in_channels: usize,
    /// Output channels of all groups.
    pub out_channels: usize,
}

impl KernelShape {
    /// Creates the shape of a kernel of `size` taps.
    pub const fn new(size: Size, in_channels: usize, out_channels: usize) -> Self {
        Self { height: size.height, width: size.width, in_channels, out_channels }
    }

    /// Reads the four axes of a tensor as those of a kernel.
    pub const fn of(shape: Shape) -> Self {
        Self { height: shape.n, width: shape.h, in_channels: shape.w, out_channels: shape.c }
    }

    /// Returns the shape of the tensor that stores the kernel.
    pub const fn shape(self) -> Shape {
        Shape::new(self.height, self.width, self.in_channels, self.out_channels)
    }

    /// Returns the columns and rows of taps.
    pub const fn size(self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Returns the number of taps.
    pub const fn taps(self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// Returns the number of weights.
    pub const fn len(self) -> usize {
        self.shape().len()
    }

    /// Returns whether there are no weights.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the index of a weight: row and column of its tap, input channel of its group, output
    /// channel.
    pub const fn index(self, y: usize, x: usize, input: usize, output: usize) -> usize {
        self.shape().index(y, x, input, output)
    }

    /// Returns the output channels in groups of four, rounded up, as [`Shape::c4`] does.
    pub const fn c4_out(self) -> usize {
        self.out_channels.div_ceil(4)
    }

    /// Returns the number of products summed for one output: taps times input channels.
    pub const fn reduction(self) -> usize {
        self.taps().saturating_mul(self.in_channels)
    }
}

impl fmt::Display for KernelShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shape().fmt(f)
    }
}

impl From<KernelShape> for Shape {
    fn from(kernel: KernelShape) -> Self {
        kernel.shape()
    }
}
