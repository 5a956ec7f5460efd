//! Batch normalization with batch statistics, for training.

use crate::error::{Result, error};
use crate::graph::Backward;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::ops::nn::channel_sum::{block, blocks, partial, sums};
use crate::ops::wide::wide;
use crate::ops::{BatchNorm, BatchNormGrad, Op, Packing, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `[x, weight, bias]` to `[y, mean, variance]`: `y = (x - mean) / sqrt(variance + eps) * weight +
/// bias`, with the mean and the (biased) variance of each channel over the batch and the map (Ioffe
/// and Szegedy 2015, algorithm 1). `x` is `[N, H, W, C]`, the vectors are `[1, 1, 1, C]`.
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

/// Views all positions of the batch as one row.
fn one_row(layout: TensorLayout) -> TensorLayout {
    let s = layout.ty.shape;
    TensorLayout { ty: TensorType::f32(Shape::new(1, 1, s.positions(), s.c)), ..layout }
}

/// Returns the mean of each channel and the sum of squared deviations from it, in one pass over
/// memory: the moments of a block are computed while it is in the cache, and combined as in Chan,
/// Golub and LeVeque 1979 (formula 1.5). Subtracting from the sum of squares of the values
/// themselves would cancel.
fn moments(x: &[f32], positions: usize, c: usize) -> (Vec<f64>, Vec<f64>) {
    let block = block(positions);
    let mut parts = vec![0.0; positions.div_ceil(block) * 3 * c];
    let blocks = parts.par_chunks_exact_mut(3 * c).zip(x.par_chunks(block * c));
    blocks.for_each(|(part, x)| {
        let (mean, rest) = part.split_at_mut(c);
        let (off, squares) = rest.split_at_mut(c);
        moments_of_block(mean, off, squares, x);
    });
    // There are few blocks, so combining them in f64 is cheap.
    let parts: Vec<(f64, &[f32])> = parts
        .chunks_exact(3 * c)
        .enumerate()
        .map(|(i, part)| ((positions - i * block).min(block) as f64, part))
        .collect();
    // A block's mean is rounded to f32; `off` is the sum of the deviations from the rounded mean.
    let mean_of = |n: f64, part: &[f32], i: usize| f64::from(part[i]) + f64::from(part[c + i]) / n;
    let mean_of_all =
        |i| parts.iter().map(|&(n, part)| n * mean_of(n, part, i)).sum::<f64>() / positions as f64;
    let mean: Vec<f64> = (0..c).map(mean_of_all).collect();
    let squares_of = |i: usize| {
        let of_part = |&(n, part): &(f64, &[f32])| {
            let inside = f64::from(part[2 * c + i]) - f64::from(part[c + i]).powi(2) / n;
            inside.max(0.0) + n * (mean_of(n, part, i) - mean[i]).powi(2)
        };
        parts.iter().map(of_part).sum()
    };
    let squares = (0..c).map(squares_of).collect();
    (mean, squares)
}

wide! {
    /// Computes for each channel of a block the mean rounded to f32, the sum of the deviations from
    /// it, and the sum of their squares. The outputs must be zero on entry.
    fn moments_of_block(mean: &mut [f32], off: &mut [f32], squares: &mut [f32], x: &[f32]) {
        let c = mean.len();
        x.chunks_exact(c).for_each(|x| mean.iter_mut().zip(x).for_each(|(sum, x)| *sum += x));
        let scale = c as f32 / x.len() as f32;
        mean.iter_mut().for_each(|sum| *sum *= scale);
        for x in x.chunks_exact(c) {
            for (((off, squares), x), mean) in off.iter_mut().zip(squares.iter_mut()).zip(x).zip(&*mean) {
                let d = x - mean;
                *off += d;
                *squares += d * d;
            }
        }
    }
}

impl Op for BatchNormTrain {
    fn signature(&self) -> Signature {
        Signature::new("batch_norm_train").f32("x").f32("weight").f32("bias")
    }

    fn attributes(&self) -> String {
        format!("eps {:e}", self.eps)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (x, vector) = (inputs[0], TensorType::f32(Shape::vector(inputs[0].shape.c)));
        // Same checks as with fixed statistics.
        self.norm().infer(&[x, inputs[1], inputs[2], vector, vector])?;
        if x.shape.positions() < 2 {
            return Err(error!(
                Graph,
                "batch statistics need more than one value per channel, got {}", x.shape
            )
            .advice("use a larger batch or image, or fixed statistics for this norm"));
        }
        Ok(vec![x, vector, vector])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, shape) = (inputs[0].f32(), inputs[0].shape());
        let (positions, c) = (shape.positions(), shape.c);
        let (mean, squares) = moments(x, positions, c);
        let [y, mean_out, variance] = outputs else {
            unreachable!("invariant: infer returns three outputs")
        };
        mean_out.f32_mut().iter_mut().zip(mean).for_each(|(out, mean)| *out = mean as f32);
        variance
            .f32_mut()
            .iter_mut()
            .zip(squares)
            .for_each(|(out, sum)| *out = (sum / positions as f64) as f32);
        self.norm()
            .cpu(&[inputs[0], inputs[1], inputs[2], mean_out, variance], std::slice::from_mut(y))
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (one_row(cx.inputs[0]), cx.outputs[0]);
        let shape = x.ty.shape;
        let (mean, variance) = (cx.outputs[1], cx.outputs[2]);
        let scale = 1.0 / shape.w as f32;
        let parts = blocks(shape.w);
        let part = TensorLayout::contiguous(TensorType::f32(shape.with_hw(1, parts)));
        let squares = partial(Dispatch::new("train/batch_norm_train"), shape.w)
            .read("x", 0)
            .bind("mean", Operand::Output(1))
            .bind("squares", Operand::Scratch(0))
            .param("c4", shape.c4())
            .layout("x", x)
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
        vec![Kernel {
            label: "two passes".to_owned(),
            dispatches,
            scratch: vec![TensorLayout::bytes(part.ty, Packing::Channels)],
        }]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        // Means and variances may be read only to update running statistics.
        if backward.output_gradient(0).is_none()
            || backward.output_gradient(1).or(backward.output_gradient(2)).is_some()
        {
            return Err(error!(
                Graph,
                "batch statistics have no gradient, but a differentiated node reads them"
            ));
        }
        let inputs = [
            backward.dy(),
            backward.input(0),
            backward.input(1),
            backward.output(1),
            backward.output(2),
        ];
        let gradients =
            backward.ops("x", BatchNormGrad { eps: self.eps, frozen: false }, &inputs)?;
        for (i, gradient) in gradients.into_iter().take(3).enumerate() {
            backward.add_gradient(i, gradient);
        }
        Ok(())
    }
}
