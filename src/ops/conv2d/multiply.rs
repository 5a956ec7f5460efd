//! The inner loop of the depthwise convolution on the processor.

/// Channels whose sums are kept in registers at a time.
const LANES: usize = 32;

/// Channels of a pixel, and the weights that they are multiplied with.
type Tap<'a> = (&'a [f32], &'a [f32]);

/// `y[c] = sum of x[c] * w[c]` over the taps, in their order. All slices have the same length.
pub(super) fn sum_of_products(y: &mut [f32], taps: &[Tap]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the two features that the function is compiled with were just found on this processor.
        return unsafe { wide(y, taps) };
    }
    each(y, taps, |x, w, sum| x * w + sum);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn wide(y: &mut [f32], taps: &[Tap]) {
    each(y, taps, f32::mul_add);
}

/// Compiled once for each set of instructions.
#[inline(always)]
fn each(y: &mut [f32], taps: &[Tap], fma: impl Fn(f32, f32, f32) -> f32) {
    let whole = y.len() - y.len() % LANES;
    let (blocks, rest) = y.split_at_mut(whole);
    for (i, block) in blocks.chunks_exact_mut(LANES).enumerate() {
        let mut sums = [0f32; LANES];
        for (x, w) in taps {
            let (x, w) = (&x[i * LANES..][..LANES], &w[i * LANES..][..LANES]);
            for lane in 0..LANES {
                sums[lane] = fma(x[lane], w[lane], sums[lane]);
            }
        }
        block.copy_from_slice(&sums);
    }
    for (lane, y) in rest.iter_mut().enumerate() {
        *y = taps.iter().fold(0.0, |sum, (x, w)| fma(x[whole + lane], w[whole + lane], sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gives_the_sum_of_the_taps() {
        for len in [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES + 5] {
            let numbers = |seed: usize| (0..len).map(|i| ((i * 7 + seed * 5) % 11) as f32 - 5.0).collect::<Vec<_>>();
            let operands: Vec<_> = (0..3).map(|tap| (numbers(tap), numbers(tap + 9))).collect();
            let taps: Vec<Tap> = operands.iter().map(|(x, w)| (x.as_slice(), w.as_slice())).collect();
            let mut y = vec![f32::NAN; len];
            sum_of_products(&mut y, &taps);
            // Small whole numbers: no order of the additions rounds.
            let want: Vec<f32> = (0..len).map(|c| taps.iter().map(|(x, w)| x[c] * w[c]).sum()).collect();
            assert_eq!(y, want);
            sum_of_products(&mut y, &[]);
            assert!(y.iter().all(|v| *v == 0.0));
        }
    }
}
