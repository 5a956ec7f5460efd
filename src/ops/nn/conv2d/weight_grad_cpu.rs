//! Gradient of a convolution's weights on the CPU: a product of the transposed im2col matrix and
//! the output's gradient, one block of lines at a time. Plain loops for depthwise and grouped
//! convolutions.
//!
//! A task computes some rows of the kernel, viewed as a matrix `[kh * kw * C, O]`. If those are
//! few, the lines are split into parts too; the parts are added in order. The split depends only on
//! the shapes.

use super::Conv2d;
use super::cpu::floats;
use super::multiply::add_products;
use super::product::{View, of_views};
use crate::ops::nn::window::Axis;
use crate::tensor::{KernelShape, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of the kernel's matrix per task: each task reads the whole gradient, which pays off only
/// over many rows.
const ROWS: usize = 128;
/// Floats of an im2col block.
const BLOCK: usize = 1 << 15;
/// Floats of the result that are accumulated together.
const PIECE: usize = 1 << 13;
/// Target number of tasks: a few per core of a typical machine.
const TASKS: usize = 16;

pub(super) fn run(conv: &Conv2d, x: &Tensor, dy: &Tensor, dw: &mut Tensor) {
    let (xs, ys, ws) = (x.shape(), dy.shape(), KernelShape::of(dw.shape()));
    let (rows, columns) = conv.axes(xs, ws.size());
    let call = Call { conv, rows, columns, x: x.f32(), xs, dy: dy.f32(), ys, ws };
    let lines = ys.n * ys.h;
    let (chunk, parts) = split(conv, ws, lines);
    let lines_of = |part: usize| part * lines / parts..(part + 1) * lines / parts;
    let task = |chunk_index: usize, lines: Range<usize>, out: &mut [f32]| match conv.groups {
        1 => call.products(chunk_index * ROWS, lines, out),
        _ => call.sums(lines, out),
    };
    let dw = dw.f32_mut();
    if parts == 1 {
        dw.par_chunks_mut(chunk).enumerate().for_each(|(i, out)| task(i, 0..lines, out));
        return;
    }
    let size = dw.len();
    let mut sums = vec![0.0; parts * size];
    sums.par_chunks_mut(size).enumerate().for_each(|(part, sums)| {
        sums.par_chunks_mut(chunk).enumerate().for_each(|(i, out)| task(i, lines_of(part), out));
    });
    // Add the parts piece by piece, so that the sum stays in the cache. The order of additions per
    // element is the same.
    dw.par_chunks_mut(PIECE).enumerate().for_each(|(i, dw)| {
        dw.fill(0.0);
        for part in sums.chunks_exact(size) {
            dw.iter_mut().zip(&part[i * PIECE..]).for_each(|(sum, part)| *sum += part);
        }
    });
}

/// Returns the floats per task and the number of parts that the lines are split into.
fn split(conv: &Conv2d, ws: KernelShape, lines: usize) -> (usize, usize) {
    let chunk = if conv.groups == 1 { ROWS * ws.out_channels } else { ws.len() };
    (chunk, TASKS.div_ceil(ws.len().div_ceil(chunk)).min(lines))
}

/// Returns the bytes that [`run`] allocates in addition to inputs and output: the sums of all
/// parts, and per thread an im2col block.
pub(super) fn scratch(conv: &Conv2d, xs: Shape, ys: Shape, ws: KernelShape, threads: usize) -> u64 {
    if ws.is_empty() {
        return 0;
    }
    let (_, parts) = split(conv, ws, ys.n * ys.h);
    let sums = if parts == 1 { 0 } else { floats(ws.len()).saturating_mul(parts as u64) };
    let columns = ws.taps() * xs.c;
    let block = if conv.groups != 1 || conv.is_pointwise(ws) {
        0
    } else {
        BLOCK.max(columns.min(ROWS).saturating_mul(ys.w))
    };
    sums.saturating_add(floats(block).saturating_mul(threads as u64))
}

/// One convolution with its operands. "Lines" are rows of the output, numbered through the batch.
struct Call<'a> {
    conv: &'a Conv2d,
    rows: Axis,
    columns: Axis,
    x: &'a [f32],
    xs: Shape,
    dy: &'a [f32],
    ys: Shape,
    ws: KernelShape,
}

/// The input channels of a tap that a task needs.
struct Segment {
    ky: usize,
    kx: usize,
    /// First input channel.
    channel: usize,
    /// Number of channels.
    channels: usize,
    /// Position of the first channel in the task.
    at: usize,
}

impl Call<'_> {
    /// Computes the rows of the kernel's matrix from `first` on that fit into `out`, summed over
    /// some lines.
    fn products(&self, first: usize, lines: Range<usize>, out: &mut [f32]) {
        let (xs, ys) = (self.xs, self.ys);
        let count = out.len() / ys.c;
        out.fill(0.0);
        let per_block = (BLOCK / (count * ys.w).max(1)).max(1);
        let blocks =
            lines.clone().step_by(per_block).map(|start| start..(start + per_block).min(lines.end));
        let dy_of =
            |block: &Range<usize>| &self.dy[block.start * ys.w * ys.c..block.end * ys.w * ys.c];
        if self.conv.is_pointwise(self.ws) {
            for block in blocks {
                let m = block.len() * ys.w;
                let x = &self.x[block.start * ys.w * xs.c + first..];
                of_views(
                    out,
                    View::transposed(x, xs.c),
                    View::rows(dy_of(&block), ys.c),
                    (count, m, ys.c),
                    true,
                );
            }
            return;
        }
        let segments = self.segments(first, count);
        let mut inputs = Vec::new();
        for block in blocks {
            let m = block.len() * ys.w;
            inputs.clear();
            inputs.resize(m * count, 0.0);
            let mut reads_input = false;
            for (index, line) in block.clone().enumerate() {
                for segment in &segments {
                    reads_input |= self.gather(
                        segment,
                        line,
                        &mut inputs[index * ys.w * count..][..ys.w * count],
                        count,
                    );
                }
            }
            // With large dilations many taps of many lines read only padding.
            if reads_input {
                of_views(
                    out,
                    View::transposed(&inputs, count),
                    View::rows(dy_of(&block), ys.c),
                    (count, m, ys.c),
                    true,
                );
            }
        }
    }

    fn segments(&self, first: usize, count: usize) -> Vec<Segment> {
        let (c, mut row, mut segments) = (self.xs.c, first, Vec::new());
        while row < first + count {
            let (tap, channel) = (row / c, row % c);
            let channels = (c - channel).min(first + count - row);
            segments.push(Segment {
                ky: tap / self.ws.width,
                kx: tap % self.ws.width,
                channel,
                channels,
                at: row - first,
            });
            row += channels;
        }
        segments
    }

    /// Copies the inputs that a line reads through a tap, `count` floats per output. Returns
    /// whether there were any.
    fn gather(&self, segment: &Segment, line: usize, to: &mut [f32], count: usize) -> bool {
        let (image, oy) = (line / self.ys.h, line % self.ys.h);
        let across = self.columns.windows(segment.kx, 0..self.xs.w, self.ys.w);
        if !self.rows.taps(oy).contains(&segment.ky) || across.is_empty() {
            return false;
        }
        let iy = self.rows.position(oy, segment.ky);
        for ox in across {
            let from =
                self.xs.index(image, iy, self.columns.position(ox, segment.kx), segment.channel);
            to[ox * count + segment.at..][..segment.channels]
                .copy_from_slice(&self.x[from..][..segment.channels]);
        }
        true
    }

    /// Computes all weights of a depthwise or grouped convolution, summed over some lines.
    fn sums(&self, lines: Range<usize>, out: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        let depthwise = self.conv.is_depthwise(xs, ws);
        out.fill(0.0);
        for line in lines {
            let (image, oy) = (line / ys.h, line % ys.h);
            for ky in self.rows.taps(oy) {
                let iy = self.rows.position(oy, ky);
                for kx in 0..ws.width {
                    let dw = &mut out[ws.index(ky, kx, 0, 0)..][..ws.in_channels * ws.out_channels];
                    let across = self.columns.windows(kx, 0..xs.w, ys.w);
                    if depthwise && !across.is_empty() {
                        let x = &self.x
                            [xs.index(image, iy, self.columns.position(across.start, kx), 0)..];
                        let dy = &self.dy[(line * ys.w + across.start) * ys.c..];
                        add_products(dw, (x, self.conv.stride.x * xs.c), (dy, ys.c), across.len());
                        continue;
                    }
                    for ox in across {
                        let x = &self.x[xs.index(image, iy, self.columns.position(ox, kx), 0)..]
                            [..xs.c];
                        let dy = &self.dy[(line * ys.w + ox) * ys.c..][..ys.c];
                        add_groups(dw, x, dy, self.conv.groups);
                    }
                }
            }
        }
    }
}

/// Adds the products of a pixel's channels `x` and an output's gradient `dy` to the gradient of a
/// tap's weights `[inputs of a group, outputs]`, group by group.
fn add_groups(dw: &mut [f32], x: &[f32], dy: &[f32], groups: usize) {
    let (inputs, outputs, row) = (x.len() / groups, dy.len() / groups, dy.len());
    for (group, dy) in dy.chunks_exact(outputs).enumerate() {
        for (input, x) in x[group * inputs..][..inputs].iter().enumerate() {
            let dw = &mut dw[input * row + group * outputs..][..outputs];
            dw.iter_mut().zip(dy).for_each(|(dw, dy)| *dw += x * dy);
        }
    }
}
