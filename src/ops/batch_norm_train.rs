//! Batch normalisation with the statistics of the batch, for training.

use super::channel_sum::{add, block, blocks, partial, sum_positions, sums};
use super::kernel::{Dispatch, Kernel, KernelContext, Layout, Operand};
use super::{BatchNorm, BatchNormGrad, Op, Packing, expect_f32};
use crate::error::{Result, error};
use crate::graph::Backward;
use crate::tensor::{Shape, Tensor, TensorType};
use std::any::Any;

/// `[x, weight, bias]` to `[y, mean, variance]`: `y = (x - mean) / sqrt(variance + eps) * weight + bias`, with the mean and the (biased)
/// variance of each channel over the batch and the map (Ioffe and Szegedy 2015, algorithm 1). `x` is `[N, H, W, C]`, the vectors
/// `[1, 1, 1, C]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormTrain {
    /// Added to the variance; positive.
    pub eps: f32,
}

impl BatchNormTrain {
    fn norm(self) -> BatchNorm {
        BatchNorm { eps: self.eps }
    }
}

/// All positions of the batch as one row.
fn one_row(layout: Layout) -> Layout {
    let s = layout.ty.shape;
    Layout { ty: TensorType::f32(Shape::new(1, 1, s.positions(), s.c)), ..layout }
}

impl Op for BatchNormTrain {
    fn name(&self) -> &'static str {
        "batch_norm_train"
    }

    fn attributes(&self) -> String {
        format!("eps {:e}", self.eps)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 3)?;
        let (x, vector) = (inputs[0], TensorType::f32(Shape::vector(inputs[0].shape.c)));
        // The same checks as with fixed statistics.
        self.norm().infer(&[x, inputs[1], inputs[2], vector, vector])?;
        if x.shape.positions() < 2 {
            return Err(error!(Graph, "one value for each channel has no variance ({})", x.shape)
                .advice("take a larger batch or picture, or fixed statistics for this norm"));
        }
        Ok(vec![x, vector, vector])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, shape) = (inputs[0].f32(), inputs[0].shape());
        let (positions, c) = (shape.positions(), shape.c);
        let scale = 1.0 / positions as f32;
        let mean: Vec<f32> =
            sum_positions(positions, c, |p, sum| add(sum, &x[p * c..][..c])).into_iter().map(|s| s * scale).collect();
        // The mean first and then the squares of what is left: a sum of squares would cancel.
        let squares = sum_positions(positions, c, |p, sum| {
            for ((sum, x), mean) in sum.iter_mut().zip(&x[p * c..][..c]).zip(&mean) {
                *sum += (x - mean) * (x - mean);
            }
        });
        let [y, mean_out, variance] = outputs else { unreachable!("invariant: three outputs are inferred") };
        mean_out.f32_mut().copy_from_slice(&mean);
        variance.f32_mut().iter_mut().zip(squares).for_each(|(v, s)| *v = s * scale);
        self.norm().cpu(&[inputs[0], inputs[1], inputs[2], mean_out, variance], std::slice::from_mut(y))
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (one_row(cx.inputs[0]), cx.outputs[0]);
        let shape = x.ty.shape;
        let (mean, variance) = (cx.outputs[1], cx.outputs[2]);
        let scale = 1.0 / shape.w as f32;
        let parts = blocks(shape.w);
        let part = Layout::contiguous(TensorType::f32(shape.with_hw(1, parts)));
        let squares = partial(Dispatch::new("batch_norm_train"), shape.w)
            .read("x", 0)
            .bind("mean", Operand::Output(1))
            .bind("squares", Operand::Scratch(0))
            .param("c4", shape.c4())
            .param("x_pitch", x.pitch)
            .param("x_offset", x.offset)
            .threads(parts * shape.c4());
        let apply = BatchNorm { eps: self.eps }.dispatch(cx.inputs[0], y);
        let apply = apply.bind("mean", Operand::Output(1)).bind("variance", Operand::Output(2));
        let dispatches = vec![
            sums(Operand::Input(0), x, Operand::Scratch(0), part, block(shape.w), 1.0),
            sums(Operand::Scratch(0), part, Operand::Output(1), mean, parts, scale),
            squares,
            sums(Operand::Scratch(0), part, Operand::Output(2), variance, parts, scale),
            apply,
        ];
        vec![Kernel { label: "two passes".to_owned(), dispatches, scratch: vec![Layout::bytes(part.ty, Packing::Channels)] }]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let inputs = [backward.dy(), backward.input(0), backward.input(1), backward.output(1), backward.output(2)];
        let gradients = backward.ops("x", BatchNormGrad { eps: self.eps, frozen: false }, &inputs)?;
        (0..3).for_each(|i| backward.give(i, gradients[i]));
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
