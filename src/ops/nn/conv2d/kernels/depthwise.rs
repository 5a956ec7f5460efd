//! Depthwise convolution: blocks of pixels (`shaders/nn/conv2d/depthwise_strips.wesl`), or one pixel
//! per thread.

use super::{Frame, direct, operands, reads_padding, weights};
use crate::ops::Conv2d;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};

/// Columns and rows of the candidate blocks.
const RUNS: [(usize, usize); 2] = [(4, 2), (4, 1)];
/// Largest number of taps for blocks, which keep all weights in registers. Larger kernels use the
/// shader that loops over the taps.
const MAX_TAPS: usize = 25;

/// Cost of a load in `vec4` multiply-adds, measured on a CPU. On a GPU loads matter too, because
/// the operation is memory-bound.
const LOAD: usize = 8;

/// Lists all candidates, the one expected to be fastest first: by the loads and multiplications of
/// the threads, including those outside the image.
pub(super) fn list(conv: &Conv2d, cx: &KernelContext) -> Vec<Kernel> {
    let w = weights(cx);
    let taps = w.taps();
    let pixelwise = Kernel::single("depthwise", direct(conv, cx, "nn/conv2d/depthwise"));
    let mut all = vec![(cx.outputs[0].ty.shape.positions() * taps * (2 * LOAD + 1), pixelwise)];
    all.extend(RUNS.into_iter().filter_map(|run| blocks(conv, cx, run)));
    all.sort_by_key(|(cost, _)| *cost);
    all.into_iter().map(|(_, kernel)| kernel).collect()
}

/// Partition of an axis into strips.
struct Axis {
    /// Distance between consecutive pixels of a strip, in outputs.
    step: usize,
    /// Distance between the windows of consecutive pixels, in loaded inputs.
    spread: usize,
    /// Number of inputs that a strip loads.
    loads: usize,
    /// Number of strips.
    strips: usize,
}

/// Returns the partition of an axis, or `None` if windows do not overlap. Windows overlap if the
/// pixels of a strip are one dilation apart, or if they are neighbors and not dilated.
fn axis(size: usize, run: usize, taps: usize, stride: usize, dilation: usize) -> Option<Axis> {
    let (step, spread) = match (run, stride, dilation) {
        (1, ..) => (1, 1),
        (_, 1, _) => (dilation, 1),
        (_, _, 1) if stride <= taps => (1, stride),
        _ => return None,
    };
    Some(Axis {
        step,
        spread,
        loads: (run - 1) * spread + taps,
        strips: size.div_ceil(step * run) * step,
    })
}

/// Returns the kernel of a block and its cost, or `None` if windows do not overlap.
fn blocks(
    conv: &Conv2d,
    cx: &KernelContext,
    (run_x, run_y): (usize, usize),
) -> Option<(usize, Kernel)> {
    let (w, y) = (weights(cx), cx.outputs[0].ty.shape);
    let taps = w.taps();
    if taps > MAX_TAPS {
        return None;
    }
    let rows = axis(y.h, run_y, w.height, conv.stride.y, conv.dilation.y)?;
    let columns = axis(y.w, run_x, w.width, conv.stride.x, conv.dilation.x)?;
    let threads = y.n * rows.strips * columns.strips;
    let cost = threads * ((rows.loads * columns.loads + taps) * LOAD + taps * run_x * run_y);
    let dispatch = operands(Dispatch::new("nn/conv2d/depthwise_strips"), conv, cx, Frame::of(cx))
        .when("strips", true)
        .when("blocks", true)
        .when("padded", reads_padding(conv, cx))
        .constant("RUN_X", run_x as u32)
        .constant("RUN_Y", run_y as u32)
        .constant("TAPS_X", w.width as u32)
        .constant("TAPS_Y", w.height as u32)
        .constant("SPREAD_X", columns.spread as u32)
        .constant("SPREAD_Y", rows.spread as u32)
        .constant("COLUMNS", columns.loads as u32)
        .constant("ROWS", rows.loads as u32)
        .constant("WEIGHTS", taps as u32)
        .param("strips", columns.strips)
        .param("step", columns.step)
        .param("strips_y", rows.strips)
        .param("step_y", rows.step)
        .threads(threads * y.c4());
    Some((cost, Kernel::single(format!("depthwise {run_x}x{run_y}"), dispatch)))
}
