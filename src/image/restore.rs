//! Restoring labels and probabilities from the network's input size to the source size.

use super::alloc::filled;
use super::resize::Fit;
use crate::error::{Result, error};
use crate::geometry::Size;
use rayon::prelude::*;

impl Fit {
    /// Restores labels `[h, w]` at the padded size to the source size. The padding is cropped, then
    /// each source pixel gets the nearest label with half-pixel centers: column `x` of `W` reads
    /// column `floor((x + 1/2) * w / W)`, computed in integers.
    ///
    /// # Errors
    /// Returns an error if the number of labels does not match the padded size, or memory for the
    /// result runs out.
    pub fn restore_labels<T: Copy + Send + Sync>(&self, labels: &[T]) -> Result<Vec<T>> {
        self.check(labels.len(), 1)?;
        let (pitch, Size { width: sw, height: sh }) = (self.padded.width, self.scaled);
        let Size { width: w, height: h } = self.source;
        let columns: Vec<usize> = (0..w).map(|x| nearest(x, sw, w)).collect();
        let Some(&first) = labels.first() else { return Ok(Vec::new()) };
        let mut out = filled(first, w.saturating_mul(h), "the labels")?;
        out.par_chunks_mut(w.max(1)).enumerate().for_each(|(y, out)| {
            let row = &labels[nearest(y, sh, h) * pitch..][..sw];
            for (out, &x) in out.iter_mut().zip(&columns) {
                *out = row[x];
            }
        });
        Ok(out)
    }

    /// Restores values `[h, w, channels]` at the padded size to the source size. The padding is
    /// cropped, then values are interpolated bilinearly with half-pixel centers, clamped at the
    /// border of the scaled image so that no padding leaks in.
    ///
    /// Interpolated probabilities still sum to 1.
    ///
    /// # Errors
    /// Returns an error if the number of values does not match the padded size, or memory for the
    /// result runs out.
    pub fn restore_values(&self, values: &[f32], channels: usize) -> Result<Vec<f32>> {
        self.check(values.len(), channels)?;
        let (pitch, Size { width: sw, height: sh }) = (self.padded.width, self.scaled);
        let Size { width: w, height: h } = self.source;
        let columns: Vec<_> = (0..w).map(|x| neighbors(x, sw, w)).collect();
        let mut out = filled(0.0, w.saturating_mul(h).saturating_mul(channels), "the values")?;
        out.par_chunks_mut((w * channels).max(1)).enumerate().for_each(|(y, out)| {
            let (above, below, ty) = neighbors(y, sh, h);
            let (above, below) =
                (&values[above * pitch * channels..], &values[below * pitch * channels..]);
            for (&(left, right, tx), out) in columns.iter().zip(out.chunks_exact_mut(channels)) {
                for (c, out) in out.iter_mut().enumerate() {
                    let (l, r) = (left * channels + c, right * channels + c);
                    let upper = above[l] + (above[r] - above[l]) * tx;
                    let lower = below[l] + (below[r] - below[l]) * tx;
                    *out = upper + (lower - upper) * ty;
                }
            }
        });
        Ok(out)
    }

    fn check(&self, len: usize, channels: usize) -> Result<()> {
        let size = self.padded;
        if channels == 0 || len != size.pixels() * channels {
            return Err(error!(
                Usage,
                "a map of {size} pixels with {channels} channels does not have {len} values"
            ));
        }
        Ok(())
    }
}

/// Returns `floor((at + 1/2) * from / to)`.
fn nearest(at: usize, from: usize, to: usize) -> usize {
    (2 * at + 1) * from / (2 * to)
}

/// Returns the two samples around `(at + 1/2) * from / to - 1/2` and the weight of the second one.
fn neighbors(at: usize, from: usize, to: usize) -> (usize, usize, f32) {
    // In units of 1 / (2 to), to be exact when pixel centers coincide.
    let position = ((2 * at + 1) * from).saturating_sub(to);
    let first = (position / (2 * to)).min(from - 1);
    let weight = (position - first * 2 * to) as f32 / (2 * to) as f32;
    (first, (first + 1).min(from - 1), weight.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::SizeRule;
    use proptest::prelude::*;

    #[test]
    fn labels_that_were_enlarged_by_two_are_taken_at_the_centers() {
        let fit = Fit { source: Size::new(2, 1), scaled: Size::new(4, 2), padded: Size::new(5, 3) };
        #[rustfmt::skip]
        let labels = [
            1, 2, 3, 4, 9,
            5, 6, 7, 8, 9,
            9, 9, 9, 9, 9,
        ];
        // The centers of columns 0 and 1 are at 1.0 and 3.0 of the enlarged row, the center of the
        // row at 1.0: the pixels that begin there are read.
        assert_eq!(fit.restore_labels(&labels).unwrap(), [6, 8]);
        let fit = Fit { source: Size::new(4, 2), scaled: Size::new(2, 1), padded: Size::square(2) };
        assert_eq!(fit.restore_labels(&[3u8, 4, 9, 9]).unwrap(), [3, 3, 4, 4, 3, 3, 4, 4]);
    }

    #[test]
    fn values_are_interpolated_at_the_centers_and_never_from_the_padding() {
        let fit = Fit { source: Size::new(4, 1), scaled: Size::new(2, 1), padded: Size::new(3, 2) };
        let padding = f32::NAN;
        let out = fit.restore_values(&[0.0, 1.0, padding, padding, padding, padding], 1).unwrap();
        assert_eq!(out, [0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn a_map_of_the_wrong_size_is_refused() {
        let fit = SizeRule::LongSide(8).fit(Size::new(4, 2));
        assert!(fit.restore_labels(&[0u8; 63]).is_err());
        assert!(fit.restore_values(&[0.0; 64], 0).is_err());
        assert!(fit.restore_values(&[0.0; 64], 2).is_err());
    }

    proptest! {
        #[test]
        fn the_nearest_label_agrees_with_fractions(from in 1usize..4000, to in 1usize..4000, at in 0usize..4000) {
            let at = at % to;
            // The interval [got, got + 1) holds the center: got <= (at + 1/2) * from / to < got +
            // 1.
            let got = nearest(at, from, to);
            let center = (at as u128 * 2 + 1) * from as u128;
            prop_assert!(got < from);
            prop_assert!(got as u128 * 2 * to as u128 <= center && center < (got as u128 + 1) * 2 * to as u128);
        }

        #[test]
        fn interpolation_agrees_with_a_naive_oracle(w in 1usize..9, h in 1usize..9, tw in 1usize..9, th in 1usize..9, pad in 0usize..3, seed in 0u64..1000) {
            let fit = Fit {
                source: Size::new(tw, th),
                scaled: Size::new(w, h),
                padded: Size::new(w + pad, h + pad),
            };
            let pw = w + pad;
            let value = |y: usize, x: usize, c: usize| ((seed as usize * 31 + y * 17 + x * 7 + c * 3) % 23) as f32;
            let mut map = Vec::new();
            for y in 0..h + pad {
                for x in 0..pw {
                    map.extend((0..2).map(|c| if y < h && x < w { value(y, x, c) } else { f32::NAN }));
                }
            }
            let got = fit.restore_values(&map, 2).unwrap();
            for y in 0..th {
                for x in 0..tw {
                    for c in 0..2 {
                        let at = |i: usize, from: usize, to: usize| {
                            let p = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
                            (p.floor() as usize, p.ceil() as usize, p - p.floor())
                        };
                        let ((y0, y1, ty), (x0, x1, tx)) = (at(y, h, th), at(x, w, tw));
                        let v = |y, x| f64::from(value(y, x, c));
                        let expected = (v(y0, x0) * (1.0 - tx) + v(y0, x1) * tx) * (1.0 - ty) + (v(y1, x0) * (1.0 - tx) + v(y1, x1) * tx) * ty;
                        let got = f64::from(got[(y * tw + x) * 2 + c]);
                        prop_assert!((got - expected).abs() < 1e-4, "{} instead of {}", got, expected);
                    }
                }
            }
        }

        #[test]
        fn an_identity_returns_the_same(w in 1usize..20, h in 1usize..20) {
            let fit = SizeRule::Native.fit(Size::new(w, h));
            let labels: Vec<u32> = (0..(w * h) as u32).collect();
            prop_assert_eq!(fit.restore_labels(&labels).unwrap(), labels.clone());
            let values: Vec<f32> = labels.iter().map(|&v| v as f32).collect();
            prop_assert_eq!(fit.restore_values(&values, 1).unwrap(), values);
        }
    }
}
