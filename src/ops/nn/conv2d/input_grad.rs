//! Gradient of a convolution with respect to its input.
//!
//! The gradient is itself a convolution, of the output's gradient with the weights rotated by 180
//! degrees and input and output channels exchanged, so the kernels of the forward pass apply. With
//! a stride the gradient is first spread: zeros are inserted between its pixels. Most products are
//! then wasted, but the kernels are fast. An additional kernel gathers for each input pixel from
//! the outputs that read it.

use super::{Conv2d, input_grad_cpu, kernels};
use crate::error::Result;
use crate::geometry::{Padding, Size, Spacing};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::ops::{Cost, Op, Packing, Signature, bytes, expect_gradient};
use crate::tensor::{KernelShape, Shape, Tensor, TensorType};

/// `dx` `[N, h, w, C]` from `[dy, w]`: `dy` of the shape of the convolution's output, `w`
/// `[kh, kw, C / groups, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dInputGrad {
    /// The convolution. Its bias, residual and activation are ignored.
    pub conv: Conv2d,
    /// Size of the convolution's input.
    pub size: Size,
}

/// Largest factor of wasted products at which spreading is still expected to be faster than
/// gathering: on lavapipe the forward kernels are ten times as fast.
const WORTH_SPREADING: usize = 6;
/// Number of forward kernels that are candidates for a spread gradient.
const SPREAD_KERNELS: usize = 4;

impl Conv2dInputGrad {
    fn input_shape(&self, dy: Shape, w: KernelShape) -> Shape {
        Shape::images(dy.n, self.size, w.in_channels.saturating_mul(self.conv.groups))
    }

    /// Returns the shape of the output's gradient with `stride - 1` zeros between its pixels.
    fn spread_shape(&self, dy: Shape) -> Shape {
        let spread = |size: usize, stride: usize| (size - 1) * stride + 1;
        dy.with_hw(spread(dy.h, self.conv.stride.y), spread(dy.w, self.conv.stride.x))
    }

    /// Returns the convolution that computes the gradient from the spread gradient `dy` and the
    /// rotated weights, if there is one.
    fn turned(&self, dy: Shape, w: KernelShape) -> Option<Conv2d> {
        let Conv2d { dilation, padding: p, .. } = self.conv;
        // The padding must not exceed the kernel's reach: outputs that read only padding would have
        // to be cropped.
        let padding = Padding {
            top: (dilation.y * (w.height - 1)).checked_sub(p.top)?,
            bottom: (self.size.height + p.top).checked_sub(dy.h)?,
            left: (dilation.x * (w.width - 1)).checked_sub(p.left)?,
            right: (self.size.width + p.left).checked_sub(dy.w)?,
        };
        Some(Conv2d { stride: Spacing::ONE, padding, ..self.conv.plain() })
    }

    /// Returns the kernels of the rotated convolution, preceded by dispatches that rotate the
    /// weights and spread the gradient.
    fn through_forward(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (dy, w, dx) = (cx.inputs[0], kernels::weights(cx), cx.outputs[0]);
        let depthwise = self.conv.is_depthwise(dx.ty.shape, w);
        let spread = TensorType::f32(self.spread_shape(dy.ty.shape));
        let strided = self.conv.stride != Spacing::ONE;
        let too_large =
            strided && TensorLayout::bytes(spread, Packing::Channels) > cx.caps.max_binding;
        let Some(conv) = self
            .turned(spread.shape, w)
            .filter(|_| (depthwise || self.conv.groups == 1) && !too_large)
        else {
            return Vec::new();
        };
        let turned = if depthwise {
            w
        } else {
            KernelShape { in_channels: w.out_channels, out_channels: w.in_channels, ..w }
        };
        let turned = TensorType::f32(turned.shape());
        let mut prepare = vec![turn(w, depthwise)];
        let mut scratch = vec![TensorLayout::bytes(turned, Packing::Matrix)];
        let mut inputs = [dy, TensorLayout::contiguous(turned)];
        if strided {
            prepare.push(self.spread(dy, spread.shape));
            scratch.push(TensorLayout::bytes(spread, Packing::Channels));
            inputs[0] = TensorLayout::contiguous(spread);
        }
        let forward = kernels::list(
            &conv,
            &KernelContext { inputs: &inputs, outputs: cx.outputs, caps: cx.caps },
        );
        let through = |kernel: Kernel| {
            let mut dispatches = prepare.clone();
            dispatches.extend(kernel.dispatches.into_iter().map(|mut dispatch| {
                dispatch.bindings.iter_mut().for_each(|(_, operand)| match operand {
                    Operand::Input(0) if strided => *operand = Operand::Scratch(1),
                    Operand::Input(1) => *operand = Operand::Scratch(0),
                    _ => {}
                });
                dispatch
            }));
            let preparation = if strided { "spread" } else { "turned" };
            Kernel {
                label: format!("{preparation} {}", kernel.label),
                dispatches,
                scratch: scratch.clone(),
            }
        };
        forward
            .into_iter()
            .map(through)
            .take(if strided { SPREAD_KERNELS } else { usize::MAX })
            .collect()
    }

    /// Creates the dispatch that inserts zeros between the pixels of the output's gradient.
    fn spread(&self, dy: TensorLayout, to: Shape) -> Dispatch {
        Dispatch::new("nn/conv2d/spread")
            .read("dy", 0)
            .bind("spread", Operand::Scratch(1))
            .param("pixels", to.positions())
            .param("c4", to.c4())
            .param("h", to.h)
            .param("w", to.w)
            .param("h_dy", dy.ty.shape.h)
            .param("w_dy", dy.ty.shape.w)
            .param("stride_y", self.conv.stride.y)
            .param("stride_x", self.conv.stride.x)
            .layout("dy", dy)
            .threads(to.positions() * to.c4())
    }

    /// Creates the kernel with one thread per pixel and four channels of the input.
    fn gather(&self, cx: &KernelContext) -> Kernel {
        let (dy, w, dx) = (cx.inputs[0], kernels::weights(cx), cx.outputs[0]);
        let (ys, xs) = (dy.ty.shape, dx.ty.shape);
        let depthwise = self.conv.is_depthwise(xs, w);
        let dispatch = Dispatch::new("nn/conv2d/input_grad")
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
            .param("rows", w.in_channels)
            .param("c_out", ys.c)
            .param("c_out_group", ys.c / self.conv.groups)
            .layout("dy", dy)
            .layout("dx", dx)
            .window(w.size(), self.conv.stride, self.conv.dilation, self.conv.padding)
            .threads(xs.positions() * xs.c4());
        Kernel::single("gather", dispatch)
    }
}

/// Creates the dispatch that rotates the weights by 180 degrees and exchanges input and output
/// channels.
fn turn(w: KernelShape, depthwise: bool) -> Dispatch {
    let blocks = if depthwise { (1, w.c4_out()) } else { (w.c4_out(), w.in_channels.div_ceil(4)) };
    Dispatch::new("nn/conv2d/turn_weights")
        .when("depthwise", depthwise)
        .read("w", 1)
        .bind("turned", Operand::Scratch(0))
        .param("taps", w.taps())
        .param("c4_from", blocks.0)
        .param("c4_to", blocks.1)
        .threads(w.taps() * blocks.0 * blocks.1)
}

impl Op for Conv2dInputGrad {
    fn signature(&self) -> Signature {
        Signature::new("conv2d_input_grad").f32("dy").f32("weight")
    }

    fn attributes(&self) -> String {
        self.conv.plain().attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (dy, w) = (inputs[0].shape, KernelShape::of(inputs[1].shape));
        let x = self.input_shape(dy, w);
        expect_gradient(self.conv.output_shape(x, w)?, dy)?;
        Ok(vec![TensorType::f32(x)])
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        let (dy, w) = (inputs[0].shape, KernelShape::of(inputs[1].shape));
        Cost {
            multi_adds: dy.len() as u64 * w.reduction() as u64,
            bytes: bytes(inputs) + bytes(outputs),
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        input_grad_cpu::run(&self.conv, inputs[0], inputs[1], &mut outputs[0]);
        Ok(())
    }

    fn cpu_scratch(&self, inputs: &[TensorType], outputs: &[TensorType], threads: usize) -> u64 {
        input_grad_cpu::scratch(
            &self.conv,
            inputs[0].shape,
            KernelShape::of(inputs[1].shape),
            outputs[0].shape,
            threads,
        )
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let mut all = self.through_forward(cx);
        // Factor by which spreading multiplies the number of products.
        let wasted = self.conv.stride.y * self.conv.stride.x;
        all.insert(if wasted > WORTH_SPREADING { 0 } else { all.len() }, self.gather(cx));
        all
    }

    fn packing(&self, index: usize) -> Packing {
        // The same packing as in the forward convolution, so that a parameter needs only one
        // buffer.
        self.conv.packing(index)
    }
}
