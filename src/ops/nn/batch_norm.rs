//! Batch normalization with fixed statistics (inference): one multiplication and one addition per
//! channel.

use crate::error::{Result, error};
use crate::graph::{Backward, OnnxAttribute, OnnxForm, Part, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, TensorLayout};
use crate::ops::wide::wide;
use crate::ops::{BatchNormGrad, BatchNormTrain, Op, Signature, TrainForm};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;
use std::sync::Arc;

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` of `[x, weight, bias, mean, var]`: `x` is
/// `[N, H, W, C]`, the other inputs are `[1, 1, 1, C]` (Ioffe and Szegedy 2015, algorithm 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance; positive.
    pub eps: f32,
}

impl BatchNorm {
    /// Returns the factor and the addend of each channel: `y = x * factor + addend`. The four
    /// vectors must have the same length.
    pub fn affine(
        &self,
        weight: &[f32],
        bias: &[f32],
        mean: &[f32],
        var: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let factor: Vec<f32> =
            weight.iter().zip(var).map(|(w, v)| w / (v + self.eps).sqrt()).collect();
        let addend = bias.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        (factor, addend)
    }

    /// Folds the norm `[weight, bias, mean, var]` into the kernel of the convolution before it:
    /// scales each output channel by its factor.
    pub(crate) fn fold_kernel(&self, kernel: &Tensor, [w, b, m, v]: [&[f32]; 4]) -> Tensor {
        let (factor, _) = self.affine(w, b, m, v);
        let mut kernel = kernel.clone();
        for row in kernel.f32_mut().chunks_exact_mut(factor.len()) {
            for (value, factor) in row.iter_mut().zip(&factor) {
                *value *= factor;
            }
        }
        kernel
    }

    /// Returns the bias `[1, 1, 1, C]` of a convolution with the norm `[weight, bias, mean, var]`
    /// folded in: `bias * factor + addend`. `None` stands for zeros.
    pub(crate) fn fold_bias(&self, bias: Option<&[f32]>, [w, b, m, v]: [&[f32]; 4]) -> Tensor {
        let (factor, addend) = self.affine(w, b, m, v);
        Tensor::from_fn(Shape::vector(addend.len()), |_, _, _, c| {
            bias.map_or(0.0, |bias| bias[c] * factor[c]) + addend[c]
        })
    }
}

wide! {
    /// `y = x * factor + addend`, pixel by pixel.
    fn apply(y: &mut [f32], x: &[f32], factor: &[f32], addend: &[f32]) {
        for (y, x) in y.chunks_exact_mut(factor.len()).zip(x.chunks_exact(factor.len())) {
            for (((y, x), f), a) in y.iter_mut().zip(x).zip(factor).zip(addend) {
                *y = x * f + a;
            }
        }
    }
}

impl Op for BatchNorm {
    fn signature(&self) -> Signature {
        Signature::new("batch_norm").f32("x").f32("weight").f32("bias").f32("mean").f32("variance")
    }

    fn attributes(&self) -> String {
        format!("eps {:e}", self.eps)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(error!(Graph, "eps must be a positive number, got {}", self.eps));
        }
        let expected = Shape::vector(inputs[0].shape.c);
        for (input, what) in inputs[1..].iter().zip(["weight", "bias", "mean", "variance"]) {
            if input.shape != expected {
                return Err(error!(
                    Graph,
                    "expected {what} of shape {expected}, got {}", input.shape
                ));
            }
        }
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (factor, addend) =
            self.affine(inputs[1].f32(), inputs[2].f32(), inputs[3].f32(), inputs[4].f32());
        let shape = inputs[0].shape();
        let row = shape.w * shape.c;
        let rows = outputs[0].f32_mut().par_chunks_mut(row).zip(inputs[0].f32().par_chunks(row));
        rows.for_each(|(y, x)| apply(y, x, &factor, &addend));
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let inputs = form.input_names();
        form.output(
            "BatchNormalization",
            inputs,
            vec![("epsilon", OnnxAttribute::Float(self.eps))],
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch =
            self.dispatch(cx.inputs[0], cx.outputs[0]).read("mean", 3).read("variance", 4);
        vec![Kernel::single("plain", dispatch)]
    }

    fn train_form(&self, _key: u32) -> Option<TrainForm> {
        Some(TrainForm::BatchStatistics(Arc::new(BatchNormTrain { eps: self.eps })))
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        if backward.needs_gradient(3) || backward.needs_gradient(4) {
            return Err(error!(Graph, "fixed batch-norm statistics have no gradient"));
        }
        let inputs = [
            backward.dy(),
            backward.input(0),
            backward.input(1),
            backward.input(3),
            backward.input(4),
        ];
        let gradients =
            backward.ops("x", BatchNormGrad { eps: self.eps, frozen: true }, &inputs)?;
        for (i, gradient) in gradients.into_iter().take(3).enumerate() {
            backward.add_gradient(i, gradient);
        }
        Ok(())
    }
}

impl BatchNorm {
    /// Creates the dispatch with everything but `mean` and `variance` bound.
    pub(crate) fn dispatch(&self, x: TensorLayout, y: TensorLayout) -> Dispatch {
        let shape = y.ty.shape;
        Dispatch::new("nn/batch_norm")
            .read("x", 0)
            .read("weight", 1)
            .read("bias", 2)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .layout("x", x)
            .layout("y", y)
            .param("eps", self.eps)
            .threads(shape.positions() * shape.c4())
    }
}

impl Scope<'_> {
    /// Adds batch normalization with the parameters `NAME.weight`, `NAME.bias`, `NAME.running_mean`
    /// and `NAME.running_var`, which belong to the layer of this scope.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn batch_norm(&mut self, name: &str, x: ValueId, eps: f32) -> Result<ValueId> {
        let shape = Shape::vector(self.shape(x).c);
        let layer = self.path().to_owned();
        let mut here = self.scope(name);
        let mut inputs = vec![x];
        inputs.extend(Part::NORM.map(|part| here.layer_param(&layer, part.into(), shape)));
        here.op("", BatchNorm { eps }, &inputs)
    }
}
