//! Resampling of 8-bit RGB, bit-identical to Pillow.
//!
//! There are two passes, rows first and then columns, and the intermediate result is rounded to 8
//! bits. The order affects rounding. Networks were trained on images resized by Pillow or
//! torchvision, which use this order (Pillow 13 uses the other order for images that shrink much
//! more in height than in width; earlier versions never do). Weights are in fixed point with
//! [`PRECISION`] bits, as in Pillow (`src/libImaging/Resample.c`).

use crate::error::Result;
use crate::geometry::{Position, Size};
use crate::memory;
use rayon::prelude::*;
use std::ops::Range;

/// Fractional bits of the weights. This leaves 8 bits for a sample, a sign bit, and one spare bit
/// for weights that sum to a little over 1.
const PRECISION: u32 = 32 - 8 - 2;

/// The filter weights of each output position.
struct Taps {
    /// The source positions that each output position reads.
    bounds: Vec<Range<usize>>,
    /// `stride` weights per output position.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    /// Computes bilinear weights with antialiasing, from `from` positions to `to`, for the output
    /// positions `at .. at + size`.
    fn bilinear(from: usize, to: usize, at: usize, size: usize) -> Self {
        let scale = from as f64 / to as f64;
        // Downscaling widens the triangle; upscaling keeps it two source positions wide.
        let support = scale.max(1.0);
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps =
            Self { bounds: Vec::with_capacity(size), weights: vec![0; stride * size], stride };
        let mut exact = Vec::with_capacity(stride);
        for (out, weights) in (at..at + size).zip(taps.weights.chunks_exact_mut(stride)) {
            let center = (out as f64 + 0.5) * scale;
            // Casts to integers truncate, and clamp negative numbers to zero.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            // Multiply by the inverse as Pillow does: a quotient may differ in the last bit.
            let inverse = 1.0 / support;
            exact.extend(
                (first..end).map(|x| (1.0 - ((x as f64 - center + 0.5) * inverse).abs()).max(0.0)),
            );
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                *weight = (0.5 + exact / sum * f64::from(1 << PRECISION)) as i32;
            }
            taps.bounds.push(first..end);
        }
        taps
    }

    /// Returns the range of source positions that are read.
    fn source_range(&self) -> Range<usize> {
        let end = self.bounds.iter().map(|taps| taps.end).max().unwrap_or(0);
        self.bounds.first().map_or(0, |taps| taps.start)..end
    }

    fn weights(&self, out: usize) -> (usize, &[i32]) {
        let bounds = &self.bounds[out];
        (bounds.start, &self.weights[out * self.stride..][..bounds.len()])
    }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half of the last place, for rounding to nearest.
const HALF: i32 = 1 << (PRECISION - 1);

/// Scales the image `rgb` (`[h, w, 3]`) of size `from` to `to`, and returns the window of `size` at
/// `at`. Sizes are not empty, and the window must be inside `to`.
pub(super) fn bilinear(
    rgb: &[u8],
    from: Size,
    to: Size,
    at: Position,
    size: Size,
) -> Result<Vec<u8>> {
    let vertical = (from.height != to.height)
        .then(|| Taps::bilinear(from.height, to.height, at.y, size.height));
    let Range { start: top, end: bottom } =
        vertical.as_ref().map_or(at.y..at.y + size.height, Taps::source_range);
    let horizontal =
        (from.width != to.width).then(|| Taps::bilinear(from.width, to.width, at.x, size.width));
    let row_bytes = 3 * size.width;
    let mut rows: Vec<u8> = memory::zeros(row_bytes * (bottom - top))?;
    rows.par_chunks_exact_mut(row_bytes)
        .zip(rgb[3 * from.width * top..].par_chunks_exact(3 * from.width))
        .for_each(|(out, row)| match &horizontal {
            Some(taps) => resample_row(row, taps, out),
            None => out.copy_from_slice(&row[3 * at.x..][..row_bytes]),
        });
    let Some(taps) = vertical else { return Ok(rows) };
    let mut out: Vec<u8> = memory::zeros(3 * size.pixels())?;
    out.par_chunks_exact_mut(row_bytes).enumerate().for_each_init(Vec::new, |sums, (y, out)| {
        let (first, weights) = taps.weights(y);
        sums.clear();
        sums.resize(out.len(), HALF);
        for (row, &weight) in rows[row_bytes * (first - top)..].chunks_exact(row_bytes).zip(weights)
        {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = round(*sum);
        }
    });
    Ok(out)
}

fn resample_row(row: &[u8], taps: &Taps, out: &mut [u8]) {
    for (x, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (first, weights) = taps.weights(x);
        let mut sums = [HALF; 3];
        for (sample, &weight) in row[3 * first..].as_chunks::<3>().0.iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(sample) {
                *sum += i32::from(sample) * weight;
            }
        }
        *out = sums.map(round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same formula as in tests/golden/resize.py.
    fn pattern(size: Size) -> Vec<u8> {
        (0..(size.pixels() * 3) as u64).map(|i| ((i * 2_654_435_761) >> 8) as u8).collect()
    }

    fn fnv1a64(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xCBF2_9CE4_8422_2325, |state, &b| {
            (state ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    #[test]
    fn rows_are_resampled_before_columns_as_pillow_does_to_the_byte() {
        #[derive(serde::Deserialize)]
        struct Golden {
            cases: Vec<Case>,
        }
        #[derive(serde::Deserialize)]
        struct Case {
            from: [usize; 2],
            to: [usize; 2],
            fnv1a64: String,
        }
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/images/resize.json")).unwrap();
        assert!(golden.cases.len() > 10);
        for Case { from, to, fnv1a64: sum } in golden.cases {
            let (from, to) = (Size::new(from[0], from[1]), Size::new(to[0], to[1]));
            let out = bilinear(&pattern(from), from, to, Position::default(), to).unwrap();
            assert_eq!(format!("{:016x}", fnv1a64(&out)), sum, "{from:?} to {to:?}");
        }
    }
}
