//! Convolution on the CPU: im2col over blocks of output rows and a matrix product; plain loops for
//! depthwise and grouped convolutions.
//!
//! The split into blocks depends only on the shapes, not on the number of threads, so results are
//! bit-reproducible.

use super::product::product;
use super::{Conv2d, multiply};
use crate::tensor::{KernelShape, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Floats of an im2col block and of an output block: small enough to stay in the L2 cache.
const BLOCK: usize = 1 << 17;
/// Minimum number of pixels of a block, regardless of their size: each block reads the whole
/// kernel, which pays off only over many pixels.
const PIXELS: usize = 128;

pub(super) fn run(conv: &Conv2d, inputs: &[&Tensor], y: &mut Tensor) {
    let (x, w) = (inputs[0], inputs[1]);
    let call = Call {
        conv,
        x: x.f32(),
        xs: x.shape(),
        w: w.f32(),
        ws: KernelShape::of(w.shape()),
        ys: y.shape(),
        bias: conv.bias.then(|| inputs[2]),
        residual: conv.residual_index().map(|i| inputs[i].f32()),
    };
    let row = call.ys.w * call.ys.c;
    let rows = rows_per_block(call.ws, call.ys);
    y.f32_mut().par_chunks_mut(row * rows).enumerate().for_each(|(block, out)| {
        let first = block * rows;
        let lines = first..first + out.len() / row;
        if conv.groups == 1 {
            call.gemm(lines.clone(), out);
        } else if conv.is_depthwise(call.xs, call.ws) {
            call.depthwise(lines.clone(), out);
        } else {
            call.grouped(lines.clone(), out);
        }
        call.epilogue(lines, out);
    });
}

/// Returns the bytes that [`run`] allocates in addition to inputs and output: per thread an im2col
/// block, the kernel of the taps in use, and the packed operands of the product.
pub(super) fn scratch(conv: &Conv2d, xs: Shape, ws: KernelShape, ys: Shape, threads: usize) -> u64 {
    if conv.groups != 1 {
        return 0;
    }
    let rows = rows_per_block(ws, ys);
    let blocks = (ys.n * ys.h).div_ceil(rows);
    let (m, k) = (rows.saturating_mul(ys.w), ws.taps() * xs.c);
    let columns = if conv.is_pointwise(ws) {
        0
    } else {
        m.saturating_mul(k).saturating_add(k * ws.out_channels)
    };
    floats(columns.saturating_add(packed(k, ws.out_channels)))
        .saturating_mul(threads.min(blocks) as u64)
}

/// Returns the bytes of `count` floats.
pub(super) fn floats(count: usize) -> u64 {
    (count as u64).saturating_mul(4)
}

/// Returns the floats of a product's second factor `[k, n]` that are packed at a time, plus an
/// equal number for the first factor.
fn packed(k: usize, n: usize) -> usize {
    /// Largest extent of `k` that the product processes at once.
    const DEPTH: usize = 1 << 10;
    2 * k.min(DEPTH) * n
}

fn rows_per_block(ws: KernelShape, ys: Shape) -> usize {
    let lines = ys.n * ys.h;
    let floats = ys.w * ws.reduction().max(ys.c);
    // At least four blocks if there are four lines, so that every core has work on small maps.
    (BLOCK / floats.max(1)).max(PIXELS / ys.w.max(1)).clamp(1, lines.div_ceil(4).max(1))
}

/// One convolution with its operands. "Lines" are rows of the output, numbered through the batch.
struct Call<'a> {
    conv: &'a Conv2d,
    x: &'a [f32],
    xs: Shape,
    w: &'a [f32],
    ws: KernelShape,
    ys: Shape,
    bias: Option<&'a Tensor>,
    residual: Option<&'a [f32]>,
}

/// Consecutive taps in a row of the kernel.
struct Run {
    ky: usize,
    /// Kernel column of the first tap.
    kx: usize,
    /// Position of the first tap among all taps in use.
    first: usize,
    /// Number of taps.
    taps: usize,
}

impl Call<'_> {
    /// Returns the input row that a tap reads, or `None` if the tap reads padding.
    fn input_row(&self, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.conv.stride.y + ky * self.conv.dilation.y)
            .checked_sub(self.conv.padding.top)
            .filter(|&y| y < self.xs.h)
    }

    fn input_column(&self, ox: usize, kx: usize) -> Option<usize> {
        (ox * self.conv.stride.x + kx * self.conv.dilation.x)
            .checked_sub(self.conv.padding.left)
            .filter(|&x| x < self.xs.w)
    }

    fn gemm(&self, lines: Range<usize>, out: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        let (m, k, n) = (lines.len() * ys.w, ws.reduction(), ws.out_channels);
        if self.conv.is_pointwise(ws) {
            let start = lines.start * ys.w * xs.c;
            product(out, &self.x[start..start + m * k], self.w, (m, k, n));
            return;
        }
        // Skip taps that read only padding in this block: with dilation 18 on a 33x33 map these are
        // most taps.
        let taps: Vec<(usize, usize)> = (0..ws.height)
            .flat_map(|ky| (0..ws.width).map(move |kx| (ky, kx)))
            .filter(|&(ky, kx)| {
                lines.clone().any(|line| self.input_row(line % ys.h, ky).is_some())
                    && (0..ys.w).any(|ox| self.input_column(ox, kx).is_some())
            })
            .collect();
        if taps.is_empty() {
            out.fill(0.0);
            return;
        }
        let all = taps.len() == ws.taps();
        let k = taps.len() * xs.c;
        let mut columns = vec![0.0; m * k];
        let runs = self.runs(&taps);
        for (index, line) in lines.enumerate() {
            let (image, oy) = (line / ys.h, line % ys.h);
            for run in &runs {
                let Some(iy) = self.input_row(oy, run.ky) else { continue };
                for ox in 0..ys.w {
                    // The taps of the run inside the image.
                    let left = (ox * self.conv.stride.x + run.kx * self.conv.dilation.x) as isize
                        - self.conv.padding.left as isize;
                    let (skip, end) =
                        ((-left).max(0), (xs.w as isize - left).min(run.taps as isize));
                    if skip >= end {
                        continue;
                    }
                    let from = xs.index(image, iy, (left + skip) as usize, 0);
                    let to = (index * ys.w + ox) * k + (run.first + skip as usize) * xs.c;
                    let floats = (end - skip) as usize * xs.c;
                    columns[to..to + floats].copy_from_slice(&self.x[from..from + floats]);
                }
            }
        }
        if all {
            product(out, &columns, self.w, (m, k, n));
        } else {
            let rows = xs.c * n;
            let kernel: Vec<f32> = taps
                .iter()
                .flat_map(|&(ky, kx)| &self.w[(ky * ws.width + kx) * rows..][..rows])
                .copied()
                .collect();
            product(out, &columns, &kernel, (m, k, n));
        }
    }

    /// Groups taps that read neighboring pixels of a row, so that one copy serves them all. Dilated
    /// taps form groups of one.
    fn runs(&self, taps: &[(usize, usize)]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (first, &(ky, kx)) in taps.iter().enumerate() {
            match runs.last_mut() {
                Some(run)
                    if self.conv.dilation.x == 1 && run.ky == ky && run.kx + run.taps == kx =>
                {
                    run.taps += 1
                }
                _ => runs.push(Run { ky, kx, first, taps: 1 }),
            }
        }
        runs
    }

    fn depthwise(&self, lines: Range<usize>, out: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        let c = ys.c;
        let mut taps = Vec::with_capacity(ws.taps());
        for (line, row) in lines.zip(out.chunks_exact_mut(ys.w * c)) {
            let (image, oy) = (line / ys.h, line % ys.h);
            for (ox, y) in row.chunks_exact_mut(c).enumerate() {
                taps.clear();
                for ky in 0..ws.height {
                    let Some(iy) = self.input_row(oy, ky) else { continue };
                    for kx in 0..ws.width {
                        let Some(ix) = self.input_column(ox, kx) else { continue };
                        taps.push((
                            &self.x[xs.index(image, iy, ix, 0)..][..c],
                            &self.w[(ky * ws.width + kx) * c..][..c],
                        ));
                    }
                }
                multiply::sum_of_products(y, &taps);
            }
        }
    }

    fn grouped(&self, lines: Range<usize>, out: &mut [f32]) {
        let (xs, ws, ys) = (self.xs, self.ws, self.ys);
        let group = ws.in_channels;
        let is_square = group * self.conv.groups == ys.c;
        let mut taps = Vec::with_capacity(ws.taps());
        for (line, row) in lines.zip(out.chunks_exact_mut(ys.w * ys.c)) {
            let (image, oy) = (line / ys.h, line % ys.h);
            for (ox, y) in row.chunks_exact_mut(ys.c).enumerate() {
                taps.clear();
                for ky in 0..ws.height {
                    let Some(iy) = self.input_row(oy, ky) else { continue };
                    for kx in 0..ws.width {
                        let Some(ix) = self.input_column(ox, kx) else { continue };
                        taps.push((
                            &self.x[xs.index(image, iy, ix, 0)..][..xs.c],
                            &self.w[ws.index(ky, kx, 0, 0)..][..group * ys.c],
                        ));
                    }
                }
                if is_square && multiply::sum_of_grouped_products(y, &taps, group) {
                    continue;
                }
                y.fill(0.0);
                for (x, w) in &taps {
                    add_groups(y, x, w, self.conv.groups);
                }
            }
        }
    }

    /// Applies bias, residual and activation, pixel by pixel.
    fn epilogue(&self, lines: Range<usize>, out: &mut [f32]) {
        let c = self.ys.c;
        let start = lines.start * self.ys.w;
        for (pixel, y) in (start..).zip(out.chunks_exact_mut(c)) {
            if let Some(bias) = self.bias {
                let image = if bias.shape().n > 1 { pixel / (self.ys.w * self.ys.h) } else { 0 };
                y.iter_mut().zip(&bias.f32()[image * c..][..c]).for_each(|(y, b)| *y += b);
            }
            if let Some(residual) = self.residual {
                y.iter_mut().zip(&residual[pixel * c..][..c]).for_each(|(y, r)| *y += r);
            }
            match self.conv.activation {
                super::Activation::Identity => {}
                super::Activation::Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
                super::Activation::Relu6 => y.iter_mut().for_each(|y| *y = y.clamp(0.0, 6.0)),
                other => y.iter_mut().for_each(|y| *y = other.apply(*y)),
            }
        }
    }
}

/// Adds the products of a pixel's channels `x` and a tap's weights `w` `[inputs of a group, outputs]`
/// to the outputs of a pixel, each group from its own input channels.
fn add_groups(sums: &mut [f32], x: &[f32], w: &[f32], groups: usize) {
    let (inputs, outputs, row) = (x.len() / groups, sums.len() / groups, sums.len());
    for (group, sums) in sums.chunks_exact_mut(outputs).enumerate() {
        for (input, x) in x[group * inputs..][..inputs].iter().enumerate() {
            let w = &w[input * row + group * outputs..][..outputs];
            sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += x * w);
        }
    }
}
