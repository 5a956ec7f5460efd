//! Implicit GEMM in registers (`shaders/nn/conv2d/lanes.wesl`): kernel families `subgroup` and
//! `register`.

use super::{Frame, operands, reads_padding, weights};
use crate::ops::Conv2d;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::tensor::KernelShape;

/// Tile computed by one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// Pixels.
    m: usize,
    /// `vec4`s of output channels.
    n: usize,
    /// `vec4`s of input channels per step.
    k: usize,
    /// Whether the taps of a row of the kernel share the columns that they load.
    window: bool,
}

const fn tile(m: usize, n: usize, k: usize, window: bool) -> Tile {
    Tile { m, n, k, window }
}

/// Tiles that share their weights within a subgroup. Selected from 17 tiles on lavapipe over 22
/// convolutions of real networks; omitting the other seven costs at most 2 %.
const SUBGROUP: [Tile; 10] = [
    tile(4, 8, 1, false),
    tile(6, 4, 1, false),
    tile(6, 4, 2, false),
    tile(6, 8, 1, false),
    tile(8, 8, 1, false),
    tile(4, 16, 1, false),
    tile(4, 8, 1, true),
    tile(6, 4, 1, true),
    tile(6, 8, 1, true),
    tile(8, 8, 1, true),
];

/// Tiles for devices without subgroups: every lane loads all its weights, so tiles have fewer
/// output channels per pixel.
const REGISTER: [Tile; 2] = [tile(8, 4, 1, false), tile(8, 2, 1, true)];

/// The tile for compilers that cannot handle more ([`Caps::short_code`](crate::ops::kernel::Caps)):
/// SwiftShader compiles it in 0.1 s. Compilation of the tile for other software devices was aborted
/// after four minutes and 20 GB.
const SHORT: [Tile; 1] = [tile(4, 2, 1, false)];

/// Maximum number of columns that a lane keeps in registers: more would spill.
const MAX_COLUMNS: usize = 24;

/// Maximum number of accumulators of a lane on a GPU: more would reduce occupancy. On a CPU they
/// are in the cache.
const MAX_ACCUMULATORS: usize = 32;

/// Lists all candidates, the one expected to be fastest first.
pub(super) fn list(conv: &Conv2d, cx: &KernelContext) -> Vec<Kernel> {
    let subgroup =
        cx.caps.subgroup.filter(|sizes| sizes.min == sizes.max).map(|sizes| sizes.max as usize);
    // Workgroup size without subgroups.
    let lanes = if cx.caps.software { 8 } else { 64 };
    let (shared, single): (&[Tile], &[Tile]) =
        if cx.caps.short_code { (&[], &SHORT) } else { (&SUBGROUP, &REGISTER) };
    let shared = shared.iter().filter_map(|&tile| kernel(conv, cx, tile, subgroup?, true));
    let single = single.iter().filter_map(|&tile| kernel(conv, cx, tile, lanes, false));
    let mut all: Vec<(f64, Kernel)> = shared.chain(single).collect();
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    all.into_iter().map(|(_, kernel)| kernel).collect()
}

/// Returns the cost of `lanes` lanes in `vec4` multiply-adds: `steps` steps of `loads` loads and
/// `taps` taps, then the stores. Fitted to lavapipe: over 22 convolutions of real networks the
/// first candidate takes 1.04 times as long as the fastest in the geometric mean, and at most 1.2
/// times.
fn cost(tile: Tile, lanes: usize, steps: usize, loads: usize, taps: usize) -> f64 {
    // About 50 cycles for 8 lanes, against 4.5 for a multiply-add.
    const LOAD: f64 = 11.0;
    // Accumulators past the first 32 are spilled and reloaded.
    const SPILL: f64 = 0.22;
    // Steps with more instructions than this do not stay in the instruction cache.
    const CODE: usize = 800;
    const FETCH: f64 = 1.3;
    let accumulators = tile.m * tile.n;
    let code = 4 * taps * tile.k * accumulators;
    let fetch = if code > CODE { FETCH } else { 1.0 };
    let spilled = accumulators.saturating_sub(32) * 4 * taps * tile.k;
    let step = LOAD * loads as f64 + fetch * code as f64 + SPILL * spilled as f64;
    lanes as f64 * (steps as f64 * step + 2.0 * LOAD * accumulators as f64)
}

impl Tile {
    fn label(&self, subgroup: bool) -> String {
        let family = if subgroup { "subgroup" } else { "register" };
        let unrolled = if self.k > 1 { format!(" k{}", 4 * self.k) } else { String::new() };
        let window = if self.window { " window" } else { "" };
        format!("{family} {}x{}{unrolled}{window}", self.m, 4 * self.n)
    }
}

/// The columns that the pixels of a lane read.
struct Strip {
    /// Taps of a row of the kernel that are applied to one load.
    taps: usize,
    /// Distance between consecutive pixels of a lane, in outputs.
    step: usize,
    /// Distance between the windows of consecutive pixels, in loaded columns.
    spread: usize,
    /// Number of columns that a lane loads.
    columns: usize,
}

impl Strip {
    /// Returns the columns of a tile, or `None` if its pixels do not share any.
    fn new(conv: &Conv2d, w: KernelShape, tile: Tile) -> Option<Self> {
        let (stride, dilation) = (conv.stride.x, conv.dilation.x);
        // Pixels one dilation apart read the same columns; with a stride, neighbors do if nothing
        // is dilated.
        let (taps, step, spread) = match (tile.window, stride, dilation) {
            (false, ..) => (1, 1, 1),
            (true, 1, _) => (w.width, dilation, 1),
            (true, _, 1) => (w.width, 1, stride),
            (true, ..) => return None,
        };
        let columns = (tile.m - 1) * spread + taps;
        let is_shared = w.width > 1 && columns <= MAX_COLUMNS;
        (!tile.window || is_shared).then_some(Self { taps, step, spread, columns })
    }
}

/// Returns the kernel of a tile and its cost, or `None` if the tile does not fit the convolution or
/// the device. `lanes` is the workgroup size; with `subgroup` it is also the size of every subgroup
/// of the device.
fn kernel(
    conv: &Conv2d,
    cx: &KernelContext,
    tile: Tile,
    lanes: usize,
    subgroup: bool,
) -> Option<(f64, Kernel)> {
    let (x, w) = (cx.inputs[0].ty.shape, weights(cx));
    let block = 4 * tile.n * tile.k;
    let crowded = !cx.caps.software && tile.m * tile.n > MAX_ACCUMULATORS;
    if conv.groups > 1
        || x.c4() % tile.k != 0
        || (subgroup && !block.is_multiple_of(lanes))
        || crowded
    {
        return None;
    }
    let Strip { taps, step, spread, columns } = Strip::new(conv, w, tile)?;
    let stride = conv.stride.x;
    let frame = if conv.is_pointwise(w) { Frame::one_row(cx) } else { Frame::of(cx) };
    let y = frame.y;
    let strips = y.w.div_ceil(step * tile.m) * step;
    let column_step =
        if taps > 1 && stride > 1 { 1 } else { step * if taps > 1 { 1 } else { stride } };
    let groups = (y.n * y.h * strips).div_ceil(lanes) * y.c4().div_ceil(tile.n);
    let loads = if subgroup { block / lanes } else { tile.n };
    let padded = reads_padding(conv, cx);
    let dispatch = operands(Dispatch::new("nn/conv2d/lanes"), conv, cx, frame)
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
    let steps = w.height * w.width.div_ceil(taps) * (x.c4() / tile.k);
    let weights = taps * if subgroup { block / lanes } else { block };
    // Lanes outside the image and vec4s past the last channel count too: they are the waste of a
    // tile.
    let cost = cost(tile, groups * lanes, steps, tile.k * columns + weights, taps);
    Some((cost, Kernel::single(tile.label(subgroup), dispatch)))
}
