//! Vectorized exponentials of all scores of a pixel: they dominate the loss on the CPU.

use crate::ops::wide::wide;

/// Number of scores that are computed together.
const LANES: usize = 8;

wide! {
    /// Computes `out[i] = exp(x[i] - shift)`. Both slices have the same length.
    pub(super) fn exponentials(out: &mut [f32], x: &[f32], shift: f32) {
        let (mut to, mut from) = (out.chunks_exact_mut(LANES), x.chunks_exact(LANES));
        for (out, x) in (&mut to).zip(&mut from) {
            for lane in 0..LANES {
                out[lane] = exp(x[lane] - shift);
            }
        }
        // The remainder is computed as a whole vector too.
        let (to, from) = (to.into_remainder(), from.remainder());
        let mut lanes = [0f32; LANES];
        lanes[..from.len()].copy_from_slice(from);
        for lane in &mut lanes {
            *lane = exp(*lane - shift);
        }
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// Returns the exponential of `x`, without branches: `x = k ln 2 + r`, and a polynomial of `r` (the
/// coefficients of the Cephes library's `expf`). The error is at most two units in the last place.
/// Below -87.3, where the result would be subnormal, it is 0. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    /// 1.5 * 2^23: adding it to `x` rounds `x` to an integer in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // The logarithm of 2 in two parts; products of integers with the first part are exact.
    const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let underflows = x < LOWEST;
    let x = x.clamp(LOWEST, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * LN2.0 - k * LN2.1;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = ((p * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    // A mask, because a branch would prevent vectorization.
    let mask = u32::from(underflows).wrapping_sub(1);
    f32::from_bits(((p * r * r + r + 1.0) * power).to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_f64_at_every_length() {
        let all: Vec<f32> = (0..40_001).map(|i| (i as f32 - 29_500.0) * 2.9e-3).collect();
        for len in [1, 7, 8, 21, all.len()] {
            let x = &all[all.len() - len..];
            let mut out = vec![f32::NAN; len];
            exponentials(&mut out, x, 0.5);
            for (x, got) in x.iter().zip(out) {
                let want = f64::from(x - 0.5).exp();
                assert!(
                    (f64::from(got) - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want,
                    "exp({x} - 0.5) is {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn what_is_far_away_is_nothing_and_what_is_no_number_stays_so() {
        let mut out = [0.0; 4];
        exponentials(&mut out, &[-1e30, f32::NEG_INFINITY, f32::NAN, 0.0], 0.0);
        assert!(out[..2] == [0.0; 2] && out[2].is_nan() && out[3] == 1.0, "{out:?}");
    }
}
