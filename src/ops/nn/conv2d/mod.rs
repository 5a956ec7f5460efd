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

use super::window::{Axis, Window};
use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::graph::{
    Backward, OnnxAttribute, OnnxForm, Part, Role, Scope, ValueId, window_attributes,
};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Activation, Cost, Op, Packing, Signature, bytes};
use crate::tensor::{KernelShape, Shape, Tensor, TensorType};

/// Convolution of `[x, w, bias?, residual?]`: `x` `[N, H, W, C]`, `w` `[kh, kw, C / groups, O]`,
/// `bias` `[1 or N, 1, 1, O]`, `residual` of the output's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Distance between neighboring windows.
    pub stride: Spacing,
    /// Distance between neighboring taps of the kernel (the atrous rate).
    pub dilation: Spacing,
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
            stride: Spacing::ONE,
            dilation: Spacing::ONE,
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
            stride: Spacing::square(stride),
            dilation: Spacing::square(dilation),
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
    pub fn is_depthwise(&self, x: Shape, w: KernelShape) -> bool {
        self.groups == x.c && w.in_channels == 1 && w.out_channels == x.c
    }

    /// Returns whether the convolution is a single matrix product over pixels.
    pub fn is_pointwise(&self, w: KernelShape) -> bool {
        w.taps() == 1
            && self.stride == Spacing::ONE
            && self.padding == Padding::default()
            && self.groups == 1
    }

    /// Returns the convolution without bias, residual and activation.
    fn plain(&self) -> Self {
        Self { bias: false, residual: false, activation: Activation::Identity, ..*self }
    }

    /// Returns the windows of the outputs along the rows and columns of the input.
    fn axes(&self, x: Shape, kernel: Size) -> (Axis, Axis) {
        let Self { stride, dilation, padding, .. } = *self;
        Window { kernel, stride, dilation, padding, ceil_mode: false }.axes(x)
    }

    fn output_shape(&self, x: Shape, w: KernelShape) -> Result<Shape> {
        if self.stride.y == 0
            || self.stride.x == 0
            || self.dilation.y == 0
            || self.dilation.x == 0
            || self.groups == 0
        {
            return Err(error!(
                Graph,
                "stride, dilation and groups must be at least 1, got {self:?}"
            ));
        }
        let expected = w.in_channels.saturating_mul(self.groups);
        if w.is_empty() || expected != x.c {
            return Err(error!(
                Graph,
                "expected {expected} input channels, got {} (input {x}, kernel {w})", x.c
            ));
        }
        if !w.out_channels.is_multiple_of(self.groups) {
            return Err(error!(
                Graph,
                "{} output channels cannot be split into {} groups", w.out_channels, self.groups
            ));
        }
        let extent = |size: usize, before: usize, after: usize, k: usize, s: usize, d: usize| {
            let padded = size + before + after;
            let span = d * (k - 1) + 1;
            if padded < span { 0 } else { (padded - span) / s + 1 }
        };
        let p = self.padding;
        let h = extent(x.h, p.top, p.bottom, w.height, self.stride.y, self.dilation.y);
        let width = extent(x.w, p.left, p.right, w.width, self.stride.x, self.dilation.x);
        Ok(Shape::new(x.n, h, width, w.out_channels))
    }
}

impl Op for Conv2d {
    fn signature(&self) -> Signature {
        Signature::new("conv2d")
            .f32("x")
            .f32("weight")
            .f32_if(self.bias, "bias")
            .f32_if(self.residual, "residual")
    }

    fn attributes(&self) -> String {
        let mut text = format!("s{} d{} p{}", self.stride, self.dilation, self.padding);
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
        let y = self.output_shape(inputs[0].shape, KernelShape::of(inputs[1].shape))?;
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
        let reduction = KernelShape::of(inputs[1].shape).reduction();
        let multi_adds = outputs[0].shape.len() as u64 * reduction as u64;
        Cost { multi_adds, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        cpu::run(self, inputs, &mut outputs[0]);
        Ok(())
    }

    fn cpu_scratch(&self, inputs: &[TensorType], outputs: &[TensorType], threads: usize) -> u64 {
        cpu::scratch(
            self,
            inputs[0].shape,
            KernelShape::of(inputs[1].shape),
            outputs[0].shape,
            threads,
        )
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let taps = KernelShape::of(form.shape(1)).size();
        let &Self { stride, dilation, padding, groups, .. } = self;
        let mut attributes = window_attributes(taps, stride, Some(dilation), padding);
        attributes.push(("group", OnnxAttribute::Int(groups as i64)));
        let mut inputs = vec![form.input(0), form.input(1)];
        inputs.extend(self.bias.then(|| form.input(2)));
        if self.bias && form.shape(2).n > 1 {
            return form.refuse("a bias for each image");
        }
        if !self.residual && self.activation == Activation::Identity {
            form.output("Conv", inputs, attributes);
            return Ok(());
        }
        let mut y = form.node("Conv", inputs, attributes);
        if let Some(residual) = self.residual_index() {
            y = form.node("Add", vec![y, form.input(residual)], Vec::new());
        }
        self.activation.onnx(form, vec![y]);
        Ok(())
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
    /// Adds a convolution with a kernel of `kernel` taps and `c_out` output channels. Its parameters
    /// are `NAME.weight` and, if `conv.bias` is set, `NAME.bias`.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn conv2d(
        &mut self,
        name: &str,
        conv: Conv2d,
        x: ValueId,
        kernel: Size,
        c_out: usize,
    ) -> Result<ValueId> {
        let c_in = self.shape(x).c / conv.groups.max(1);
        let mut here = self.scope(name);
        let layer = here.path().to_owned();
        let shape = KernelShape::new(kernel, c_in, c_out).shape();
        let depthwise = conv.groups > 1 && c_in == 1;
        let w = here.layer_param(&layer, Role { depthwise, ..Part::Kernel.into() }, shape);
        let mut inputs = vec![x, w];
        if conv.bias {
            inputs.push(here.layer_param(&layer, Part::Bias.into(), Shape::vector(c_out)));
        }
        here.op("", conv, &inputs)
    }
}
