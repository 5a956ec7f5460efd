//! The gradient of a convolution by its input.
//!
//! With stride 1 it is a convolution itself: of the output's gradient with the weights turned round, input and output channels exchanged, and
//! all the kernels of the forward pass serve. Otherwise each thread gathers what its pixel gave to the outputs.

use super::{Conv2d, Padding, input_grad_cpu, kernels};
use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Layout, Operand};
use crate::ops::{Cost, Op, Packing, bytes, expect_f32};
use crate::tensor::{Shape, Tensor, TensorType};
use std::any::Any;

/// `dx` `[N, h, w, C]` from `[dy, w]`: `dy` of the shape of the convolution's output, `w` `[kh, kw, C / groups, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dInputGrad {
    /// The convolution. Its bias, residual and activation do not matter.
    pub conv: Conv2d,
    /// Rows of the convolution's input.
    pub h: usize,
    /// Columns of the convolution's input.
    pub w: usize,
}

impl Conv2dInputGrad {
    fn input_shape(&self, dy: Shape, w: Shape) -> Shape {
        Shape::new(dy.n, self.h, self.w, w.w.saturating_mul(self.conv.groups))
    }

    /// The convolution that computes the gradient from `dy` and turned weights, where there is one.
    fn turned(&self, w: Shape) -> Option<Conv2d> {
        let Conv2d { stride, dilation, padding: p, .. } = self.conv;
        let (rows, columns) = (dilation.0 * (w.n - 1), dilation.1 * (w.h - 1));
        // More padding than a kernel reaches: outputs that saw nothing of the picture would have to be cut off.
        let padding = Padding {
            top: rows.checked_sub(p.top)?,
            bottom: rows.checked_sub(p.bottom)?,
            left: columns.checked_sub(p.left)?,
            right: columns.checked_sub(p.right)?,
        };
        (stride == (1, 1)).then(|| Conv2d { padding, ..self.conv.plain() })
    }

    /// The kernels of the turned convolution, behind a dispatch that turns the weights.
    fn through_forward(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (dy, w, dx) = (cx.inputs[0], cx.inputs[1].ty.shape, cx.outputs[0]);
        let depthwise = self.conv.is_depthwise(dx.ty.shape, w);
        let Some(conv) = self.turned(w).filter(|_| depthwise || self.conv.groups == 1) else {
            return Vec::new();
        };
        let channels = if depthwise { (1, w.c) } else { (w.c, w.w) };
        let turned = TensorType::f32(Shape::new(w.n, w.h, channels.0, channels.1));
        let blocks = if depthwise { (1, w.c4()) } else { (w.c4(), w.w.div_ceil(4)) };
        let turn = Dispatch::new("conv2d/turn_weights")
            .when("depthwise", depthwise)
            .read("w", 1)
            .bind("turned", Operand::Scratch(0))
            .param("taps", w.n * w.h)
            .param("c4_from", blocks.0)
            .param("c4_to", blocks.1)
            .threads(w.n * w.h * blocks.0 * blocks.1);
        let inputs = [dy, Layout::contiguous(turned)];
        let forward = kernels::list(&conv, &KernelContext { inputs: &inputs, outputs: cx.outputs, caps: cx.caps });
        let through = |kernel: Kernel| {
            let mut dispatches = vec![turn.clone()];
            dispatches.extend(kernel.dispatches.into_iter().map(|mut dispatch| {
                let weights = dispatch.bindings.iter_mut().filter(|(_, operand)| *operand == Operand::Input(1));
                weights.for_each(|(_, operand)| *operand = Operand::Scratch(0));
                dispatch
            }));
            let scratch = vec![Layout::bytes(turned, Packing::Matrix)];
            Kernel { label: format!("turned {}", kernel.label), dispatches, scratch }
        };
        forward.into_iter().map(through).collect()
    }

    /// One thread for each pixel and four channels of the input.
    fn gather(&self, cx: &KernelContext) -> Kernel {
        let (dy, w, dx) = (cx.inputs[0], cx.inputs[1].ty.shape, cx.outputs[0]);
        let (ys, xs) = (dy.ty.shape, dx.ty.shape);
        let depthwise = self.conv.is_depthwise(xs, w);
        let dispatch = Dispatch::new("conv2d/input_grad")
            .when("depthwise", depthwise)
            .when("grouped", !depthwise && self.conv.groups > 1)
            .read("dy", 0)
            .read("w", 1)
            .write("dx", 0)
            .param("pixels", xs.positions())
            .param("h_in", xs.h)
            .param("w_in", xs.w)
            .param("h_out", ys.h)
            .param("w_out", ys.w)
            .param("c4_in", xs.c4())
            .param("c4_out", ys.c4())
            .param("rows", w.w)
            .param("c_out", ys.c)
            .param("c_out_group", ys.c / self.conv.groups)
            .param("dy_pitch", dy.pitch)
            .param("dy_offset", dy.offset)
            .param("dx_pitch", dx.pitch)
            .param("dx_offset", dx.offset)
            .param("kh", w.n)
            .param("kw", w.h)
            .param("stride_y", self.conv.stride.0)
            .param("stride_x", self.conv.stride.1)
            .param("dilation_y", self.conv.dilation.0)
            .param("dilation_x", self.conv.dilation.1)
            .param("pad_top", self.conv.padding.top)
            .param("pad_left", self.conv.padding.left)
            .threads(xs.positions() * xs.c4());
        Kernel::one("gather", dispatch)
    }
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn attributes(&self) -> String {
        self.conv.plain().attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 2)?;
        let (dy, w) = (inputs[0].shape, inputs[1].shape);
        let x = self.input_shape(dy, w);
        let expected = self.conv.output_shape(x, w)?;
        match expected == dy {
            true => Ok(vec![TensorType::f32(x)]),
            false => Err(error!(Graph, "expected a gradient of shape {expected}, got {dy} (input {x}, kernel {w})")),
        }
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        let (dy, w) = (inputs[0].shape, inputs[1].shape);
        Cost { multi_adds: dy.len() as u64 * (w.n * w.h * w.w) as u64, bytes: bytes(inputs) + bytes(outputs) }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        input_grad_cpu::run(&self.conv, inputs[0], inputs[1], &mut outputs[0]);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let mut all = self.through_forward(cx);
        all.push(self.gather(cx));
        all
    }

    fn packing(&self, index: usize) -> Packing {
        // As the convolution's own, so that one parameter has one buffer.
        self.conv.packing(index)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
