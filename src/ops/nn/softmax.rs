//! Softmax over the channels.

use crate::error::Result;
use crate::graph::{OnnxAttribute, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `y = exp(x - max) / sum(exp(x - max))` over the channels of each pixel of `x` `[N, H, W, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax;

impl Op for Softmax {
    fn signature(&self) -> Signature {
        Signature::new("softmax").f32("x")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let shape = inputs[0].shape();
        let row = shape.w * shape.c;
        outputs[0].f32_mut().par_chunks_mut(row).zip(inputs[0].f32().par_chunks(row)).for_each(
            |(y, x)| {
                for (y, x) in y.chunks_exact_mut(shape.c).zip(x.chunks_exact(shape.c)) {
                    let max = x.iter().copied().fold(f32::MIN, f32::max);
                    let mut sum = 0.0;
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = (x - max).exp();
                        sum += *y;
                    }
                    y.iter_mut().for_each(|y| *y /= sum);
                }
            },
        );
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let x = vec![form.input(0)];
        form.output("Softmax", x, vec![("axis", OnnxAttribute::Int(1))]);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("nn/softmax")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("channels", shape.c)
            .layout("x", x)
            .layout("y", y)
            .threads(shape.positions());
        vec![Kernel::single("pixel", dispatch)]
    }
}

impl Scope<'_> {
    /// Adds a softmax over the channels: probabilities from logits.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn softmax(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.op(name, Softmax, &[x])
    }
}
