//! Two-dimensional convolution with any kernel size, stride, dilation, groups and per-side padding,
//! and an epilogue.
//!
//! `y = activation(conv(x, w) + bias + residual)`, where bias and residual are optional. Passes
//! create the epilogue: batch norm folds into `w` and `bias`, a following addition becomes
//! `residual`, a following activation becomes `activation`.

mod cpu;
mod gradient;
mod input_grad;
mod input_grad_cpu;
mod kernels;
mod multiply;
mod product;
mod weight_grad;
mod weight_grad_cpu;

pub use input_grad::Conv2dInputGrad;
pub(crate) use product::product;
pub use weight_grad::Conv2dWeightGrad;

use super::kernel::{Kernel, KernelContext};
use super::window::Axis;
use super::{Activation, Cost, Op, Packing, bytes, expect_f32};
use crate::error::{Result, error};
use crate::graph::{Backward, Scope, ValueId};
use crate::tensor::{Shape, Tensor, TensorType};

/// Rows and columns of zeros around the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// Creates equal padding on all four sides.
    pub const fn all(p: usize) -> Self {
        Self { top: p, bottom: p, left: p, right: p }
    }

    /// Creates PyTorch's usual padding, `dilation * (k - 1) / 2` on every side, with which an odd
    /// kernel with stride 1 preserves the size.
    pub const fn same(kernel: usize, dilation: usize) -> Self {
        Self::all(dilation * (kernel - 1) / 2)
    }

    /// Creates TensorFlow's `SAME` padding: the output has size `ceil(size / stride)`, and an odd
    /// total puts the extra row or column at the bottom or right. `shape` is the input's.
    pub fn tf_same(shape: Shape, kernel: usize, stride: usize, dilation: usize) -> Self {
        let split = |size: usize| {
            let needed = (size.div_ceil(stride) - 1) * stride + dilation * (kernel - 1) + 1;
            let total = needed.saturating_sub(size);
            (total / 2, total - total / 2)
        };
        let ((top, bottom), (left, right)) = (split(shape.h), split(shape.w));
        Self { top, bottom, left, right }
    }
}

/// Convolution of `[x, w, bias?, residual?]`: `x` `[N, H, W, C]`, `w` `[kh, kw, C / groups, O]`,
/// `bias` `[1 or N, 1, 1, O]`, `residual` of the output's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Vertical and horizontal stride.
    pub stride: (usize, usize),
    /// Vertical and horizontal distance between the kernel's taps (the atrous rate).
    pub dilation: (usize, usize),
    /// Zeros around the input.
    pub padding: Padding,
    /// Number of groups; each group of output channels reads only its own group of input channels.
    pub groups: usize,
    /// Whether the third input is a bias.
    pub bias: bool,
    /// Whether the last input is a residual, added before the activation.
    pub residual: bool,
    /// Activation, applied last.
    pub activation: Activation,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            stride: (1, 1),
            dilation: (1, 1),
            padding: Padding::default(),
            groups: 1,
            bias: false,
            residual: false,
            activation: Activation::Identity,
        }
    }
}

impl Conv2d {
    /// Creates a convolution with equal stride, dilation and padding along both axes.
    pub fn square(stride: usize, dilation: usize, padding: usize) -> Self {
        Self {
            stride: (stride, stride),
            dilation: (dilation, dilation),
            padding: Padding::all(padding),
            ..Self::default()
        }
    }

    /// Returns the position of the residual among the inputs.
    fn residual_index(&self) -> Option<usize> {
        self.residual.then_some(2 + usize::from(self.bias))
    }

    /// Returns whether the convolution is depthwise: each output channel reads the input channel of
    /// the same index.
    pub fn is_depthwise(&self, x: Shape, w: Shape) -> bool {
        self.groups == x.c && w.w == 1 && w.c == x.c
    }

    /// Returns whether the convolution is a single matrix product over pixels.
    pub fn is_pointwise(&self, w: Shape) -> bool {
        (w.n, w.h, self.stride, self.padding, self.groups) == (1, 1, (1, 1), Padding::default(), 1)
    }

    /// Returns the convolution without bias, residual and activation.
    fn plain(&self) -> Self {
        Self { bias: false, residual: false, activation: Activation::Identity, ..*self }
    }

    /// Returns the windows of the outputs along the rows and columns of the input.
    fn axes(&self, x: Shape, kernel: (usize, usize)) -> (Axis, Axis) {
        let p = self.padding;
        let axis = |size, kernel, stride, dilation, before, after| Axis {
            size,
            kernel,
            stride,
            dilation,
            before,
            after,
        };
        (
            axis(x.h, kernel.0, self.stride.0, self.dilation.0, p.top, p.bottom),
            axis(x.w, kernel.1, self.stride.1, self.dilation.1, p.left, p.right),
        )
    }

    fn output_shape(&self, x: Shape, w: Shape) -> Result<Shape> {
        if self.stride.0 == 0
            || self.stride.1 == 0
            || self.dilation.0 == 0
            || self.dilation.1 == 0
            || self.groups == 0
        {
            return Err(error!(
                Graph,
                "stride, dilation and groups must be at least 1, got {self:?}"
            ));
        }
        if w.is_empty() || w.w.saturating_mul(self.groups) != x.c {
            let expected = w.w.saturating_mul(self.groups);
            return Err(error!(
                Graph,
                "expected {expected} input channels, got {} (input {x}, kernel {w})", x.c
            ));
        }
        if !w.c.is_multiple_of(self.groups) {
            return Err(error!(
                Graph,
                "{} output channels cannot be split into {} groups", w.c, self.groups
            ));
        }
        let extent = |size: usize, before: usize, after: usize, k: usize, s: usize, d: usize| {
            let padded = size + before + after;
            let span = d * (k - 1) + 1;
            if padded < span { 0 } else { (padded - span) / s + 1 }
        };
        let p = self.padding;
        let h = extent(x.h, p.top, p.bottom, w.n, self.stride.0, self.dilation.0);
        let width = extent(x.w, p.left, p.right, w.h, self.stride.1, self.dilation.1);
        Ok(Shape::new(x.n, h, width, w.c))
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn attributes(&self) -> String {
        let pair = |(a, b): (usize, usize)| if a == b { a.to_string() } else { format!("{a}x{b}") };
        let mut text = format!("s{} d{}", pair(self.stride), pair(self.dilation));
        let p = self.padding;
        if p == Padding::all(p.top) {
            text += &format!(" p{}", p.top);
        } else {
            text += &format!(" p{}/{}/{}/{}", p.top, p.bottom, p.left, p.right);
        }
        if self.groups > 1 {
            text += &format!(" g{}", self.groups);
        }
        for (on, what) in [(self.bias, " +bias"), (self.residual, " +residual")] {
            text += if on { what } else { "" };
        }
        if self.activation != Activation::Identity {
            text += &format!(" {}", self.activation.feature());
        }
        text
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 2 + usize::from(self.bias) + usize::from(self.residual))?;
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        let y = self.output_shape(x, w)?;
        if self.bias {
            let b = inputs[2].shape;
            if (b.h, b.w, b.c) != (1, 1, y.c) || (b.n != 1 && b.n != y.n) {
                return Err(error!(
                    Graph,
                    "expected a bias of shape [1 or {}, 1, 1, {}], got {b}", y.n, y.c
                ));
            }
        }
        if let Some(r) = self.residual_index().map(|i| inputs[i].shape).filter(|r| *r != y) {
            return Err(error!(Graph, "expected a residual of shape {y}, got {r}"));
        }
        Ok(vec![TensorType::f32(y)])
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        let (w, y) = (inputs[1].shape, outputs[0].shape);
        let multi_adds = y.len() as u64 * (w.n * w.h * w.w) as u64;
        Cost { multi_adds, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        cpu::run(self, inputs, &mut outputs[0]);
        Ok(())
    }

    fn cpu_scratch(&self, inputs: &[TensorType], outputs: &[TensorType], threads: usize) -> u64 {
        cpu::scratch(self, (inputs[0].shape, inputs[1].shape, outputs[0].shape), threads)
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        kernels::list(self, cx)
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        gradient::rule(self, backward)
    }

    fn packing(&self, index: usize) -> Packing {
        if index == 1 { Packing::Matrix } else { Packing::Channels }
    }
}

impl Scope<'_> {
    /// Adds a convolution with a `kernel` `(kh, kw)` and `c_out` output channels. Its parameters
    /// are `NAME.weight` and, if `conv.bias` is set, `NAME.bias`.
    pub fn conv2d(
        &mut self,
        name: &str,
        conv: Conv2d,
        x: ValueId,
        kernel: (usize, usize),
        c_out: usize,
    ) -> Result<ValueId> {
        let c_in = self.shape(x).c;
        let mut here = self.scope(name);
        let w =
            here.param("weight", Shape::new(kernel.0, kernel.1, c_in / conv.groups.max(1), c_out));
        let mut inputs = vec![x, w];
        if conv.bias {
            inputs.push(here.param("bias", Shape::vector(c_out)));
        }
        here.op("", conv, &inputs)
    }
}
