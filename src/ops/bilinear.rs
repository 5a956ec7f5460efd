//! Where bilinear interpolation reads, in whole numbers: the same neighbours on every device, and weights rounded once.

use super::kernel::Dispatch;
use crate::error::{Result, error};
use crate::tensor::{Shape, TensorType};

/// Along one axis, output coordinate `d` lies at `(max(d * mul + add, sub) - sub) / den` of the input.
///
/// That is PyTorch's `interpolate`: half-pixel centres, `max((d + 1/2) * from / to - 1/2, 0)`, or with aligned corners
/// `d * (from - 1) / (to - 1)`, written as one fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    mul: usize,
    add: usize,
    sub: usize,
    den: usize,
    last: usize,
}

/// The two neighbours of an output coordinate, and the weight of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tap {
    pub lo: usize,
    pub hi: usize,
    pub weight: f32,
}

impl Axis {
    pub(super) fn new(from: usize, to: usize, align_corners: bool) -> Self {
        let last = from - 1;
        if align_corners {
            Self { mul: if to > 1 { last } else { 0 }, add: 0, sub: 0, den: (to - 1).max(1), last }
        } else {
            Self { mul: 2 * from, add: from, sub: to, den: 2 * to, last }
        }
    }

    pub(super) fn tap(&self, d: usize) -> Tap {
        let numerator = (d * self.mul + self.add).max(self.sub) - self.sub;
        let lo = numerator / self.den;
        Tap { lo, hi: (lo + 1).min(self.last), weight: (numerator % self.den) as f32 / self.den as f32 }
    }

    pub(super) fn taps(&self, to: usize) -> Vec<Tap> {
        (0..to).map(|d| self.tap(d)).collect()
    }

    fn params(self, dispatch: Dispatch, names: [&'static str; 5]) -> Dispatch {
        names.into_iter().zip([self.mul, self.add, self.sub, self.den, self.last]).fold(dispatch, |d, (n, v)| d.param(n, v))
    }
}

/// Both axes of an interpolation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub y: Axis,
    pub x: Axis,
}

impl Grid {
    pub(super) fn new(from: Shape, (h, w): (usize, usize), align_corners: bool) -> Self {
        Self { y: Axis::new(from.h, h, align_corners), x: Axis::new(from.w, w, align_corners) }
    }

    /// The members `y_mul`, ... of a shader's uniform block; see `shaders/shared/bilinear.wesl`.
    pub(super) fn params(&self, dispatch: Dispatch) -> Dispatch {
        let dispatch = self.y.params(dispatch, ["y_mul", "y_add", "y_sub", "y_den", "y_last"]);
        self.x.params(dispatch, ["x_mul", "x_add", "x_sub", "x_den", "x_last"])
    }
}

/// Shape of `x` at another size. Errors where there is nothing to read, or where the fractions do not fit 32 bits.
pub(super) fn infer(x: TensorType, (h, w): (usize, usize)) -> Result<Shape> {
    if x.shape.is_empty() {
        return Err(error!(Graph, "cannot interpolate in {}: it is empty", x.shape));
    }
    for (from, to) in [(x.shape.h, h), (x.shape.w, w)] {
        if from.saturating_mul(to).saturating_mul(2).saturating_add(from) > u32::MAX as usize {
            return Err(error!(Graph, "cannot resize from {from} to {to}: their product must stay below 2^31"));
        }
    }
    Ok(x.shape.with_hw(h, w))
}

/// `(1 - weight) * a + weight * b`, element by element.
pub(super) fn blend(a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) {
    let other = 1.0 - weight;
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = other * a + weight * b;
    }
}

/// The row of an image that lies at `tap` between two rows of `row` values each; `scratch` holds it where it is neither.
pub(super) fn row_at<'a>(image: &'a [f32], row: usize, tap: Tap, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    let (lo, hi) = (&image[tap.lo * row..][..row], &image[tap.hi * row..][..row]);
    if tap.weight == 0.0 || tap.lo == tap.hi {
        return lo;
    }
    scratch.resize(row, 0.0);
    blend(lo, hi, tap.weight, scratch);
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sizes_read_their_own_pixel() {
        for align_corners in [false, true] {
            for size in [1, 2, 7, 513] {
                for (d, tap) in Axis::new(size, size, align_corners).taps(size).iter().enumerate() {
                    assert_eq!((tap.lo, tap.weight), (d, 0.0), "size {size}, align_corners {align_corners}");
                }
            }
        }
    }

    #[test]
    fn fractions_agree_with_the_formula_in_double_precision() {
        for (from, to) in [(1, 5), (5, 1), (2, 3), (33, 129), (129, 513), (65, 64), (7, 20), (100, 9)] {
            for align_corners in [false, true] {
                let axis = Axis::new(from, to, align_corners);
                for d in 0..to {
                    let (from, to, df) = (from as f64, to as f64, d as f64);
                    let expected = match align_corners {
                        true if to > 1.0 => df * (from - 1.0) / (to - 1.0),
                        true => 0.0,
                        false => ((df + 0.5) * from / to - 0.5).max(0.0),
                    };
                    let tap = axis.tap(d);
                    let got = tap.lo as f64 + f64::from(tap.weight);
                    assert!((got - expected).abs() < 1e-6, "{from} -> {to} at {d}: {got} is not {expected}");
                    assert!(tap.hi <= axis.last && tap.hi - tap.lo <= 1);
                }
            }
        }
    }

    #[test]
    fn sizes_whose_product_overflows_are_refused() {
        let x = TensorType::f32(Shape::new(1, 50_000, 4, 1));
        let message = infer(x, (50_000, 4)).expect_err("50,000 rows to 50,000 rows").to_string();
        assert!(message.contains("from 50000 to 50000"), "{message}");
    }
}
