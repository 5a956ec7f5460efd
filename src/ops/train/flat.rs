//! Helpers of the operations on flat vectors: vectors `[1, 1, 1, L]` that contain all parameters
//! (or gradients, momenta, statistics) of a network one after another, each starting at a multiple
//! of [`BLOCK`].
//!
//! Values that differ from tensor to tensor (learning rate, weight decay) are two inputs: `groups`,
//! u32 `[1, 1, 1, L / BLOCK]`, the group of each block, and `table`, `[1, 1, groups, 4]`, four
//! numbers per group.

use crate::error::{Result, error};
use crate::ops::Signature;
use crate::ops::kernel::{Dispatch, KernelContext};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Elements per block; all elements of a block belong to the same group.
pub const BLOCK: usize = 64;

/// Returns the signature of an operation on flat vectors with these names, then a gradient scale
/// if there is one, then groups and table.
pub(super) fn signature(name: &'static str, vectors: &[&'static str], scale: bool) -> Signature {
    let vectors = vectors.iter().fold(Signature::new(name), |signature, name| signature.f32(name));
    vectors.f32_if(scale, "gradient scale").u32("groups").f32("table")
}

/// Checks the inputs: `vectors` flat vectors of equal length, then `[1, 1, 1, 4]` if there is a
/// `scale`, then groups and table.
pub(super) fn infer(inputs: &[TensorType], vectors: usize, scale: bool) -> Result<TensorType> {
    let count = vectors + usize::from(scale) + 2;
    let first = inputs[0];
    if first != TensorType::f32(Shape::vector(first.shape.c))
        || !first.shape.c.is_multiple_of(BLOCK)
    {
        return Err(error!(
            Graph,
            "expected a flat vector with a multiple of {BLOCK} elements, got {}", first.shape
        ));
    }
    if let Some(i) = (1..vectors).find(|&i| inputs[i] != first) {
        return Err(error!(
            Graph,
            "expected input {i} to have shape {} like the first, got {}",
            first.shape,
            inputs[i].shape
        ));
    }
    if scale && inputs[vectors] != TensorType::f32(Shape::vector(4)) {
        return Err(error!(
            Graph,
            "expected a gradient scale of shape [1, 1, 1, 4], got {}", inputs[vectors].shape
        ));
    }
    let (groups, table) = (inputs[count - 2], inputs[count - 1]);
    if groups != TensorType::u32(Shape::vector(first.shape.c / BLOCK)) {
        return Err(error!(
            Graph,
            "expected one u32 group for each of {} blocks, got {}",
            first.shape.c / BLOCK,
            groups.shape
        ));
    }
    if table != TensorType::f32(Shape::new(1, 1, table.shape.w, 4)) {
        return Err(error!(
            Graph,
            "expected a table of shape [1, 1, groups, 4], got {}", table.shape
        ));
    }
    Ok(first)
}

/// Blocks per task.
const RUN: usize = 256;

/// Calls `each` for each block of the outputs, in parallel, with the index of the block's first
/// element, the numbers of its group and the blocks.
pub(super) fn blocks<const N: usize>(
    outputs: &mut [Tensor],
    groups: &Tensor,
    table: &Tensor,
    each: impl Fn(usize, [f32; 4], [&mut [f32; BLOCK]; N]) + Sync,
) {
    let outputs: &mut [Tensor; N] = outputs.try_into().expect("invariant: infer returns N outputs");
    let mut remaining = outputs.each_mut().map(Tensor::f32_mut);
    let table = table.f32().as_chunks::<4>().0;
    let runs: Vec<(&[u32], [&mut [f32]; N])> = groups
        .u32()
        .chunks(RUN)
        .map(|groups| {
            let count = BLOCK * groups.len();
            let run = remaining
                .each_mut()
                .map(|all| all.split_off_mut(..count).expect("invariant: a group for each block"));
            (groups, run)
        })
        .collect();
    runs.into_par_iter().enumerate().for_each(|(run, (groups, mut numbers))| {
        let mut blocks =
            numbers.each_mut().map(|numbers| numbers.as_chunks_mut::<BLOCK>().0.iter_mut());
        for (i, &group) in groups.iter().enumerate() {
            // A group past the end of the table uses the last row, as in the shaders.
            let group = table[(group as usize).min(table.len() - 1)];
            let current = blocks
                .each_mut()
                .map(|blocks| blocks.next().expect("invariant: a group for each block"));
            each((run * RUN + i) * BLOCK, group, current);
        }
    });
}

/// Returns the block of a vector that starts at `first`.
pub(super) fn block(numbers: &[f32], first: usize) -> &[f32; BLOCK] {
    numbers[first..].first_chunk().expect("invariant: vectors are a multiple of blocks")
}

/// Creates the common part of the dispatches: one thread per four elements, with `groups` and
/// `table` bound as the last two inputs.
pub(super) fn dispatch(shader: &'static str, cx: &KernelContext) -> Dispatch {
    let (vectors, groups) = (cx.outputs[0].ty.shape.c4(), cx.inputs.len() - 2);
    Dispatch::new(shader)
        .constant("BLOCK_VECTORS", BLOCK as u32 / 4)
        .read("groups", groups)
        .read("table", groups + 1)
        .param("vectors", vectors)
        .param("last_group", cx.inputs[groups + 1].ty.shape.w - 1)
        .threads(vectors)
}
