//! Inner loops of the depthwise and the grouped convolution and of depthwise gradients on the CPU.

/// Channels whose sums are kept in registers at a time.
const LANES: usize = 32;
/// Channels at a time for the remainder: one vector.
const VECTOR: usize = 8;

/// Channels of a pixel and their weights.
type Tap<'a> = (&'a [f32], &'a [f32]);

/// Pixels and the distance from one to the next.
type Pixels<'a> = (&'a [f32], usize);

/// Computes `y[c]`, the sum of `x[c] * w[c]` over the taps in order. All slices have the same
/// length.
pub(super) fn sum_of_products(y: &mut [f32], taps: &[Tap]) {
    #[cfg(target_arch = "x86_64")]
    if fused() {
        // SAFETY: `fused` has just detected the two features that the function is compiled with.
        return unsafe { taps_wide(y, taps) };
    }
    of_taps(y, taps, |x, w, sum| x * w + sum);
}

/// Computes `y[o]`, the sum over the taps, in order, of `x[i] * w[i, o]` with the inputs `i` of the
/// group of `o`. Groups have `group` inputs and outputs; `w` is `[group, outputs]`. Returns false
/// without a result if there is no loop for this size.
pub(super) fn sum_of_grouped_products(y: &mut [f32], taps: &[Tap], group: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if fused() {
        // SAFETY: `fused` has just detected the two features that the function is compiled with.
        return unsafe { groups_wide(y, taps, group) };
    }
    of_groups(y, taps, group, |x, w, sum| x * w + sum)
}

/// Adds the sum of `x[c] * y[c]` over `count` pixels, in order, to `sum[c]`.
pub(super) fn add_products(sum: &mut [f32], x: Pixels, y: Pixels, count: usize) {
    if count == 0 {
        return;
    }
    let fits = |(numbers, step): Pixels| (count - 1) * step + sum.len() <= numbers.len();
    assert!(fits(x) && fits(y), "invariant: all pixels are inside their slices");
    #[cfg(target_arch = "x86_64")]
    if fused() {
        // SAFETY: `fused` has just detected the two features that the function is compiled with.
        return unsafe { pixels_wide(sum, x, y, count) };
    }
    of_pixels(sum, x, y, count, |x, y, sum| x * y + sum);
}

#[cfg(target_arch = "x86_64")]
fn fused() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn taps_wide(y: &mut [f32], taps: &[Tap]) {
    of_taps(y, taps, f32::mul_add);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn groups_wide(y: &mut [f32], taps: &[Tap], group: usize) -> bool {
    of_groups(y, taps, group, f32::mul_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn pixels_wide(sum: &mut [f32], x: Pixels, y: Pixels, count: usize) {
    of_pixels(sum, x, y, count, f32::mul_add);
}

// The functions below are inlined, and so compiled once per instruction set.

#[inline(always)]
fn of_taps(y: &mut [f32], taps: &[Tap], fma: impl Fn(f32, f32, f32) -> f32 + Copy) {
    let first = blocks_of_taps::<LANES>(y, taps, 0, fma);
    let first = blocks_of_taps::<VECTOR>(y, taps, first, fma);
    blocks_of_taps::<1>(y, taps, first, fma);
}

/// Computes the channels from `first` on that form whole blocks of `N`. Returns the end of the last
/// block.
#[inline(always)]
fn blocks_of_taps<const N: usize>(
    y: &mut [f32],
    taps: &[Tap],
    first: usize,
    fma: impl Fn(f32, f32, f32) -> f32,
) -> usize {
    let blocks = y[first..].chunks_exact_mut(N);
    let end = first + blocks.len() * N;
    for (at, block) in (first..).step_by(N).zip(blocks) {
        let mut sums = [0f32; N];
        for (x, w) in taps {
            let (x, w) = (&x[at..][..N], &w[at..][..N]);
            for lane in 0..N {
                sums[lane] = fma(x[lane], w[lane], sums[lane]);
            }
        }
        block.copy_from_slice(&sums);
    }
    end
}

#[inline(always)]
fn of_groups(
    y: &mut [f32],
    taps: &[Tap],
    group: usize,
    fma: impl Fn(f32, f32, f32) -> f32 + Copy,
) -> bool {
    match group {
        4 => groups_of::<4>(y, taps, fma),
        8 => groups_of::<8>(y, taps, fma),
        16 => groups_of::<16>(y, taps, fma),
        32 => groups_of::<32>(y, taps, fma),
        _ => return false,
    }
    true
}

/// Computes groups of `N` channels. A constant size keeps their sums in registers.
#[inline(always)]
fn groups_of<const N: usize>(y: &mut [f32], taps: &[Tap], fma: impl Fn(f32, f32, f32) -> f32) {
    let row = y.len();
    for (first, y) in (0..).step_by(N).zip(y.chunks_exact_mut(N)) {
        let mut sums = [0f32; N];
        for (x, w) in taps {
            for (input, &x) in x[first..][..N].iter().enumerate() {
                let w = &w[input * row + first..][..N];
                for lane in 0..N {
                    sums[lane] = fma(x, w[lane], sums[lane]);
                }
            }
        }
        y.copy_from_slice(&sums);
    }
}

#[inline(always)]
fn of_pixels(
    sum: &mut [f32],
    x: Pixels,
    y: Pixels,
    count: usize,
    fma: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    let first = blocks_of_pixels::<LANES>(sum, x, y, count, 0, fma);
    let first = blocks_of_pixels::<VECTOR>(sum, x, y, count, first, fma);
    blocks_of_pixels::<1>(sum, x, y, count, first, fma);
}

#[inline(always)]
fn blocks_of_pixels<const N: usize>(
    sum: &mut [f32],
    (x, x_step): Pixels,
    (y, y_step): Pixels,
    count: usize,
    first: usize,
    fma: impl Fn(f32, f32, f32) -> f32,
) -> usize {
    let blocks = sum[first..].chunks_exact_mut(N);
    let end = first + blocks.len() * N;
    for (at, block) in (first..).step_by(N).zip(blocks) {
        let mut sums = [0f32; N];
        for i in 0..count {
            let (x, y) = (&x[i * x_step + at..][..N], &y[i * y_step + at..][..N]);
            for lane in 0..N {
                sums[lane] = fma(x[lane], y[lane], sums[lane]);
            }
        }
        block.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gives_the_sum_of_the_taps() {
        for len in [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES + 5] {
            let numbers = |seed: usize| {
                (0..len).map(|i| ((i * 7 + seed * 5) % 11) as f32 - 5.0).collect::<Vec<_>>()
            };
            let operands: Vec<_> = (0..3).map(|tap| (numbers(tap), numbers(tap + 9))).collect();
            let taps: Vec<Tap> =
                operands.iter().map(|(x, w)| (x.as_slice(), w.as_slice())).collect();
            let mut y = vec![f32::NAN; len];
            sum_of_products(&mut y, &taps);
            // Small integers: no order of the additions rounds.
            let want: Vec<f32> =
                (0..len).map(|c| taps.iter().map(|(x, w)| x[c] * w[c]).sum()).collect();
            assert_eq!(y, want);
            sum_of_products(&mut y, &[]);
            assert!(y.iter().all(|v| *v == 0.0));
        }
    }

    #[test]
    fn groups_read_only_their_own_channels() {
        for (group, has_loop) in [(2, false), (4, true), (8, true), (16, true), (32, true)] {
            let len = 3 * group;
            let numbers = |count: usize, seed: usize| {
                (0..count).map(|i| ((i * 7 + seed * 5) % 11) as f32 - 5.0).collect::<Vec<_>>()
            };
            let operands: Vec<_> =
                (0..3).map(|tap| (numbers(len, tap), numbers(group * len, tap + 9))).collect();
            let taps: Vec<Tap> =
                operands.iter().map(|(x, w)| (x.as_slice(), w.as_slice())).collect();
            let mut y = vec![f32::NAN; len];
            assert_eq!(sum_of_grouped_products(&mut y, &taps, group), has_loop);
            // Small integers: no order of the additions rounds.
            let of_tap = |o: usize, (x, w): &Tap| -> f32 {
                (0..group).map(|i| x[o / group * group + i] * w[i * len + o]).sum()
            };
            let want: Vec<f32> =
                (0..len).map(|o| taps.iter().map(|tap| of_tap(o, tap)).sum()).collect();
            assert_eq!(y == want, has_loop, "{group}");
        }
    }

    #[test]
    fn every_length_gives_the_sum_over_the_pixels() {
        for len in [1, 3, VECTOR, LANES - 1, LANES, LANES + VECTOR, 2 * LANES + 13] {
            let numbers = |step: usize| {
                (0..3 * step + len).map(|i| ((i * 7 + step) % 11) as f32 - 5.0).collect::<Vec<_>>()
            };
            let (x, y) = (numbers(len + 2), numbers(len));
            let mut sum: Vec<f32> = (0..len).map(|c| c as f32).collect();
            add_products(&mut sum, (&x, len + 2), (&y, len), 4);
            // Small integers: no order of the additions rounds.
            let products =
                |c: usize| (0..4).map(|i| x[i * (len + 2) + c] * y[i * len + c]).sum::<f32>();
            assert_eq!(sum, (0..len).map(|c| c as f32 + products(c)).collect::<Vec<_>>());
            let before = sum.clone();
            add_products(&mut sum, (&[], len), (&[], len), 0);
            assert_eq!(sum, before);
        }
    }
}
