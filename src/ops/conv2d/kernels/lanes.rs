//! Implicit GEMM in registers (`shaders/conv2d/lanes.wesl`): families `subgroup` and `register`.

use super::{Frame, operands, reads_padding};
use crate::ops::conv2d::Conv2d;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};

/// What one lane computes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// Pixels.
    m: usize,
    /// `vec4`s of output channels.
    n: usize,
    /// `vec4`s of input channels in one step.
    k: usize,
    /// Whether the taps of a row of the kernel share the columns that they load.
    window: bool,
}

/// Columns that a lane may hold at once: more than that spill.
const MAX_COLUMNS: usize = 24;

/// All candidates.
pub(super) fn list(conv: &Conv2d, cx: &KernelContext) -> Vec<Kernel> {
    let mut all = Vec::new();
    let subgroup = cx.caps.subgroup.filter(|(min, max)| min == max).map(|(size, _)| size as usize);
    for (m, n, k, window) in [
        (4, 8, 1, false),
        (6, 4, 1, false),
        (6, 4, 2, false),
        (8, 4, 1, false),
        (11, 2, 1, false),
        (4, 8, 1, true),
        (6, 4, 1, true),
        (8, 4, 1, true),
        (11, 2, 1, true),
        (3, 8, 1, true),
        (8, 8, 1, false),
        (4, 16, 1, false),
        (6, 8, 1, false),
        (6, 8, 1, true),
        (8, 8, 1, true),
    ] {
        let tile = Tile { m, n, k, window };
        if let Some(size) = subgroup {
            all.extend(kernel(conv, cx, tile, size, true));
        }
    }
    for (m, n, k, window) in [(8, 4, 1, false), (8, 2, 1, true)] {
        let tile = Tile { m, n, k, window };
        all.extend(kernel(conv, cx, tile, if cx.caps.software { 8 } else { 64 }, false));
    }
    all
}

/// The kernel of a tile, or `None` where the tile does not fit the convolution or the device. `lanes` is the size of a workgroup,
/// with `subgroup` that of every subgroup of the device.
fn kernel(conv: &Conv2d, cx: &KernelContext, tile: Tile, lanes: usize, subgroup: bool) -> Option<Kernel> {
    let (x, w) = (cx.inputs[0].ty.shape, cx.inputs[1].ty.shape);
    let block = 4 * tile.n * tile.k;
    if conv.groups > 1 || x.c4() % tile.k != 0 || (subgroup && !block.is_multiple_of(lanes)) {
        return None;
    }
    let (stride, dilation) = (conv.stride.1, conv.dilation.1);
    // Pixels a dilation apart read the same columns; with a stride, neighbours do as long as nothing is dilated.
    let (taps, step, spread) = match (tile.window, stride, dilation) {
        (false, ..) => (1, 1, 1),
        (true, 1, _) => (w.h, dilation, 1),
        (true, _, 1) => (w.h, 1, stride),
        (true, ..) => return None,
    };
    let columns = (tile.m - 1) * spread + taps;
    if tile.window && (w.h == 1 || columns > MAX_COLUMNS) {
        return None;
    }
    let frame = if conv.is_pointwise(w) { Frame::one_row(cx) } else { Frame::of(cx) };
    let y = frame.y;
    let strips = y.w.div_ceil(step * tile.m) * step;
    let column_step = if taps > 1 && stride > 1 { 1 } else { step * if taps > 1 { 1 } else { stride } };
    let groups = (y.n * y.h * strips).div_ceil(lanes) * y.c4().div_ceil(tile.n);
    let loads = if subgroup { block / lanes } else { tile.n };
    let padded = reads_padding(conv, cx);
    let family = if subgroup { "subgroup" } else { "register" };
    let unrolled = if tile.k > 1 { format!(" k{}", 4 * tile.k) } else { String::new() };
    let label = format!("{family} {}x{}{unrolled}{}", tile.m, 4 * tile.n, if tile.window { " window" } else { "" });
    let dispatch = operands(Dispatch::new("conv2d/lanes"), conv, cx, frame)
        .when("strips", true)
        .when("subgroup", subgroup)
        .when("padded", padded)
        .constant("LANES", lanes as u32)
        .constant("TILE_M", tile.m as u32)
        .constant("TILE_N", tile.n as u32)
        .constant("TILE_K", tile.k as u32)
        .constant("TAPS", taps as u32)
        .constant("COLUMNS", columns as u32)
        .constant("SPREAD", spread as u32)
        .constant("LOADS", loads as u32)
        .param("strips", strips)
        .param("step", step)
        .param("column_step", column_step)
        .groups(groups);
    Some(Kernel::one(label, dispatch))
}
