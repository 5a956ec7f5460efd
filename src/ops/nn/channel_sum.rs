//! Per-channel sums over an image or over the whole batch (the gradient of a bias or of any value
//! broadcast to all pixels).
//!
//! Sums are computed from partial sums (one per block of positions), so that the rounding error
//! grows with the square root of the number of values instead of linearly. Both executors add in
//! the same order.

use crate::error::Result;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::ops::{Op, Packing, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `[N, H, W, C]` to `[N, 1, 1, C]`, or `[1, 1, 1, C]`: the sum of each channel, times `scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelSum {
    /// Whether to compute one sum per image instead of one for the batch.
    pub per_image: bool,
    /// Factor applied to the sums.
    pub scale: f32,
}

/// Returns the number of positions in a block: about the square root of `positions`, so that both
/// levels of the summation have about the same length.
pub(crate) fn block(positions: usize) -> usize {
    positions.isqrt().max(16)
}

impl ChannelSum {
    /// Returns the shape of the input viewed as `[sums, 1, positions, C]`.
    fn rows(&self, x: Shape) -> Shape {
        if self.per_image {
            Shape::new(x.n, 1, x.h * x.w, x.c)
        } else {
            Shape::new(1, 1, x.positions(), x.c)
        }
    }
}

impl Op for ChannelSum {
    fn signature(&self) -> Signature {
        Signature::new("channel_sum").f32("x")
    }

    fn attributes(&self) -> String {
        format!(
            "of {}{}",
            if self.per_image { "each image" } else { "the batch" },
            if self.scale == 1.0 { "" } else { ", scaled" }
        )
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let rows = self.rows(inputs[0].shape);
        // Without positions there is no sum; an empty output makes the graph reject the node.
        Ok(vec![TensorType::f32(rows.with_hw(1, usize::from(rows.w > 0)))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let rows = self.rows(inputs[0].shape());
        let (positions, c) = (rows.w, rows.c);
        for (x, y) in inputs[0]
            .f32()
            .chunks_exact(positions * c)
            .zip(outputs[0].f32_mut().chunks_exact_mut(c))
        {
            let sums = sum_positions(positions, c, |p, sum| add(sum, &x[p * c..][..c]));
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * self.scale);
        }
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let rows = self.rows(cx.inputs[0].ty.shape);
        let as_rows =
            |layout: TensorLayout, shape| TensorLayout { ty: TensorType::f32(shape), ..layout };
        let (x, y) = (as_rows(cx.inputs[0], rows), as_rows(cx.outputs[0], rows.with_hw(1, 1)));
        let block = block(rows.w);
        let parts = rows.w.div_ceil(block);
        if parts == 1 {
            return vec![Kernel::single(
                "one step",
                sums(Operand::Input(0), x, Operand::Output(0), y, rows.w, self.scale),
            )];
        }
        let part = TensorLayout::contiguous(TensorType::f32(rows.with_hw(1, parts)));
        let dispatches = vec![
            sums(Operand::Input(0), x, Operand::Scratch(0), part, block, 1.0),
            sums(Operand::Scratch(0), part, Operand::Output(0), y, parts, self.scale),
        ];
        vec![Kernel {
            label: "two steps".to_owned(),
            dispatches,
            scratch: vec![TensorLayout::bytes(part.ty, Packing::Channels)],
        }]
    }
}

/// Computes `values` sums over the positions; `each` adds the contribution of a position. Runs in
/// parallel, with a fixed order of additions.
pub(crate) fn sum_positions(
    positions: usize,
    values: usize,
    each: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let block = block(positions);
    let mut parts = vec![0.0; positions.div_ceil(block) * values];
    parts.par_chunks_exact_mut(values).enumerate().for_each(|(i, part)| {
        (i * block..positions.min((i + 1) * block)).for_each(|p| each(p, part));
    });
    let mut sums = vec![0.0; values];
    parts.chunks_exact(values).for_each(|part| add(&mut sums, part));
    sums
}

/// Returns the number of [`partial`] sums for a number of positions.
pub(crate) fn blocks(positions: usize) -> usize {
    positions.div_ceil(block(positions))
}

/// Sets how a shader with its own partial sums divides the positions: the members `positions`,
/// `block` and `parts`.
pub(crate) fn partial(dispatch: Dispatch, positions: usize) -> Dispatch {
    let parts = blocks(positions);
    dispatch.param("positions", positions).param("block", block(positions)).param("parts", parts)
}

/// Creates a dispatch that sums each run of `block` positions of each image and multiplies by
/// `scale`.
pub(crate) fn sums(
    x: Operand,
    from: TensorLayout,
    y: Operand,
    to: TensorLayout,
    block: usize,
    scale: f32,
) -> Dispatch {
    let (xs, ys) = (from.ty.shape, to.ty.shape);
    Dispatch::new("nn/channel_sum")
        .bind("x", x)
        .bind("y", y)
        .param("parts", ys.positions())
        .param("c4", ys.c4())
        .param("positions", xs.h * xs.w)
        .param("parts_per_image", ys.h * ys.w)
        .param("block", block)
        .param("scale", scale)
        .layout("x", from)
        .layout("y", to)
        .threads(ys.positions() * ys.c4())
}

pub(crate) fn add(sum: &mut [f32], x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}
