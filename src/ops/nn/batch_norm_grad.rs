//! Gradients of batch normalization, with batch statistics or fixed statistics.

use super::channel_sum::{add, block, blocks, partial, sums};
use crate::error::Result;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::ops::wide::wide;
use crate::ops::{BatchNorm, Op, Packing, Signature, expect_gradient};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `[dy, x, weight, mean, variance]` to `[dx, dweight, dbias]`. With
/// `z = (x - mean) / sqrt(variance + eps)` and sums over all `n` positions of the batch,
/// `dbias = sum(dy)`, `dweight = sum(dy * z)`, and `dx = weight / sqrt(variance + eps) * (dy -
/// (dbias + z * dweight) / n)`; fixed statistics lack the term divided by `n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormGrad {
    /// Added to the variance; positive.
    pub eps: f32,
    /// Whether mean and variance are fixed instead of batch statistics.
    pub frozen: bool,
}

impl BatchNormGrad {
    /// Returns the sums of `dy * (x - mean)` of each channel, followed by the sums of `dy`.
    fn sums(&self, dy: &[f32], x: &[f32], mean: &[f32], positions: usize) -> Vec<f32> {
        let (c, block) = (mean.len(), block(positions));
        let mut parts = vec![0.0; positions.div_ceil(block) * 2 * c];
        let blocks = dy.par_chunks(block * c).zip(x.par_chunks(block * c));
        parts.par_chunks_exact_mut(2 * c).zip(blocks).for_each(|(part, (dy, x))| {
            let (products, plain) = part.split_at_mut(c);
            sums_of_block(products, plain, dy, x, mean);
        });
        let mut sums = vec![0.0; 2 * c];
        parts.chunks_exact(2 * c).for_each(|part| add(&mut sums, part));
        sums
    }
}

wide! {
    fn sums_of_block(products: &mut [f32], plain: &mut [f32], dy: &[f32], x: &[f32], mean: &[f32]) {
        let c = mean.len();
        let (products, plain) = (&mut products[..c], &mut plain[..c]);
        for (dy, x) in dy.chunks_exact(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                products[i] += dy[i] * (x[i] - mean[i]);
                plain[i] += dy[i];
            }
        }
    }

    /// `dx = factor * (dy - constant - slope * (x - mean))`, pixel by pixel.
    fn apply(dx: &mut [f32], dy: &[f32], x: &[f32], mean: &[f32], factor: &[f32], constant: &[f32], slope: &[f32]) {
        let c = mean.len();
        let (factor, constant, slope) = (&factor[..c], &constant[..c], &slope[..c]);
        for ((dx, dy), x) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)) {
            for i in 0..c {
                dx[i] = factor[i] * (dy[i] - constant[i] - slope[i] * (x[i] - mean[i]));
            }
        }
    }
}

impl Op for BatchNormGrad {
    fn signature(&self) -> Signature {
        Signature::new("batch_norm_grad")
            .f32("dy")
            .f32("x")
            .f32("weight")
            .f32("mean")
            .f32("variance")
    }

    fn attributes(&self) -> String {
        format!("eps {:e}{}", self.eps, if self.frozen { " frozen" } else { "" })
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let vector = TensorType::f32(Shape::vector(inputs[1].shape.c));
        BatchNorm { eps: self.eps }.infer(&[inputs[1], inputs[2], vector, inputs[3], inputs[4]])?;
        expect_gradient(inputs[1].shape, inputs[0].shape)?;
        Ok(vec![inputs[1], vector, vector])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (dy, x, shape) = (inputs[0].f32(), inputs[1].f32(), inputs[1].shape());
        let (positions, c) = (shape.positions(), shape.c);
        let (weight, mean, variance) = (inputs[2].f32(), inputs[3].f32(), inputs[4].f32());
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + self.eps).sqrt()).collect();
        let both = self.sums(dy, x, mean, positions);
        let (dweight, dbias) = both.split_at(c);
        let dweight: Vec<f32> =
            dweight.iter().zip(&inverse).map(|(sum, inverse)| sum * inverse).collect();
        outputs[1].f32_mut().copy_from_slice(&dweight);
        outputs[2].f32_mut().copy_from_slice(dbias);
        let inverse_count = if self.frozen { 0.0 } else { 1.0 / positions as f32 };
        let factor: Vec<f32> =
            weight.iter().zip(&inverse).map(|(w, inverse)| w * inverse).collect();
        let constant: Vec<f32> = dbias.iter().map(|db| db * inverse_count).collect();
        let slope: Vec<f32> = dweight
            .iter()
            .zip(&inverse)
            .map(|(dw, inverse)| dw * inverse * inverse_count)
            .collect();
        let row = shape.w * c;
        outputs[0]
            .f32_mut()
            .par_chunks_mut(row)
            .zip(dy.par_chunks(row))
            .zip(x.par_chunks(row))
            .for_each(|((dx, dy), x)| {
                apply(dx, dy, x, mean, &factor, &constant, &slope);
            });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (dy, x, dx) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
        let shape = x.ty.shape;
        let (positions, c4) = (shape.positions(), shape.c4());
        let parts = blocks(positions);
        let common = |shader| {
            Dispatch::new(shader)
                .read("dy", 0)
                .read("x", 1)
                .read("mean", 3)
                .read("variance", 4)
                .param("c4", c4)
                .layout("dy", dy)
                .layout("x", x)
                .param("eps", self.eps)
        };
        let first = partial(common("nn/batch_norm_grad_sums"), positions)
            .bind("sums", Operand::Scratch(0))
            .threads(parts * c4);
        // Each position of the scratch buffer contains the partial sums of dweight, then those of
        // dbias.
        let part = |offset: usize| TensorLayout {
            ty: TensorType::f32(Shape::new(1, 1, parts, shape.c)),
            pitch: 2 * c4 as u32,
            offset: offset as u32,
        };
        let apply = common("nn/batch_norm_grad")
            .read("weight", 2)
            .bind("dweight", Operand::Output(1))
            .bind("dbias", Operand::Output(2))
            .write("dx", 0)
            .param("pixels", positions)
            .layout("dx", dx)
            .param("share", if self.frozen { 0.0 } else { 1.0 / positions as f32 })
            .threads(positions * c4);
        let dispatches = vec![
            first,
            sums(Operand::Scratch(0), part(0), Operand::Output(1), cx.outputs[1], parts, 1.0),
            sums(Operand::Scratch(0), part(c4), Operand::Output(2), cx.outputs[2], parts, 1.0),
            apply,
        ];
        let scratch = TensorType::f32(Shape::new(1, 1, parts, 8 * c4));
        vec![Kernel {
            label: "two passes".to_owned(),
            dispatches,
            scratch: vec![TensorLayout::bytes(scratch, Packing::Channels)],
        }]
    }
}
