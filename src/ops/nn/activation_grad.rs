//! The gradient of an activation.

use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::wide::{CHUNK, wide};
use crate::ops::{Activation, Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `dx = dy * activation'(x)` of `[x, dy]`, element by element. At points without a derivative the
/// slope follows PyTorch: 0 for ReLU and ReLU6, the slope of the flat side for the hard functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationGrad(pub Activation);

impl Activation {
    /// Returns whether the slope can be computed from the output: then the input need not be kept
    /// for the backward pass.
    pub(super) fn slope_from_output(self) -> bool {
        match self {
            Activation::Identity | Activation::Relu | Activation::Relu6 => true,
            Activation::HardSigmoid | Activation::HardSwish | Activation::Sigmoid => false,
        }
    }

    /// Evaluates the derivative at `x`.
    #[inline]
    pub fn slope(self, x: f32) -> f32 {
        let inside = |low: f32, high: f32| f32::from(x > low && x < high);
        match self {
            Activation::Identity => 1.0,
            Activation::Relu => f32::from(x > 0.0),
            Activation::Relu6 => inside(0.0, 6.0),
            Activation::HardSigmoid => inside(-3.0, 3.0) * (1.0 / 6.0),
            Activation::Sigmoid => {
                let y = self.apply(x);
                y * (1.0 - y)
            }
            Activation::HardSwish if x <= -3.0 => 0.0,
            Activation::HardSwish if x >= 3.0 => 1.0,
            Activation::HardSwish => x * (1.0 / 3.0) + 0.5,
        }
    }
}

fn map(dx: &mut [f32], x: &[f32], dy: &[f32], slope: impl Fn(f32) -> f32 + Sync) {
    let chunks = dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK));
    chunks.for_each(|((dx, x), dy)| chunk(dx, x, dy, &slope));
}

wide! {
    fn chunk(dx: &mut [f32], x: &[f32], dy: &[f32], slope: &impl Fn(f32) -> f32) {
        dx.iter_mut().zip(x).zip(dy).for_each(|((dx, &x), &dy)| *dx = dy * slope(x));
    }
}

impl Op for ActivationGrad {
    fn signature(&self) -> Signature {
        Signature::new("activation_grad").f32("x").f32("dy")
    }

    fn attributes(&self) -> String {
        self.0.feature().to_owned()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        if inputs[0] == inputs[1] {
            Ok(vec![inputs[0]])
        } else {
            Err(error!(
                Graph,
                "expected two inputs of equal shape, got {} and {}",
                inputs[0].shape,
                inputs[1].shape
            ))
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, dy) = (inputs[0].f32(), inputs[1].f32());
        let dx = outputs[0].f32_mut();
        match self.0 {
            // A function known at compile time makes the loop branch-free.
            Activation::Relu => map(dx, x, dy, |x| Activation::Relu.slope(x)),
            Activation::Relu6 => map(dx, x, dy, |x| Activation::Relu6.slope(x)),
            other => map(dx, x, dy, |x| other.slope(x)),
        }
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, dy, dx) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
        let shape = dx.ty.shape;
        let dispatch = Dispatch::new("nn/activation_grad")
            .when(self.0.feature(), true)
            .read("x", 0)
            .read("dy", 1)
            .write("dx", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .layout("x", x)
            .layout("dy", dy)
            .layout("dx", dx)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("plain", dispatch)]
    }
}
