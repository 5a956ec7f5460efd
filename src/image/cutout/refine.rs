//! The opacity of a cut-out's edge from the network's probability and the image's own edges.
//!
//! The network's output has one value for a cell of several pixels, so its border can be off by as much.
//! Around the border, a guided filter fits the probabilities by the image's colors, and so moves the
//! border to where the colors change. Passes with smaller windows then do the same with the result.
//! Elsewhere a pixel is opaque or transparent.

use super::guided::{Cell, Coefficients, GuidedFilter, ONE};
use super::smooth_step;
use super::sums::{Windows, between};
use crate::error::Result;
use crate::geometry::Size;
use crate::image::Image;
use crate::memory;
use rayon::prelude::*;

/// Radius of the first windows in cells of the network's output: far enough that they contain both
/// sides of a border that is off by a cell.
const RADIUS: f32 = 1.0;
/// Minimum radius of the first windows in pixels.
const MIN_RADIUS: usize = 4;
/// Number of passes, each with half of the radius of the one before.
const PASSES: u32 = 3;
/// Largest radius in cells of the filter's grid. The coefficients vary as slowly as the windows are
/// wide, so a grid of a few cells in a radius suffices (He, Sun: "Fast Guided Filter", 2015).
const MAX_CELLS: usize = 4;
/// Variance of colors of 0 to 1 that is noise.
const EPSILON: f64 = 1e-4;
/// Probabilities up to this are fitted as 0, and from 1 minus this on as 1.
const CERTAIN: f32 = 0.3;
/// Filtered values up to this are transparent, and from 1 minus this on opaque.
const CONTRAST: f32 = 0.2;
/// Fraction of the surroundings on the other side of a border, up to which a pixel's opacity is
/// limited. A straight border at the distance of a radius gives 1/8.
const NEAR: f32 = 0.125;
/// Probability up to which opacity is limited.
const POSSIBLE: f32 = 0.1;
/// Part of the first radius over which the result is averaged, at least 1 pixel.
const SOFT_PART: usize = 16;
/// Mean opacity up to which a pixel is transparent.
const INWARDS: f32 = 0.25;
/// Rows of pixels in a strip that is averaged.
const SOFT_ROWS: usize = 64;
/// Rows of cells in a strip.
const STRIP: usize = 24;
/// Limit on the memory of strips that are processed at the same time, in bytes, unless a single one
/// needs more.
const STRIPS_BYTES: usize = 32 << 20;

/// Returns the opacity of each pixel, `[height, width]`, 0 to 255. `foreground` is the probability of the
/// kept classes, `[height, width]`, and `cell` the side of a cell of the network's output in pixels.
///
/// # Errors
/// Returns an error if there is not enough memory.
pub(super) fn alpha(image: &Image, foreground: Vec<f32>, cell: f32) -> Result<Vec<u8>> {
    let radius = radius(image.size(), cell);
    let mut alpha = Pass::new(image.size(), radius).alpha(image, |at| foreground[at])?;
    drop(foreground);
    for halvings in 1..PASSES {
        let before = alpha;
        let value = |at: usize| f32::from(before[at]) / 255.0;
        alpha = Pass::new(image.size(), radius >> halvings).alpha(image, value)?;
    }
    softened(&alpha, image.size(), (radius / SOFT_PART).max(1))
}

/// Averages the opacity over small windows, and moves the edge inwards. The passes leave steps of one
/// pixel, while a photo's edges are mixed over several: those pixels have to be part of the edge for
/// their colors to be corrected.
fn softened(alpha: &[u8], size: Size, radius: usize) -> Result<Vec<u8>> {
    let windows = Windows { grid: size, radius };
    let mut soft: Vec<u8> = memory::zeros(size.pixels())?;
    soft.par_chunks_mut(size.width * SOFT_ROWS).enumerate().try_for_each(|(strip, soft)| {
        let first = strip * SOFT_ROWS;
        let rows = first..first + soft.len() / size.width;
        let term = |x: usize, y: usize| [i64::from(alpha[size.width * y + x])];
        windows.sum(rows, term, |window| {
            let mean = window.sums[0] as f32 / (255 * window.cells) as f32;
            let alpha = (mean - INWARDS) / (1.0 - INWARDS);
            soft[size.width * (window.y - first) + window.x] = (255.0 * alpha).round() as u8;
        })
    })?;
    Ok(soft)
}

/// One pass: the filter for an image, and its grid of square cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    size: Size,
    /// Side of a cell in pixels.
    side: usize,
    filter: GuidedFilter,
    /// Rows of cells in a strip.
    strip: usize,
}

impl Pass {
    /// `radius` is that of the filter's windows in pixels.
    pub(super) fn new(size: Size, radius: usize) -> Self {
        let side = radius.div_ceil(MAX_CELLS).max(1);
        let grid = size.map(|pixels| pixels.div_ceil(side));
        let filter = GuidedFilter { grid, radius: (radius / side).max(1), epsilon: EPSILON };
        Self { size, side, filter, strip: STRIP }
    }

    /// Sets the rows of cells in a strip, which do not change the result.
    #[cfg(test)]
    pub(super) fn with_strip(self, strip: usize) -> Self {
        Self { strip, ..self }
    }

    /// Returns the opacity of each pixel, `[height, width]`, 0 to 255. `value` is the probability or
    /// opacity of a pixel before, 0 to 1.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub(super) fn alpha(
        &self,
        image: &Image,
        value: impl Fn(usize) -> f32 + Sync,
    ) -> Result<Vec<u8>> {
        let Size { width, height } = self.size;
        let rows = self.strip * self.side;
        let bytes = self.filter.bytes(self.strip + 2).max(1);
        let together = (STRIPS_BYTES / bytes).clamp(1, rayon::current_num_threads());
        let needed = (together * bytes + width * height) as u64;
        memory::check(needed, "refining the edge of the cut-out")?;
        let mut alpha: Vec<u8> = memory::zeros(width * height)?;
        for (group, alpha) in alpha.chunks_mut(width * rows * together).enumerate() {
            alpha.par_chunks_mut(width * rows).enumerate().try_for_each(|(strip, alpha)| {
                self.strip(image, &value, self.strip * (group * together + strip), alpha)
            })?;
        }
        Ok(alpha)
    }

    /// Computes the opacity of the pixels from a row of cells on.
    fn strip(
        &self,
        image: &Image,
        value: &impl Fn(usize) -> f32,
        first: usize,
        alpha: &mut [u8],
    ) -> Result<()> {
        let (width, cells) = (self.size.width, self.filter.grid.width);
        // Pixels are between the centers of cells, of which one may be outside of the strip.
        let last = (first + self.strip + 1).min(self.filter.grid.height);
        let rows = first.saturating_sub(1)..last;
        let fill = |row, cells: &mut [Cell]| self.fill(image, value, row, cells);
        let coefficients = self.filter.coefficients(rows.clone(), fill)?;
        let mut line = memory::with_capacity(cells)?;
        for (y, alpha) in (first * self.side..).zip(alpha.chunks_exact_mut(width)) {
            let (above, below, weight) = between(y, self.side, self.filter.grid.height);
            let [above, below] =
                [above, below].map(|row| &coefficients[cells * (row - rows.start)..][..cells]);
            line.clear();
            line.extend(above.iter().zip(below).map(|(a, b)| a.mix(b, weight)));
            let rgb = &image.rgb[3 * width * y..3 * width * (y + 1)];
            self.row(&line, rgb, |x| value(width * y + x), alpha);
        }
        Ok(())
    }

    /// Computes the opacity of a row of pixels.
    fn row(
        &self,
        line: &[Coefficients],
        rgb: &[u8],
        value: impl Fn(usize) -> f32,
        alpha: &mut [u8],
    ) {
        for (x, (rgb, alpha)) in rgb.chunks_exact(3).zip(alpha).enumerate() {
            let (left, right, weight) = between(x, self.side, line.len());
            let (left, right) = (&line[left], &line[right]);
            *alpha = match left.inside + right.inside {
                0.0 => 0,
                2.0 => 255,
                _ => opacity(&left.mix(right, weight), rgb, value(x)),
            };
        }
    }

    /// Averages the pixels of a row of cells.
    fn fill(&self, image: &Image, value: &impl Fn(usize) -> f32, row: usize, cells: &mut [Cell]) {
        let (Size { width, height }, side) = (self.size, self.side);
        let rows = row * side..((row + 1) * side).min(height);
        for (x, cell) in cells.iter_mut().enumerate() {
            let columns = x * side..((x + 1) * side).min(width);
            let (mut sums, mut sum) = ([0u32; 3], 0.0f32);
            for y in rows.clone() {
                let pixels = width * y + columns.start..width * y + columns.end;
                sum += pixels.clone().map(value).sum::<f32>();
                for rgb in image.rgb[3 * pixels.start..3 * pixels.end].chunks_exact(3) {
                    sums.iter_mut().zip(rgb).for_each(|(sum, &v)| *sum += u32::from(v));
                }
            }
            let pixels = rows.len() * columns.len();
            *cell = sample(sums, sum / pixels as f32, pixels as u32);
        }
    }
}

/// Returns the radius of the refinement in pixels: that of the first windows, and half of the
/// distance from a border up to which pixels can be neither opaque nor transparent.
pub(super) fn radius(size: Size, cell: f32) -> usize {
    let most = (size.width.max(size.height) / 8).max(MIN_RADIUS);
    ((RADIUS * cell).round() as usize).clamp(MIN_RADIUS, most)
}

/// Returns a cell from the sums of the colors of its pixels, and their mean probability.
fn sample(sums: [u32; 3], p: f32, pixels: u32) -> Cell {
    let value = ((p - CERTAIN) / (1.0 - 2.0 * CERTAIN)).clamp(0.0, 1.0);
    Cell {
        guide: sums.map(|sum| ((16 * sum + pixels / 2) / pixels) as u16),
        value: (f32::from(ONE) * value).round() as u16,
    }
}

/// Returns the opacity of a pixel with the color `rgb` and the probability or opacity `p` before.
fn opacity(coefficients: &Coefficients, rgb: &[u8], p: f32) -> u8 {
    let slope = coefficients.slope.iter().zip(rgb);
    let filtered = coefficients.offset + slope.map(|(a, &v)| a * f32::from(v) / 255.0).sum::<f32>();
    let alpha = smooth_step((filtered - CONTRAST) / (1.0 - 2.0 * CONTRAST));
    let inside = coefficients.inside;
    let most = smooth_step(inside / NEAR).min(smooth_step(p / POSSIBLE));
    let least = smooth_step((1.0 - inside) / NEAR).min(smooth_step((1.0 - p) / POSSIBLE));
    (255.0 * alpha.max(1.0 - least).min(most)).round() as u8
}

impl Coefficients {
    /// Interpolates between two cells.
    fn mix(&self, other: &Self, weight: f32) -> Self {
        let mix = |a: f32, b: f32| a + (b - a) * weight;
        let (a, b) = (self.slope, other.slope);
        Self {
            slope: [mix(a[0], b[0]), mix(a[1], b[1]), mix(a[2], b[2])],
            offset: mix(self.offset, other.offset),
            inside: mix(self.inside, other.inside),
        }
    }
}
