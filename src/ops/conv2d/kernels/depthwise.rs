//! Depthwise convolution: blocks of pixels (`shaders/conv2d/depthwise_strips.wesl`), and one pixel
//! a thread.

use super::{Frame, direct, operands, reads_padding};
use crate::ops::conv2d::Conv2d;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};

/// Columns and rows of the blocks.
const RUNS: [(usize, usize); 2] = [(4, 2), (4, 1)];
/// More taps than this are left to the form that loops over them: blocks hold all weights in
/// registers.
const MAX_TAPS: usize = 25;

/// What a load costs, in multiplications of a vec4 with an addition: measured on a processor; on a
/// GPU the loads count too, since the operation is bound by memory.
const LOAD: usize = 8;

/// All candidates, the one expected to be fastest first: by the threads' loads and multiplications,
/// those beyond the image included.
pub(super) fn list(conv: &Conv2d, cx: &KernelContext) -> Vec<Kernel> {
    let w = cx.inputs[1].ty.shape;
    let taps = w.n * w.h;
    let one = Kernel::one("depthwise", direct(conv, cx, "conv2d/depthwise"));
    let mut all = vec![(cx.outputs[0].ty.shape.positions() * taps * (2 * LOAD + 1), one)];
    all.extend(RUNS.into_iter().filter_map(|run| blocks(conv, cx, run)));
    all.sort_by_key(|(cost, _)| *cost);
    all.into_iter().map(|(_, kernel)| kernel).collect()
}

/// How an axis is cut into strips.
struct Axis {
    /// Outputs from one pixel of a strip to the next.
    step: usize,
    /// Inputs from one pixel's window to the next, in loaded ones.
    spread: usize,
    /// Inputs that a strip loads.
    loads: usize,
    /// Strips.
    strips: usize,
}

/// Windows overlap where the pixels of a strip are a dilation apart, or where neighbors' are not
/// dilated.
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

/// The kernel of a block with what it costs, or `None` where windows do not overlap.
fn blocks(
    conv: &Conv2d,
    cx: &KernelContext,
    (run_x, run_y): (usize, usize),
) -> Option<(usize, Kernel)> {
    let (w, y) = (cx.inputs[1].ty.shape, cx.outputs[0].ty.shape);
    let taps = w.n * w.h;
    if taps > MAX_TAPS {
        return None;
    }
    let rows = axis(y.h, run_y, w.n, conv.stride.0, conv.dilation.0)?;
    let columns = axis(y.w, run_x, w.h, conv.stride.1, conv.dilation.1)?;
    let threads = y.n * rows.strips * columns.strips;
    let cost = threads * ((rows.loads * columns.loads + taps) * LOAD + taps * run_x * run_y);
    let dispatch = operands(Dispatch::new("conv2d/depthwise_strips"), conv, cx, Frame::of(cx))
        .when("strips", true)
        .when("blocks", true)
        .when("padded", reads_padding(conv, cx))
        .constant("RUN_X", run_x as u32)
        .constant("RUN_Y", run_y as u32)
        .constant("TAPS_X", w.h as u32)
        .constant("TAPS_Y", w.n as u32)
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
    Some((cost, Kernel::one(format!("depthwise {run_x}x{run_y}"), dispatch)))
}
