//! Source positions of bilinear interpolation in integer arithmetic: the same neighbors on every
//! device, and weights that are rounded once.

use super::kernel::{Dispatch, param_struct};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::Fit;
use crate::tensor::{Shape, TensorType};

/// The region of a network input to resample. Scores are computed for a scaled and padded image;
/// labels are needed at the size of the original image. One interpolation maps the first to the
/// second directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResampleWindow {
    /// Size of the network input, which the source of the interpolation covers.
    pub padded: Size,
    /// Size of the scaled image in its top left corner, which the output covers.
    pub scaled: Size,
}

impl From<Fit> for ResampleWindow {
    fn from(fit: Fit) -> Self {
        Self { padded: fit.padded, scaled: fit.scaled }
    }
}

/// Range of output rows to compute. Outputs that do not fit into memory are computed strip by
/// strip; the result is bit-identical to computing all rows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rows {
    /// The first row.
    pub first: usize,
    /// Number of rows, at least one.
    pub count: usize,
}

/// How the pixels of a resized image map to those of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PixelAlignment {
    /// The corners of the images coincide, and pixels have their centers at halves: PyTorch's
    /// default.
    #[default]
    HalfPixel,
    /// The centers of the corner pixels coincide: PyTorch's `align_corners`.
    Corners,
    /// The centers of the top left pixels coincide, and the distances scale with the sizes:
    /// TensorFlow 1 without `align_corners`, ONNX's `asymmetric`.
    TopLeft,
}

impl PixelAlignment {
    /// Returns what operations print, with a space in front.
    pub(super) fn attribute(self) -> &'static str {
        match self {
            Self::HalfPixel => "",
            Self::Corners => " align_corners",
            Self::TopLeft => " top_left",
        }
    }

    /// Returns the name of the coordinate transformation in ONNX.
    pub(super) fn onnx_mode(self) -> &'static str {
        match self {
            Self::HalfPixel => "half_pixel",
            Self::Corners => "align_corners",
            Self::TopLeft => "asymmetric",
        }
    }
}

/// `align_corners` of PyTorch.
impl From<bool> for PixelAlignment {
    fn from(align_corners: bool) -> Self {
        if align_corners { Self::Corners } else { Self::HalfPixel }
    }
}

/// One axis of an interpolation: output coordinate `d` maps to `(max(d * mul + add, sub) - sub) /
/// den` of the input.
///
/// That is PyTorch's `interpolate`: half-pixel centers, `max((d + 1/2) * from / to - 1/2, 0)`, with
/// aligned corners `d * (from - 1) / (to - 1)`, or from the top left `d * from / to`, written as one
/// fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    /// First computed output coordinate; added to each `d`.
    first: usize,
    mul: usize,
    add: usize,
    sub: usize,
    den: usize,
    last: usize,
}

param_struct! {
    /// `Axis` of `shaders/shared/bilinear.wesl`. Integers are modulo 2^32: `tap` there recovers the
    /// quotient with `scale` and `shift`.
    pub(crate) struct AxisParams {
        mul: u32,
        add: u32,
        den: u32,
        last: u32,
        scale: f32,
        shift: f32,
    }
}

/// The two neighbors of an output coordinate, and the weight of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tap {
    pub lo: usize,
    pub hi: usize,
    pub weight: f32,
}

impl Axis {
    pub(super) fn new(from: usize, to: usize, alignment: PixelAlignment) -> Self {
        let last = from - 1;
        let (mul, add, sub, den) = match alignment {
            PixelAlignment::HalfPixel => (2 * from, from, to, 2 * to),
            PixelAlignment::Corners => (if to > 1 { last } else { 0 }, 0, 0, (to - 1).max(1)),
            PixelAlignment::TopLeft => (from, 0, 0, to),
        };
        Self { first: 0, mul, add, sub, den, last }
    }

    /// Creates an axis whose `to` output pixels cover the first `scaled` of `padded` pixels
    /// (centers at halves), which are represented by `from` values.
    ///
    /// With the position `p + 1/2 = (d + 1/2) * scaled / to` among the padded pixels, the source
    /// coordinate is `p * (from - 1) / (padded - 1)`, `(p + 1/2) * from / padded - 1/2` or `p * from
    /// / padded`, as in [`Axis::new`], written as one fraction and reduced.
    fn windowed(
        from: usize,
        to: usize,
        padded: usize,
        scaled: usize,
        alignment: PixelAlignment,
    ) -> Self {
        let last = from - 1;
        let (mul, add, sub, den) = match alignment {
            PixelAlignment::Corners if padded > 1 => {
                (2 * scaled * last, scaled * last, to * last, 2 * to * (padded - 1))
            }
            PixelAlignment::Corners => (0, 0, 0, 1),
            PixelAlignment::HalfPixel => {
                (2 * scaled * from, scaled * from, to * padded, 2 * to * padded)
            }
            PixelAlignment::TopLeft => {
                (2 * scaled * from, scaled * from, to * from, 2 * to * padded)
            }
        };
        let common = [mul, add, sub].into_iter().fold(den, gcd).max(1);
        Self {
            first: 0,
            mul: mul / common,
            add: add / common,
            sub: sub / common,
            den: den / common,
            last,
        }
    }

    /// Returns whether shaders can compute the axis exactly. They have the numerator modulo 2^32
    /// and its quotient to within one, so remainders that differ by the denominator must be
    /// distinguishable.
    fn fits_u32(&self) -> bool {
        self.den < 1 << 30
    }

    pub(super) fn tap(&self, d: usize) -> Tap {
        let numerator = ((self.first + d) * self.mul + self.add).max(self.sub) - self.sub;
        let lo = (numerator / self.den).min(self.last);
        Tap {
            lo,
            hi: (lo + 1).min(self.last),
            weight: (numerator % self.den) as f32 / self.den as f32,
        }
    }

    pub(super) fn taps(&self, to: usize) -> Vec<Tap> {
        (0..to).map(|d| self.tap(d)).collect()
    }

    /// Returns the axis as shaders take it.
    pub(super) fn params(self) -> AxisParams {
        let Self { first, mul, add, sub, den, last } = self;
        let quotient = |v: f64| (v / den as f64) as f32;
        AxisParams {
            mul: mul as u32,
            add: first.wrapping_mul(mul).wrapping_add(add).wrapping_sub(sub) as u32,
            den: den as u32,
            last: last as u32,
            scale: quotient(mul as f64),
            shift: quotient(first as f64 * mul as f64 + add as f64 - sub as f64),
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Both axes of an interpolation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub y: Axis,
    pub x: Axis,
}

impl Grid {
    pub(super) fn new(
        from: Shape,
        to: Size,
        alignment: PixelAlignment,
        window: Option<ResampleWindow>,
    ) -> Self {
        match window {
            None => Self {
                y: Axis::new(from.h, to.height, alignment),
                x: Axis::new(from.w, to.width, alignment),
            },
            Some(ResampleWindow { padded, scaled }) => {
                let axis =
                    |from, to, padded, scaled| Axis::windowed(from, to, padded, scaled, alignment);
                Self {
                    y: axis(from.h, to.height, padded.height, scaled.height),
                    x: axis(from.w, to.width, padded.width, scaled.width),
                }
            }
        }
    }

    /// Restricts the grid to some rows of the output.
    pub(super) fn rows(mut self, rows: Option<Rows>) -> Self {
        self.y.first = rows.map_or(0, |rows| rows.first);
        self
    }

    /// Returns whether shaders can compute both axes exactly.
    pub(super) fn fits_u32(&self) -> bool {
        self.y.fits_u32() && self.x.fits_u32()
    }

    /// Sets the structs `rows` and `columns` of a shader's uniform block.
    pub(super) fn params(&self, dispatch: Dispatch) -> Dispatch {
        dispatch.param_struct("rows", &self.y.params()).param_struct("columns", &self.x.params())
    }
}

/// Returns the shape of `x` resized to `size`.
///
/// # Errors
/// Returns an error if `x` is empty, if a size is 2^20 or more, or if the window is larger than the
/// padded image.
pub(super) fn infer(x: TensorType, size: Size, window: Option<ResampleWindow>) -> Result<Shape> {
    if x.shape.is_empty() {
        return Err(error!(Graph, "cannot resize the empty tensor {}", x.shape));
    }
    if let Some(ResampleWindow { padded, scaled }) = window {
        let limit = Size::square((1 << 20) - 1);
        if scaled.is_empty() || !scaled.fits_into(padded) || !padded.fits_into(limit) {
            return Err(error!(Graph, "a window of {scaled} does not fit into {padded}"));
        }
    }
    // With this limit, shaders find the neighbors to within one in f32 arithmetic.
    let Size { width, height } = size;
    if let Some(side) =
        [x.shape.h, x.shape.w, height, width].into_iter().find(|&side| side >= 1 << 20)
    {
        return Err(error!(
            Graph,
            "cannot resize from {} to {height}x{width}: {side} is not below 2^20", x.shape
        ));
    }
    Ok(x.shape.with_size(size))
}

/// Like [`infer`], restricted to some rows of the output.
///
/// # Errors
/// Returns an error also if the rows are outside the output.
pub(super) fn infer_rows(
    x: TensorType,
    size: Size,
    window: Option<ResampleWindow>,
    rows: Option<Rows>,
) -> Result<Shape> {
    let shape = infer(x, size, window)?;
    match rows {
        None => Ok(shape),
        Some(Rows { first, count }) if count > 0 && first < shape.h && count <= shape.h - first => {
            Ok(shape.with_hw(count, shape.w))
        }
        Some(Rows { first, count }) => Err(error!(
            Graph,
            "rows {first}..{} are outside an output of {} rows",
            first.saturating_add(count),
            shape.h
        )),
    }
}

/// Formats rows for tables: ` rows 64..128`.
pub(super) fn rows_attribute(rows: Option<Rows>) -> String {
    rows.map_or_else(String::new, |Rows { first, count }| {
        format!(" rows {first}..{}", first + count)
    })
}

/// `(1 - weight) * a + weight * b`, element by element.
pub(super) fn blend(a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) {
    let other = 1.0 - weight;
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = other * a + weight * b;
    }
}

/// Returns the row of an image at `tap`, interpolated between two rows of `row` values each.
/// `scratch` stores it if it is neither of the two.
pub(super) fn row_at<'a>(
    image: &'a [f32],
    row: usize,
    tap: Tap,
    scratch: &'a mut Vec<f32>,
) -> &'a [f32] {
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

    const ALIGNMENTS: [PixelAlignment; 3] =
        [PixelAlignment::HalfPixel, PixelAlignment::Corners, PixelAlignment::TopLeft];

    #[test]
    fn equal_sizes_read_their_own_pixel() {
        for alignment in ALIGNMENTS {
            for size in [1, 2, 7, 513] {
                for (d, tap) in Axis::new(size, size, alignment).taps(size).iter().enumerate() {
                    assert_eq!((tap.lo, tap.weight), (d, 0.0), "size {size}, {alignment:?}");
                }
            }
        }
    }

    #[test]
    fn fractions_agree_with_the_formula_in_double_precision() {
        for (from, to) in
            [(1, 5), (5, 1), (2, 3), (33, 129), (129, 513), (65, 64), (7, 20), (100, 9)]
        {
            for alignment in ALIGNMENTS {
                let axis = Axis::new(from, to, alignment);
                for d in 0..to {
                    let (from, to, df) = (from as f64, to as f64, d as f64);
                    let expected = match alignment {
                        PixelAlignment::Corners if to > 1.0 => df * (from - 1.0) / (to - 1.0),
                        PixelAlignment::Corners => 0.0,
                        PixelAlignment::HalfPixel => ((df + 0.5) * from / to - 0.5).max(0.0),
                        PixelAlignment::TopLeft => df * from / to,
                    };
                    let tap = axis.tap(d);
                    let got = tap.lo as f64 + f64::from(tap.weight);
                    assert!(
                        (got - expected).abs() < 1e-6,
                        "{from} -> {to} at {d}: {got} is not {expected}"
                    );
                    assert!(tap.hi <= axis.last && tap.hi - tap.lo <= 1);
                }
            }
        }
    }

    #[test]
    fn windows_agree_with_the_formula_in_double_precision() {
        for (from, to, padded, scaled) in [
            (33, 500, 513, 513),
            (33, 375, 513, 385),
            (65, 4000, 513, 513),
            (5, 7, 9, 3),
            (1, 4, 1, 1),
        ] {
            for alignment in ALIGNMENTS {
                let axis = Axis::windowed(from, to, padded, scaled, alignment);
                for d in 0..to {
                    let (from, to, padded, scaled) =
                        (from as f64, to as f64, padded as f64, scaled as f64);
                    let p = (d as f64 + 0.5) * scaled / to - 0.5;
                    let expected = match alignment {
                        PixelAlignment::Corners if padded > 1.0 => {
                            p.max(0.0) * (from - 1.0) / (padded - 1.0)
                        }
                        PixelAlignment::Corners => 0.0,
                        PixelAlignment::HalfPixel => ((p + 0.5) * from / padded - 0.5).max(0.0),
                        PixelAlignment::TopLeft => p.max(0.0) * from / padded,
                    };
                    let tap = axis.tap(d);
                    let got = tap.lo as f64 + f64::from(tap.weight);
                    // Past the last value both neighbors are the last value, so the weight is
                    // irrelevant.
                    let same = (got - expected).abs() < 1e-6
                        || (tap.lo == tap.hi && expected >= from - 1.0);
                    assert!(same, "{from} -> {to} at {d}: {got} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn a_window_over_everything_is_no_window() {
        for (from, to) in [(33, 513), (7, 20), (100, 9)] {
            for alignment in ALIGNMENTS {
                let (plain, windowed) =
                    (Axis::new(from, to, alignment), Axis::windowed(from, to, to, to, alignment));
                assert_eq!(plain.taps(to), windowed.taps(to));
            }
        }
    }

    #[test]
    fn the_shaders_arithmetic_finds_the_same_neighbors() {
        // The last two have numerators past 2^32.
        for (from, to, padded, scaled) in [
            (33, 500, 513, 513),
            (33, 375, 513, 385),
            (5, 7, 9, 3),
            (257, 9001, 1025, 1021),
            (1000, 60_001, 8191, 8187),
        ] {
            for alignment in ALIGNMENTS {
                let axis = Axis::windowed(from, to, padded, scaled, alignment);
                assert!(axis.fits_u32());
                let AxisParams { mul, add, den, scale, shift, .. } = axis.params();
                for d in 0..to {
                    // As `tap` in shaders/shared/bilinear.wesl.
                    let mut quotient = (d as f32 * scale + shift).floor().max(0.0) as u32;
                    let mut remainder = (d as u32)
                        .wrapping_mul(mul)
                        .wrapping_add(add)
                        .wrapping_sub(quotient.wrapping_mul(den))
                        as i32;
                    if remainder < 0 && quotient > 0 {
                        quotient -= 1;
                        remainder += den as i32;
                    } else if remainder >= den as i32 {
                        quotient += 1;
                        remainder -= den as i32;
                    }
                    let tap = axis.tap(d);
                    let lo = (quotient as usize).min(from - 1);
                    assert_eq!(
                        (lo, remainder.max(0) as f32 / den as f32),
                        (tap.lo, tap.weight),
                        "{from} -> {to} at {d}"
                    );
                }
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let x = TensorType::f32(Shape::new(1, 5, 4, 1));
        let message = infer(x, Size::new(4, 1 << 30), None).expect_err("2^30 rows").to_string();
        assert!(message.contains("1073741824"), "{message}");
    }
}
