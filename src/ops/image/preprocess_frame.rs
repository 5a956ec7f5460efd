//! Scaling, normalization and padding of a camera frame (packed RGBA pixels) in one operation.

use super::preprocess::channels;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Packed images u32 `[N, h0, w0, 1]` (red in the lowest eight bits, then green and blue; the
/// highest eight are ignored) to f32 `[N, h, w, 3]`: scaled to `scaled` in the top left corner,
/// `byte * scale + shift` per channel, and padded with `pad_value`.
///
/// Scaling is bilinear with antialiasing, like [`resample`](crate::image::resample), but without
/// rounding to bytes in between. Along an axis from `n` to `m` pixels, output `d` has its center at
/// `c = (d + 1/2) * n / m`, source pixel `i` the weight `max(0, 1 - |i + 1/2 - c| / r)` with `r =
/// max(n / m, 1)`, and the weights are divided by their sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreprocessFrame {
    /// Size of the output.
    pub size: Size,
    /// Size of the scaled image, at most that of the output.
    pub scaled: Size,
    /// Factor of each channel: `1 / (255 * std)` for statistics of values in 0 to 1.
    pub scale: [f32; 3],
    /// Addend of each channel: `-mean / std`.
    pub shift: [f32; 3],
    /// Value of the padding rows and columns, already normalized.
    pub pad_value: [f32; 3],
}

/// Resampling filter along one axis: source pixels per output pixel, and the support to each side
/// in source pixels.
#[derive(Clone, Copy)]
struct Filter {
    step: f32,
    reach: f32,
    from: usize,
}

impl Filter {
    fn new(from: usize, to: usize) -> Self {
        let step = from as f32 / to as f32;
        Self { step, reach: step.max(1.0), from }
    }

    /// Returns the first source pixel of output `d`, and the weights from there on, which sum to 1.
    fn taps(&self, d: usize) -> (usize, Vec<f32>) {
        let center = (d as f32 + 0.5) * self.step;
        let first = (center - self.reach).floor().max(0.0) as usize;
        let end = ((center + self.reach).ceil() as usize).min(self.from);
        let weight = |i: usize| (1.0 - (i as f32 + 0.5 - center).abs() / self.reach).max(0.0);
        let sum: f32 = (first..end).map(weight).sum();
        (first, (first..end).map(|i| weight(i) / sum).collect())
    }
}

/// Returns the RGB values of a packed pixel, 0 to 255.
pub(super) fn colors(pixel: u32) -> [f32; 3] {
    [pixel, pixel >> 8, pixel >> 16].map(|v| (v & 255) as f32)
}

impl Op for PreprocessFrame {
    fn signature(&self) -> Signature {
        Signature::new("preprocess_frame").u32("packed pixels")
    }

    fn attributes(&self) -> String {
        let (scaled, size) = (self.scaled, self.size);
        format!("{}x{} in {}x{}", scaled.height, scaled.width, size.height, size.width)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        if shape.c != 1 {
            return Err(error!(
                Graph,
                "expected an image of packed pixels (one u32 channel), got {shape}"
            ));
        }
        let sides = [shape.size(), self.scaled, self.size].map(|size| [size.width, size.height]);
        // With this limit, positions in f32 are accurate to a small fraction of a pixel.
        if shape.is_empty() || sides.as_flattened().iter().any(|side| !(1..1 << 16).contains(side))
        {
            return Err(error!(Graph, "cannot scale {shape} to {} in {}", self.scaled, self.size));
        }
        if !self.scaled.fits_into(self.size) {
            return Err(error!(
                Graph,
                "an image of {} does not fit into {}", self.scaled, self.size
            ));
        }
        Ok(vec![TensorType::f32(shape.with_size(self.size).with_c(3))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].u32(), inputs[0].shape());
        let Size { width, height } = self.size;
        let scaled = self.scaled;
        let rows = Filter::new(from.h, scaled.height);
        let columns = Filter::new(from.w, scaled.width);
        let columns: Vec<_> = (0..scaled.width).map(|d| columns.taps(d)).collect();
        outputs[0].f32_mut().par_chunks_mut(width * 3).enumerate().for_each_init(
            Vec::new,
            |between, (line, y)| {
                let (n, oy) = (line / height, line % height);
                let inside = if oy < scaled.height { scaled.width } else { 0 };
                let (image, padding) = y.split_at_mut(inside * 3);
                padding.chunks_exact_mut(3).for_each(|y| y.copy_from_slice(&self.pad_value));
                if inside == 0 {
                    return;
                }
                between.clear();
                between.resize(from.w, [0f32; 3]);
                let (first, weights) = rows.taps(oy);
                for (row, weight) in (first..).zip(weights) {
                    for (sum, &pixel) in
                        between.iter_mut().zip(&x[from.index(n, row, 0, 0)..][..from.w])
                    {
                        let colors = colors(pixel);
                        (0..3).for_each(|c| sum[c] += weight * colors[c]);
                    }
                }
                for (y, (first, weights)) in image.chunks_exact_mut(3).zip(&columns) {
                    let mut sum = [0f32; 3];
                    for (pixel, weight) in between[*first..].iter().zip(weights) {
                        (0..3).for_each(|c| sum[c] += weight * pixel[c]);
                    }
                    (0..3).for_each(|c| y[c] = sum[c] * self.scale[c] + self.shift[c]);
                }
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (from, y) = (cx.inputs[0].ty.shape, cx.outputs[0]);
        let (rows, columns) =
            (Filter::new(from.h, self.scaled.height), Filter::new(from.w, self.scaled.width));
        let dispatch = Dispatch::new("image/preprocess_frame")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", y.ty.shape.positions())
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_scaled", self.scaled.height)
            .param("w_scaled", self.scaled.width)
            .param("h_out", self.size.height)
            .param("w_out", self.size.width)
            .layout("y", y)
            .param("y_step", rows.step)
            .param("y_reach", rows.reach)
            .param("x_step", columns.step)
            .param("x_reach", columns.reach)
            .threads(y.ty.shape.positions());
        vec![Kernel::single("pixel", channels(dispatch, self.scale, self.shift, self.pad_value))]
    }
}
