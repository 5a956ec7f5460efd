//! Gradient of a convolution's input on the CPU: for each tap a product with the transposed
//! weights, whose rows are added to the pixels that the tap reads. Plain loops for depthwise and
//! grouped convolutions.
//!
//! As in the forward pass, the split into blocks depends only on the shapes.

use super::cpu::floats;
use super::product::{View, of_views};
use super::{Conv2d, multiply};
use crate::ops::nn::window::Axis;
use crate::tensor::{KernelShape, Shape, Tensor};
use rayon::prelude::*;

/// Floats of a block of the gradient: small enough to stay in the L2 cache.
const BLOCK: usize = 1 << 16;
/// Minimum number of pixels of a block, regardless of their size: each block reads the whole
/// kernel.
const PIXELS: usize = 128;

pub(super) fn run(conv: &Conv2d, dy: &Tensor, w: &Tensor, dx: &mut Tensor) {
    let (xs, ws) = (dx.shape(), KernelShape::of(w.shape()));
    let (rows, columns) = conv.axes(xs, ws.size());
    let transposed = if conv.groups == 1 { transposed_taps(w.f32(), ws) } else { Vec::new() };
    let w = if conv.groups == 1 { &transposed } else { w.f32() };
    let call = Call { conv, rows, columns, dy: dy.f32(), ys: dy.shape(), w, ws, xs };
    let row = xs.w * xs.c;
    let lines = lines_per_block(xs);
    let images = dx.f32_mut().par_chunks_mut(row * xs.h).enumerate();
    let blocks = images.flat_map(|(image, dx)| {
        dx.par_chunks_mut(row * lines).enumerate().map(move |(b, dx)| (image, b, dx))
    });
    blocks.for_each(|(image, block, dx)| {
        let first = block * lines;
        if conv.groups == 1 {
            call.products(image, first, dx);
        } else if conv.is_depthwise(xs, ws) {
            call.depthwise(image, first, dx);
        } else {
            call.grouped(image, first, dx);
        }
    });
}

/// Returns the number of lines of the gradient in a block.
fn lines_per_block(xs: Shape) -> usize {
    let wanted = (BLOCK / (xs.w * xs.c).max(1)).max(PIXELS.div_ceil(xs.w.max(1)));
    // At least four blocks if there are four lines, so that every core has work on small maps.
    wanted.clamp(1, (xs.n * xs.h).div_ceil(4).max(1)).min(xs.h)
}

/// Returns the bytes that [`run`] allocates in addition to inputs and output: the transposed
/// weights, and per thread the contributions of a block's outputs through a tap.
pub(super) fn scratch(conv: &Conv2d, ys: Shape, ws: KernelShape, xs: Shape, threads: usize) -> u64 {
    if conv.groups != 1 {
        return 0;
    }
    let pixels = (lines_per_block(xs) + 1).saturating_mul(ys.w);
    let contributions = if conv.is_pointwise(ws) { 0 } else { pixels.saturating_mul(xs.c) };
    floats(ws.len()).saturating_add(floats(contributions).saturating_mul(threads as u64))
}

/// Transposes the matrix of each tap from `[C, O]` to `[O, C]`. Every block of the gradient
/// multiplies by it, and the product would otherwise gather its columns element by element each
/// time.
fn transposed_taps(w: &[f32], shape: KernelShape) -> Vec<f32> {
    /// Columns that are read together: one cache line.
    const LINE: usize = 16;
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let mut transposed = vec![0.0; w.len()];
    if w.is_empty() {
        return transposed;
    }
    let taps = transposed.par_chunks_mut(inputs * outputs).zip(w.par_chunks(inputs * outputs));
    taps.for_each(|(transposed, w)| {
        transposed.par_chunks_mut(LINE * inputs).enumerate().for_each(|(i, rows)| {
            for (c, from) in w.chunks_exact(outputs).enumerate() {
                let line = &from[i * LINE..];
                rows.chunks_exact_mut(inputs).zip(line).for_each(|(row, &value)| row[c] = value);
            }
        });
    });
    transposed
}

struct Call<'a> {
    conv: &'a Conv2d,
    rows: Axis,
    columns: Axis,
    dy: &'a [f32],
    ys: Shape,
    /// `[O, C]` per tap without groups, else `[C, O]` as usual.
    w: &'a [f32],
    ws: KernelShape,
    xs: Shape,
}

impl Call<'_> {
    /// Computes the rows of an image from `first` on.
    fn products(&self, image: usize, first: usize, dx: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        let row = xs.w * xs.c;
        let end = first + dx.len() / row;
        if self.conv.is_pointwise(ws) {
            let m = dx.len() / xs.c;
            let dy = &self.dy[ys.index(image, first, 0, 0)..][..m * ys.c];
            of_views(dx, View::rows(dy, ys.c), View::rows(self.w, xs.c), (m, ys.c, xs.c), false);
            return;
        }
        dx.fill(0.0);
        let mut contributions = Vec::new();
        for ky in 0..ws.height {
            // The outputs that read these rows through a row of the kernel are contiguous for any
            // stride.
            let lines = self.rows.windows(ky, first..end, ys.h);
            for kx in 0..ws.width {
                let across = self.columns.windows(kx, 0..xs.w, ys.w);
                if lines.is_empty() || across.is_empty() {
                    continue;
                }
                let m = lines.len() * ys.w;
                let dy = &self.dy[ys.index(image, lines.start, 0, 0)..][..m * ys.c];
                let w = &self.w[ws.index(ky, kx, 0, 0)..][..xs.c * ys.c];
                contributions.resize(m * xs.c, 0.0);
                of_views(
                    &mut contributions,
                    View::rows(dy, ys.c),
                    View::rows(w, xs.c),
                    (m, ys.c, xs.c),
                    false,
                );
                for (oy, contributions) in
                    lines.clone().zip(contributions.chunks_exact(ys.w * xs.c))
                {
                    let line = &mut dx[(self.rows.position(oy, ky) - first) * row..][..row];
                    for ox in across.clone() {
                        let pixel = &mut line[self.columns.position(ox, kx) * xs.c..][..xs.c];
                        let added = &contributions[ox * xs.c..][..xs.c];
                        for (sum, value) in pixel.iter_mut().zip(added) {
                            *sum += value;
                        }
                    }
                }
            }
        }
    }

    fn depthwise(&self, image: usize, first: usize, dx: &mut [f32]) {
        let (xs, ys) = (self.xs, self.ys);
        let mut taps = Vec::new();
        let across: Vec<Vec<(usize, usize)>> =
            (0..xs.w).map(|ix| self.columns.readers(ix, ys.w).collect()).collect();
        for (iy, line) in (first..).zip(dx.chunks_exact_mut(xs.w * xs.c)) {
            let down: Vec<(usize, usize)> = self.rows.readers(iy, ys.h).collect();
            for (dx, across) in line.chunks_exact_mut(xs.c).zip(&across) {
                taps.clear();
                for &(oy, ky) in &down {
                    for &(ox, kx) in across {
                        let dy = &self.dy[ys.index(image, oy, ox, 0)..][..ys.c];
                        taps.push((dy, &self.w[self.ws.index(ky, kx, 0, 0)..][..ys.c]));
                    }
                }
                multiply::sum_of_products(dx, &taps);
            }
        }
    }

    fn grouped(&self, image: usize, first: usize, dx: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        dx.fill(0.0);
        for (iy, line) in (first..).zip(dx.chunks_exact_mut(xs.w * xs.c)) {
            for (ix, dx) in line.chunks_exact_mut(xs.c).enumerate() {
                for (oy, ky) in self.rows.readers(iy, ys.h) {
                    for (ox, kx) in self.columns.readers(ix, ys.w) {
                        let dy = &self.dy[ys.index(image, oy, ox, 0)..][..ys.c];
                        let w = &self.w[ws.index(ky, kx, 0, 0)..][..ws.in_channels * ys.c];
                        add_groups(dx, dy, w, self.conv.groups);
                    }
                }
            }
        }
    }
}

/// Adds to the gradient of a pixel's channels the products of an output's gradient `dy` and the
/// weights `w` `[inputs of a group, outputs]` of the tap that reads the pixel.
fn add_groups(dx: &mut [f32], dy: &[f32], w: &[f32], groups: usize) {
    let (inputs, outputs) = (dx.len() / groups, dy.len() / groups);
    for (group, dx) in dx.chunks_exact_mut(inputs).enumerate() {
        let row = &dy[group * outputs..][..outputs];
        for (input, dx) in dx.iter_mut().enumerate() {
            let w = &w[input * dy.len() + group * outputs..][..outputs];
            *dx += row.iter().zip(w).map(|(dy, w)| dy * w).sum::<f32>();
        }
    }
}
