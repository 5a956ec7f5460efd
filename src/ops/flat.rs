//! What operations on flat vectors share: vectors `[1, 1, 1, L]` in which all the parameters (or gradients, momenta, statistics) of a
//! network lie one after the other, each from a multiple of [`BLOCK`] on.
//!
//! What differs from tensor to tensor (learning rate, weight decay) comes as `groups` u32 `[1, 1, 1, L / BLOCK]`, the group of each
//! block, and `table` `[1, 1, groups, 4]`, four numbers of each group.

use super::kernel::{Dispatch, KernelContext};
use crate::error::{Result, error};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Numbers that belong to one group.
pub const BLOCK: usize = 64;

/// Checks `vectors` flat vectors of one length, then `[1, 1, 1, 4]` where there is a `scale`, then groups and table.
pub(super) fn infer(inputs: &[TensorType], vectors: usize, scale: bool) -> Result<TensorType> {
    let count = vectors + usize::from(scale) + 2;
    if inputs.len() != count {
        return Err(error!(Graph, "takes {count} inputs, got {}", inputs.len()));
    }
    let first = inputs[0];
    if first != TensorType::f32(Shape::vector(first.shape.c)) || !first.shape.c.is_multiple_of(BLOCK) {
        return Err(error!(Graph, "expected a flat vector of a multiple of {BLOCK} numbers, got {}", first.shape));
    }
    if let Some(i) = (1..vectors).find(|&i| inputs[i] != first) {
        return Err(error!(Graph, "expected input {i} to be {} like the first, got {}", first.shape, inputs[i].shape));
    }
    if scale && inputs[vectors] != TensorType::f32(Shape::vector(4)) {
        return Err(error!(Graph, "expected the scale of the gradients as [1, 1, 1, 4], got {}", inputs[vectors].shape));
    }
    let (groups, table) = (inputs[count - 2], inputs[count - 1]);
    if groups != TensorType::u32(Shape::vector(first.shape.c / BLOCK)) {
        return Err(error!(Graph, "expected a group u32 for each of {} blocks, got {}", first.shape.c / BLOCK, groups.shape));
    }
    if table != TensorType::f32(Shape::new(1, 1, table.shape.w, 4)) {
        return Err(error!(Graph, "expected four numbers of each group as [1, 1, groups, 4], got {}", table.shape));
    }
    Ok(first)
}

/// Calls `each` with the first element and the group's numbers of each block of the outputs, in parallel.
pub(super) fn blocks(
    outputs: &mut [Tensor],
    groups: &Tensor,
    table: &Tensor,
    each: impl Fn(usize, &[f32], &mut [&mut [f32]]) + Sync,
) {
    let mut rows: Vec<Vec<&mut [f32]>> = (0..groups.u32().len()).map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        output.f32_mut().chunks_exact_mut(BLOCK).zip(&mut rows).for_each(|(block, row)| row.push(block));
    }
    rows.par_iter_mut().zip(groups.u32()).enumerate().with_min_len(256).for_each(|(i, (row, &group))| {
        // A group that the table lacks takes the last, as in the shaders.
        let group = (group as usize).min(table.shape().w - 1);
        each(i * BLOCK, &table.f32()[4 * group..][..4], row);
    });
}

/// What the shaders share: a thread for every four numbers. `vectors` are the inputs behind those that are updated in place.
pub(super) fn dispatch(shader: &'static str, cx: &KernelContext) -> Dispatch {
    let (vectors, groups) = (cx.outputs[0].ty.shape.c4(), cx.inputs.len() - 2);
    Dispatch::new(shader)
        .read("groups", groups)
        .read("table", groups + 1)
        .param("vectors", vectors)
        .param("last_group", cx.inputs[groups + 1].ty.shape.w - 1)
        .threads(vectors)
}
