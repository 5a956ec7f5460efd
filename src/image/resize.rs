//! The network's input size for an image, and resampling to that size.

use super::decode::Image;
use super::pillow;
use crate::error::{Error, ErrorKind, Result, error};
use crate::geometry::{Position, Size};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Gray value that pads an image to the network's input size, close to 0 after `x / 127.5 - 1`. It
/// applies to byte images; a device that normalizes into a padded tensor writes 0 directly.
pub const PAD: u8 = 127;

/// The largest side that a [`SizeRule`] may set.
const MAX_SIDE: usize = 65_535;

/// How the network's input size follows from the image's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SizeRule {
    /// The image's own size, odd or even, square or not.
    Native,
    /// Scale the long side to `n`, keep the aspect ratio, and pad at the right or bottom to `n` x
    /// `n`, as in the training of DeepLab's mobile networks.
    LongSide(usize),
    /// Scale the short side to `n`, keep the aspect ratio (rounding the long side down), and do not
    /// pad, as torchvision's presets do (`resize_size=520`). The long side never exceeds 65,535.
    ShortSide(usize),
    /// Scale the image, keeping its aspect ratio, to the largest that fits into a size, and
    /// pad at the right or bottom to exactly that size. The image is never stretched, because
    /// networks are trained on undistorted objects.
    Exact(Size),
    /// The image's own size, padded at the right and bottom to multiples of `n`, for networks that
    /// take no others.
    Multiple(usize),
}

impl FromStr for SizeRule {
    type Err = Error;

    /// Parses `native`, `multiple:16` (the image's own size, padded), a long side such as `513`, a
    /// short side such as `short:520`, or a width and height such as `640x480`.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            error!(Usage, "invalid size `{text}`").advice(
                "use native, a long side such as 513, a short side such as short:520, 640x480, or multiple:16",
            )
        };
        let side = |digits: &str| match digits.parse() {
            Ok(n) if (1..=MAX_SIDE).contains(&n) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(n)
            }
            Ok(n) if n > MAX_SIDE => {
                Err(error!(Usage, "side of {n} pixels exceeds the limit of {MAX_SIDE}"))
            }
            _ => Err(invalid()),
        };
        match text.to_ascii_lowercase().as_str() {
            "native" => Ok(SizeRule::Native),
            text if text.starts_with("short:") => {
                Ok(SizeRule::ShortSide(side(&text["short:".len()..])?))
            }
            text if text.starts_with("multiple:") => {
                Ok(SizeRule::Multiple(side(&text["multiple:".len()..])?))
            }
            text => match text.split_once('x') {
                Some((w, h)) => Ok(SizeRule::Exact(Size::new(side(w)?, side(h)?))),
                None => Ok(SizeRule::LongSide(side(text)?)),
            },
        }
    }
}

impl fmt::Display for SizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeRule::Native => f.write_str("native"),
            SizeRule::LongSide(n) => write!(f, "{n}"),
            SizeRule::ShortSide(n) => write!(f, "short:{n}"),
            SizeRule::Exact(size) => size.fmt(f),
            SizeRule::Multiple(n) => write!(f, "multiple:{n}"),
        }
    }
}

/// The sizes of an image on its way into the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fit {
    /// Size of the image, to which labels are restored.
    pub source: Size,
    /// Size to which the image is scaled, in the top left corner of the padded size.
    pub scaled: Size,
    /// Size of the network's input.
    pub padded: Size,
}

impl SizeRule {
    /// Computes the sizes for an image of size `source`.
    ///
    /// The dependent side is rounded to nearest, halves up (for [`SizeRule::ShortSide`]: down), and
    /// is at least 1.
    pub fn fit(self, source: Size) -> Fit {
        let Size { width, height } = source;
        let padded = match self {
            SizeRule::Native => return Fit { source, scaled: source, padded: source },
            SizeRule::ShortSide(n) => {
                let (short, long) = (width.min(height).max(1), width.max(height));
                let long = (n.saturating_mul(long) / short).clamp(1, MAX_SIDE.max(n));
                let scaled = if width <= height { Size::new(n, long) } else { Size::new(long, n) };
                return Fit { source, scaled, padded: scaled };
            }
            SizeRule::LongSide(n) => Size::square(n),
            SizeRule::Exact(size) => size,
            SizeRule::Multiple(n) => {
                let padded = source.map(|side| side.next_multiple_of(n.max(1)));
                return Fit { source, scaled: source, padded };
            }
        };
        let scale_side = |side: usize, to: usize, from: usize| {
            ((2 * side * to + from) / (2 * from).max(1)).max(1)
        };
        // The side that reaches its bound first, w / width or h / height, sets the scale.
        let Size { width: w, height: h } = padded;
        let scaled = if w * height <= h * width {
            Size::new(w, scale_side(height, w, width).min(h))
        } else {
            Size::new(scale_side(width, h, height).min(w), h)
        };
        Fit { source, scaled, padded }
    }
}

impl Fit {
    /// Returns whether the image is neither scaled nor padded.
    pub fn is_identity(&self) -> bool {
        self.source == self.scaled && self.scaled == self.padded
    }

    /// Returns the image's pixels at the scaled size, `[h, w, 3]`, without padding. Borrowed if no
    /// scaling is needed.
    ///
    /// # Errors
    /// Returns an error if `image` does not have the size that this was computed for.
    pub fn scale<'a>(&self, image: &'a Image) -> Result<Cow<'a, [u8]>> {
        if image.size() != self.source {
            let (expected, got) = (self.source, image.size());
            return Err(error!(Usage, "expected an image of {expected} pixels, got {got}"));
        }
        resample(&image.rgb, self.source, self.scaled)
    }

    /// Returns the image's pixels at the padded size, `[h, w, 3]`, with gray (127) at the right and
    /// bottom.
    ///
    /// # Errors
    /// As for [`Fit::scale`].
    pub fn scale_and_pad<'a>(&self, image: &'a Image) -> Result<Cow<'a, [u8]>> {
        let scaled = self.scale(image)?;
        if self.scaled == self.padded {
            return Ok(scaled);
        }
        let (from, to) = (self.scaled, self.padded);
        let mut out = vec![PAD; 3 * to.pixels()];
        let rows = out.chunks_exact_mut(3 * to.width).zip(scaled.chunks_exact(3 * from.width));
        for (out, row) in rows {
            out[..row.len()].copy_from_slice(row);
        }
        Ok(Cow::Owned(out))
    }
}

/// Scales `[h, w, 3]` bytes from one size to another.
///
/// Bilinear with antialiasing: upscaling reads two by two neighbors at half-pixel centers;
/// downscaling widens the triangle filter by the scale, so that every source pixel contributes. The
/// result is identical to Pillow's `resize(..., BILINEAR)`, which torchvision's transforms call;
/// OpenCV and a plain `interpolate` give different values.
///
/// # Errors
/// Returns an error if the number of bytes does not match `from`, or a side is 0 or at least 2^32.
pub fn resample(rgb: &[u8], from: Size, to: Size) -> Result<Cow<'_, [u8]>> {
    if from == to && from.pixels().checked_mul(3) == Some(rgb.len()) && !rgb.is_empty() {
        return Ok(Cow::Borrowed(rgb));
    }
    resample_window(rgb, from, to, Position::default(), to).map(Cow::Owned)
}

/// Computes only the window of `size` whose top left corner is at `at` of the result of
/// [`resample`].
///
/// # Errors
/// As for [`resample`], or if the window is not inside the result.
pub fn resample_window(
    rgb: &[u8],
    from: Size,
    to: Size,
    at: Position,
    size: Size,
) -> Result<Vec<u8>> {
    let invalid = |message: String| Error::new(ErrorKind::Usage, message);
    for n in [from, to, size].iter().flat_map(|size| [size.width, size.height]) {
        if n == 0 || u32::try_from(n).is_err() {
            return Err(invalid(format!("invalid image side of {n} pixels")));
        }
    }
    if from.pixels().checked_mul(3) != Some(rgb.len()) {
        return Err(invalid(format!(
            "an RGB image of {from} pixels does not have {} bytes",
            rgb.len()
        )));
    }
    let is_inside =
        size.fits_into(to) && at.x <= to.width - size.width && at.y <= to.height - size.height;
    if !is_inside {
        return Err(invalid(format!("window of {size} at {}, {} is not inside {to}", at.x, at.y)));
    }
    pillow::bilinear(rgb, from, to, at, size)
}

/// Scales `[h, w, 3]` bytes to cover another size, keeping the aspect ratio; the excess
/// is cropped equally on both sides.
///
/// # Errors
/// As for [`resample`].
pub fn cover(rgb: &[u8], from: Size, to: Size) -> Result<Vec<u8>> {
    let scale_of = |from: usize, to: usize| to as f64 / from.max(1) as f64;
    let scale = f64::max(scale_of(from.width, to.width), scale_of(from.height, to.height));
    let scaled = from.zip(to, |side, min| ((side as f64 * scale).round() as usize).max(min));
    let at = Position::new((scaled.width - to.width) / 2, (scaled.height - to.height) / 2);
    resample_window(rgb, from, scaled, at, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_read_and_printed() {
        for (text, rule) in [
            ("native", SizeRule::Native),
            ("513", SizeRule::LongSide(513)),
            ("short:520", SizeRule::ShortSide(520)),
            ("640x480", SizeRule::Exact(Size::new(640, 480))),
            ("1x65535", SizeRule::Exact(Size::new(1, 65535))),
            ("multiple:32", SizeRule::Multiple(32)),
        ] {
            assert_eq!(text.parse::<SizeRule>().unwrap(), rule);
            assert_eq!(rule.to_string(), text);
        }
        assert_eq!("NATIVE".parse::<SizeRule>().unwrap(), SizeRule::Native);
        assert_eq!("640X480".parse::<SizeRule>().unwrap(), SizeRule::Exact(Size::new(640, 480)));
        for text in [
            "",
            "0",
            "x",
            "640x",
            "x480",
            "0x5",
            "-3",
            "+3",
            "1.5",
            "3x4x5",
            "65536",
            "99999999999999999999",
            "513 ",
            "short:",
            "short:0",
            "short:4x4",
            "multiple:0",
        ] {
            let error = text.parse::<SizeRule>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text:?}: {error}");
        }
    }

    #[test]
    fn known_sizes() {
        let long = |w, h| SizeRule::LongSide(513).fit(Size::new(w, h));
        let square = Size::square(513);
        assert_eq!(long(500, 375).scaled, Size::new(513, 385), "384.75 is rounded up");
        assert_eq!(long(375, 500).scaled, Size::new(385, 513));
        assert_eq!(long(500, 375).padded, square);
        assert_eq!(long(513, 513), Fit { source: square, scaled: square, padded: square });
        assert_eq!(long(100_000, 3).scaled, Size::new(513, 1), "never less than a pixel");
        // torchvision: int(520 * long / short).
        let short = |w, h| SizeRule::ShortSide(520).fit(Size::new(w, h));
        assert_eq!(short(500, 375).scaled, Size::new(693, 520));
        assert_eq!(short(375, 500).padded, Size::new(520, 693));
        assert_eq!(short(700, 700).scaled, Size::square(520));
        assert_eq!(short(1, 1_000_000).scaled, Size::new(520, MAX_SIDE));
        let exact = SizeRule::Exact(Size::new(640, 480));
        assert_eq!(exact.fit(Size::square(1000)).scaled, Size::square(480));
        assert_eq!(exact.fit(Size::new(1000, 100)).scaled, Size::new(640, 64));
        assert!(SizeRule::Native.fit(Size::new(97, 61)).is_identity());
        let multiple = SizeRule::Multiple(16).fit(Size::new(97, 64));
        assert_eq!((multiple.scaled, multiple.padded), (Size::new(97, 64), Size::new(112, 64)));
    }

    #[test]
    fn padding_is_gray_and_right_and_below() {
        let image = Image::new(Size::new(4, 2), (0..24).map(|v| v * 10).collect()).unwrap();
        let fit = SizeRule::Exact(Size::new(4, 3)).fit(Size::new(4, 2));
        let padded = fit.scale_and_pad(&image).unwrap();
        assert_eq!(padded[..24], image.rgb[..]);
        assert_eq!(padded[24..], [PAD; 12]);
        let other = Image::new(Size::square(2), vec![0; 12]).unwrap();
        assert_eq!(fit.scale(&other).unwrap_err().kind(), ErrorKind::Usage);
    }

    proptest! {
        #[test]
        fn a_fit_lies_inside_touches_a_bound_and_keeps_the_shape(w in 1usize..5000, h in 1usize..5000, tw in 1usize..3000, th in 1usize..3000) {
            for rule in [SizeRule::LongSide(tw), SizeRule::Exact(Size::new(tw, th))] {
                let Fit { source, scaled, padded } = rule.fit(Size::new(w, h));
                let (Size { width: sw, height: sh }, Size { width: pw, height: ph }) = (scaled, padded);
                prop_assert_eq!(source, Size::new(w, h));
                prop_assert!(sw >= 1 && sh >= 1 && sw <= pw && sh <= ph);
                prop_assert!(sw == pw || sh == ph);
                // The dependent side is within half a pixel of the exact aspect ratio.
                let scale = f64::min(pw as f64 / w as f64, ph as f64 / h as f64);
                let near = |got: usize, from: usize| (got as f64 - (from as f64 * scale).max(1.0)).abs() <= 0.5 + 1e-9;
                prop_assert!(near(sw, w) && near(sh, h));
            }
        }

        #[test]
        fn resampling_keeps_a_flat_image_flat(w in 1usize..40, h in 1usize..40, tw in 1usize..40, th in 1usize..40, v in 0u8..=255) {
            let source = vec![v; 3 * w * h];
            let out = resample(&source, Size::new(w, h), Size::new(tw, th)).unwrap();
            prop_assert_eq!(out.len(), 3 * tw * th);
            prop_assert!(out.iter().all(|&o| o == v));
        }
    }

    #[test]
    fn an_image_covers_another_size_and_its_middle_stays() {
        // Columns of 0, 100, 200: the middle is 100 in a square, and the outer columns are cut in
        // half.
        let rgb = [[0; 3], [100; 3], [200; 3], [0; 3], [100; 3], [200; 3]].concat();
        let from = Size::new(3, 2);
        assert_eq!(cover(&rgb, from, from).unwrap(), rgb);
        let square = cover(&rgb, from, Size::square(20)).unwrap();
        assert_eq!(square.len(), 3 * 400);
        let row: Vec<i32> = square[..60].iter().step_by(3).map(|&v| i32::from(v)).collect();
        assert!((0..10).all(|i| (row[i] + row[19 - i] - 200).abs() <= 2) && row[0] > 0, "{row:?}");
        assert_eq!(cover(&rgb, from, Size::new(1, 7)).unwrap().len(), 21);
        assert!(cover(&rgb, Size::default(), Size::new(1, 7)).is_err());
    }

    #[test]
    fn a_window_is_what_the_whole_would_have_there() {
        let from = Size::new(37, 23);
        let rgb: Vec<u8> = (0..37 * 23 * 3).map(|i| (i * 97 % 251) as u8).collect();
        for to in [(74, 46), (37, 23), (19, 12), (51, 17)].map(|(w, h)| Size::new(w, h)) {
            let whole = resample(&rgb, from, to).unwrap();
            let last = Position::new(to.width - 5, to.height - 4);
            for (at, size) in [
                (Position::default(), to),
                (Position::new(3, 2), Size::new(7, 9)),
                (last, Size::new(5, 4)),
            ] {
                let window = resample_window(&rgb, from, to, at, size).unwrap();
                for (i, value) in window.iter().enumerate() {
                    let (x, y, c) = (at.x + i / 3 % size.width, at.y + i / 3 / size.width, i % 3);
                    let expected = whole[3 * (y * to.width + x) + c];
                    assert_eq!(*value, expected, "{to:?}, {at:?} at {x}, {y}");
                }
            }
            assert!(resample_window(&rgb, from, to, Position::new(1, 0), to).is_err());
        }
    }
}
