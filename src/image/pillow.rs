//! Resampling of 8-bit RGB, to the very bytes that Pillow computes.
//!
//! Two passes, rows first and columns after them, with the result rounded to 8 bits in between: the
//! order matters for the rounding, and networks were trained on images that went through Pillow or
//! torchvision, which take this one (Pillow 13 takes the other one for images that shrink much more
//! in height than in width, earlier versions never do). Weights are in fixed point with
//! [`PRECISION`] bits, as Pillow's are (`src/libImaging/Resample.c`).

use crate::error::Result;
use crate::memory;
use rayon::prelude::*;

/// Bits behind the point: 8 bits of a sample and a sign fit beside them, with one bit to spare for
/// weights that sum up to a little over 1.
const PRECISION: u32 = 32 - 8 - 2;

/// What an output row or column is made of: weights of source positions in a row.
struct Taps {
    /// The first source position of each output position, and how many follow.
    bounds: Vec<(usize, usize)>,
    /// `stride` weights for each output position.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    /// Bilinear with antialiasing, from `from` positions to `to`, for the output positions
    /// `at .. at + size` alone.
    fn bilinear(from: usize, to: usize, at: usize, size: usize) -> Self {
        let scale = from as f64 / to as f64;
        // Shrinking widens the triangle; enlarging leaves it two source positions wide.
        let support = scale.max(1.0);
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps =
            Self { bounds: Vec::with_capacity(size), weights: vec![0; stride * size], stride };
        let mut exact = Vec::with_capacity(stride);
        for (out, weights) in (at..at + size).zip(taps.weights.chunks_exact_mut(stride)) {
            let center = (out as f64 + 0.5) * scale;
            // Casts to integers cut the fraction off, and take numbers below zero to zero.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            // A product with the inverse, as there: a quotient may differ in the last bit.
            let inverse = 1.0 / support;
            exact.extend(
                (first..end).map(|x| (1.0 - ((x as f64 - center + 0.5) * inverse).abs()).max(0.0)),
            );
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                *weight = (0.5 + exact / sum * f64::from(1 << PRECISION)) as i32;
            }
            taps.bounds.push((first, end - first));
        }
        taps
    }

    /// The source position range that any output position reads.
    fn reach(&self) -> (usize, usize) {
        let end = self.bounds.iter().map(|(first, count)| first + count).max().unwrap_or(0);
        (self.bounds.first().map_or(0, |b| b.0), end)
    }

    fn of(&self, out: usize) -> (usize, &[i32]) {
        let (first, count) = self.bounds[out];
        (first, &self.weights[out * self.stride..][..count])
    }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half a step: what is shifted out is rounded.
const HALF: i32 = 1 << (PRECISION - 1);

/// The window of `size` at `at` of the image `rgb` (`[h, w, 3]`, `from`) scaled to `to`. All are
/// (width, height), none is zero, and the window is inside.
pub(super) fn bilinear(
    rgb: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    at: (usize, usize),
    size: (usize, usize),
) -> Result<Vec<u8>> {
    let vertical = (from.1 != to.1).then(|| Taps::bilinear(from.1, to.1, at.1, size.1));
    let (top, bottom) = vertical.as_ref().map_or((at.1, at.1 + size.1), Taps::reach);
    let horizontal = (from.0 != to.0).then(|| Taps::bilinear(from.0, to.0, at.0, size.0));
    let mut rows: Vec<u8> = memory::zeros(3 * size.0 * (bottom - top))?;
    rows.par_chunks_exact_mut(3 * size.0)
        .zip(rgb[3 * from.0 * top..].par_chunks_exact(3 * from.0))
        .for_each(|(out, row)| match &horizontal {
            Some(taps) => along_row(row, taps, out),
            None => out.copy_from_slice(&row[3 * at.0..][..3 * size.0]),
        });
    let Some(taps) = vertical else { return Ok(rows) };
    let mut out: Vec<u8> = memory::zeros(3 * size.0 * size.1)?;
    out.par_chunks_exact_mut(3 * size.0).enumerate().for_each_init(Vec::new, |sums, (y, out)| {
        let (first, weights) = taps.of(y);
        sums.clear();
        sums.resize(out.len(), HALF);
        for (row, &weight) in
            rows[3 * size.0 * (first - top)..].chunks_exact(3 * size.0).zip(weights)
        {
            sums.iter_mut().zip(row).for_each(|(sum, &sample)| *sum += i32::from(sample) * weight);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = round(*sum));
    });
    Ok(out)
}

fn along_row(row: &[u8], taps: &Taps, out: &mut [u8]) {
    for (x, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (first, weights) = taps.of(x);
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

    /// tests/golden/resize.py has the same formula.
    fn pattern((w, h): (usize, usize)) -> Vec<u8> {
        (0..(w * h * 3) as u64).map(|i| ((i * 2_654_435_761) >> 8) as u8).collect()
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
            from: (usize, usize),
            to: (usize, usize),
            fnv1a64: String,
        }
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/images/resize.json")).unwrap();
        assert!(golden.cases.len() > 10);
        for Case { from, to, fnv1a64: sum } in golden.cases {
            let out = bilinear(&pattern(from), from, to, (0, 0), to).unwrap();
            assert_eq!(format!("{:016x}", fnv1a64(&out)), sum, "{from:?} to {to:?}");
        }
    }
}
