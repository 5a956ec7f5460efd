//! The loss on a device: dispatches that compute a few numbers per pixel, then sums in a fixed
//! order, then the gradient, which each score gathers from the pixels that read it.

use super::cross_entropy::SERIES_BELOW;
use super::focal::LEAST_MISSING;
use super::{Denominator, SegmentationLoss};
use crate::ops::Packing;
use crate::ops::bilinear::Grid;
use crate::ops::channel_sum::{block, blocks, sums};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand, TensorLayout};
use crate::tensor::{Shape, TensorType};

/// `[pixels]` vec4: loss, contribution to the denominator, log-sum-exp, factor. With Dice, the mean
/// slope of Dice later replaces the loss.
const PIXELS: Operand = Operand::Scratch(0);
/// Partial sums of [`PIXELS`].
const PARTS: Operand = Operand::Scratch(1);
/// Sums of [`PIXELS`].
const TOTALS: Operand = Operand::Scratch(2);

/// Bits of a loss per round of the radix selection. The sign is known.
const DIGIT: u32 = 8;
/// Pixels per thread that makes a histogram of digits. A workgroup has a thread for each digit.
const COUNTED: u32 = 16;

/// Returns the layout of `[1, 1, positions, 4 * vec4s]`.
fn row(positions: usize, vec4s: usize) -> TensorLayout {
    TensorLayout::contiguous(TensorType::f32(Shape::new(1, 1, positions, 4 * vec4s)))
}

fn bytes(layout: TensorLayout) -> u64 {
    TensorLayout::bytes(layout.ty, Packing::Channels)
}

/// Lists the only kernel; empty if shaders cannot compute the interpolation exactly.
pub(super) fn list(op: &SegmentationLoss, cx: &KernelContext) -> Vec<Kernel> {
    let (from, to) = (cx.inputs[0].ty.shape, cx.inputs[1].ty.shape);
    let grid = op.grid(from, to);
    if !grid.fits_u32() {
        return Vec::new();
    }
    let (pixels, loss) = (to.positions(), &op.pixel);
    let parts = blocks(pixels);
    let mut scratch = [row(pixels, 1), row(parts, 1), row(1, 1)].map(bytes).to_vec();
    let (weighted, smoothed, focal) = (loss.weighted, loss.smoothing > 0.0, loss.gamma > 0.0);

    let mut first = common(op, "train/pixel_loss/pixels", grid, cx)
        .when("weighted", weighted)
        .when("smoothed", smoothed)
        .when("focal", focal)
        .when("by_pixels", loss.denominator == Denominator::Pixels)
        .constant("SERIES_BELOW", SERIES_BELOW)
        .constant("LEAST_MISSING", LEAST_MISSING)
        .bind("pixels", PIXELS)
        .threads(pixels);
    if weighted {
        first = first.read("weights", 2);
    }
    let mut dispatches = vec![first];
    if loss.mined {
        dispatches.extend(mine(op, pixels, &mut scratch));
    }
    dispatches.push(sums(PIXELS, row(pixels, 1), PARTS, row(parts, 1), block(pixels), 1.0));
    dispatches.push(sums(PARTS, row(parts, 1), TOTALS, row(1, 1), parts, 1.0));
    let classes = loss.dice.map(|_| dice(op, grid, cx, &mut dispatches, &mut scratch));

    let mut last = common(op, "train/pixel_loss/gather", grid, cx)
        .when("weighted", weighted && smoothed)
        .when("smoothed", smoothed)
        .when("dice", loss.dice.is_some())
        .bind("pixels", PIXELS)
        .bind("totals", TOTALS)
        .write("loss", 0)
        .write("gradient", 1)
        .threads(from.positions() * from.c4());
    if weighted && smoothed {
        last = last.read("weights", 2);
    }
    if let Some(classes) = classes {
        last = last.bind("class_sums", classes);
    }
    dispatches.push(last);
    vec![Kernel { label: "pixel".to_owned(), dispatches, scratch }]
}

/// Creates a dispatch with the bindings and sizes that all shaders importing
/// `shaders/train/pixel_loss/common.wesl` need.
fn common(op: &SegmentationLoss, shader: &'static str, grid: Grid, cx: &KernelContext) -> Dispatch {
    let (x, to, gradient) = (cx.inputs[0], cx.inputs[1].ty.shape, cx.outputs[1]);
    let (from, loss) = (x.ty.shape, &op.pixel);
    let dice = loss.dice.unwrap_or(super::Dice { weight: 0.0, ..super::Dice::PLAIN });
    let dispatch = Dispatch::new(shader)
        .when("resized", from.size() != to.size())
        .read("x", 0)
        .read("labels", 1)
        .param("count", to.positions())
        .param("classes", from.c)
        .param("c4", from.c4())
        .param("ignored", loss.ignore)
        .param("smoothing", loss.smoothing)
        .param("gamma", loss.gamma)
        .param("factor", op.factor)
        .param("dice_factor", op.factor * dice.weight)
        .param("dice_smooth", dice.smooth)
        .param("dice_first", dice.first_class())
        .param("block", block(to.positions()))
        .param("parts", blocks(to.positions()))
        .param("batch", from.n)
        .param("h_in", from.h)
        .param("w_in", from.w)
        .param("h_out", to.h)
        .param("w_out", to.w)
        .layout("x", x)
        .layout("g", gradient);
    grid.params(dispatch)
}

/// Finds the threshold digit by digit, and leaves out the pixels below it.
///
/// A radix selection: each round makes a histogram of the next digit of the losses whose previous
/// digits equal the threshold's; then one workgroup finds the digit of the k-th largest loss.
/// Counts are integers, so the order of their additions does not affect the result.
fn mine(op: &SegmentationLoss, pixels: usize, scratch: &mut Vec<u64>) -> Vec<Dispatch> {
    let (bins, state) = (Operand::Scratch(scratch.len()), Operand::Scratch(scratch.len() + 1));
    scratch.extend([4 << DIGIT, 16]);
    let pick = |shift: u32| {
        Dispatch::new("train/pixel_loss/pick")
            .constant("BINS", 1u32 << DIGIT)
            .bind("bins", bins)
            .bind("state", state)
            .param("shift", shift)
    };
    let start = pick(0)
        .when("start", true)
        .read("share", op.fraction_input())
        .param("count", pixels)
        .groups(1);
    let mut dispatches = vec![start];
    for shift in (0..32).step_by(DIGIT as usize).rev() {
        let count = Dispatch::new("train/pixel_loss/count")
            .constant("BINS", 1u32 << DIGIT)
            .constant("COUNTED", COUNTED)
            .constant("DIGIT", DIGIT)
            .bind("pixels", PIXELS)
            .bind("bins", bins)
            .bind("state", state)
            .param("count", pixels)
            .param("shift", shift as u32)
            .groups(pixels.div_ceil((COUNTED as usize) << DIGIT));
        dispatches.extend([count, pick(shift as u32).param("count", pixels).groups(1)]);
    }
    dispatches.push(
        Dispatch::new("train/pixel_loss/keep")
            .bind("pixels", PIXELS)
            .bind("state", state)
            .param("count", pixels)
            .threads(pixels),
    );
    dispatches
}

/// Adds the dispatches that Dice needs before the gradient. Returns the buffer of the sums over the
/// pixels.
fn dice(
    op: &SegmentationLoss,
    grid: Grid,
    cx: &KernelContext,
    dispatches: &mut Vec<Dispatch>,
    scratch: &mut Vec<u64>,
) -> Operand {
    let pixels = cx.inputs[1].ty.shape.positions();
    let (parts, c4) = (blocks(pixels), cx.inputs[0].ty.shape.c4());
    // Three vec4s for every four classes.
    let (partial, total) = (Operand::Scratch(scratch.len()), Operand::Scratch(scratch.len() + 1));
    scratch.extend([row(parts, 3 * c4), row(1, 3 * c4)].map(bytes));
    dispatches.extend([
        common(op, "train/pixel_loss/dice_sums", grid, cx)
            .bind("pixels", PIXELS)
            .bind("sums", partial)
            .threads(parts * c4),
        sums(partial, row(parts, 3 * c4), total, row(1, 3 * c4), parts, 1.0),
        common(op, "train/pixel_loss/dice_mean", grid, cx)
            .bind("pixels", PIXELS)
            .bind("class_sums", total)
            .threads(pixels),
    ]);
    total
}
