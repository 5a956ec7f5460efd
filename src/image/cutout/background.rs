//! What is put behind a cut-out.

use super::blur::Blurred;
use crate::error::Result;
use crate::geometry::Size;
use crate::image::pixels::mix;
use crate::image::{Image, cover};
use crate::memory;
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of colors, as in CSS.
const NAMES: &[(&str, [u8; 3])] = &[
    ("black", [0, 0, 0]),
    ("white", [255, 255, 255]),
    ("gray", [128, 128, 128]),
    ("silver", [192, 192, 192]),
    ("red", [255, 0, 0]),
    ("green", [0, 128, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
    ("orange", [255, 165, 0]),
    ("purple", [128, 0, 128]),
];

/// What is behind the kept classes of a [`CutOut`](super::CutOut).
#[derive(Debug)]
pub struct Background(Kind);

#[derive(Debug)]
enum Kind {
    Color([u8; 3]),
    Image(Cover),
    Blur,
}

/// An image that covers others, and its pixels at the size of the last one.
#[derive(Debug)]
struct Cover {
    image: Image,
    last: Mutex<Option<(Size, Arc<Vec<u8>>)>>,
}

impl Background {
    /// One color, sRGB.
    pub const fn color(color: [u8; 3]) -> Self {
        Self(Kind::Color(color))
    }

    /// Another image, scaled to cover the first and cropped to its middle. Its transparent pixels were
    /// blended with a backdrop when it was decoded.
    pub const fn image(image: Image) -> Self {
        Self(Kind::Image(Cover { image, last: Mutex::new(None) }))
    }

    /// The image's own background, blurred with a Gaussian of a standard deviation of 2 % of the long
    /// side. The colors of the kept classes are left out of it.
    pub const fn blur() -> Self {
        Self(Kind::Blur)
    }

    /// Parses a color: `#rrggbb`, `#rgb`, or one of [`Background::color_names`]. `None` if it is
    /// neither.
    pub fn parse_color(text: &str) -> Option<[u8; 3]> {
        let by_name = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, color)) = by_name {
            return Some(*color);
        }
        let digits: Option<Vec<u32>> =
            text.strip_prefix('#')?.chars().map(|c| c.to_digit(16)).collect();
        match digits?[..] {
            [r, g, b] => Some([r, g, b].map(|v| (17 * v) as u8)),
            [a, b, c, d, e, f] => Some([(a, b), (c, d), (e, f)].map(|(h, l)| (16 * h + l) as u8)),
            _ => None,
        }
    }

    /// Returns the names of colors: `black`, `white` and ten more.
    pub fn color_names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Prepares the background of an image. Of `image` and `alpha`, its opacity, the blurred background
    /// is made.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub(super) fn prepare(&self, image: &Image, alpha: &[u8]) -> Result<Prepared> {
        Ok(match &self.0 {
            Kind::Color(color) => Prepared::Color(*color),
            Kind::Image(cover) => Prepared::Image(cover.pixels(image.size())?),
            Kind::Blur => Prepared::Blurred(Blurred::new(&image.rgb, alpha, image.size())?),
        })
    }
}

impl Cover {
    /// Returns the pixels at another size, `[height, width, 3]`. Those of the last size are kept for
    /// the frames of a video.
    fn pixels(&self, size: Size) -> Result<Arc<Vec<u8>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pixels)) = last.as_ref().filter(|(of, _)| *of == size) {
            return Ok(pixels.clone());
        }
        *last = None;
        memory::check(3 * size.pixels() as u64, "scaling the background")?;
        let pixels = Arc::new(cover(&self.image.rgb, self.image.size(), size)?);
        *last = Some((size, pixels.clone()));
        Ok(pixels)
    }
}

/// The background of one image.
#[derive(Debug)]
pub(super) enum Prepared {
    Color([u8; 3]),
    /// `[height, width, 3]`.
    Image(Arc<Vec<u8>>),
    Blurred(Blurred),
}

impl Prepared {
    /// Blends `rgb` over the background: `[height, width, 3]`, with the opacity `[height, width]`.
    pub(super) fn blend(&self, rgb: &mut [u8], alpha: &[u8], width: usize) {
        let rows = rgb.par_chunks_exact_mut(3 * width).zip(alpha.par_chunks_exact(width));
        rows.enumerate().for_each(|(y, (rgb, alpha))| {
            let mut blend = |x: usize, behind: [u8; 3]| {
                let pixel = rgb[3 * x..3 * x + 3].iter_mut().zip(behind);
                pixel.for_each(|(front, behind)| *front = mix(*front, behind, alpha[x]));
            };
            match self {
                Self::Color(color) => (0..width).for_each(|x| blend(x, *color)),
                Self::Image(pixels) => {
                    let row = pixels[3 * width * y..][..3 * width].chunks_exact(3);
                    row.enumerate().for_each(|(x, p)| blend(x, [p[0], p[1], p[2]]));
                }
                Self::Blurred(blurred) => blurred.row(y, width, blend),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_read_by_name_and_by_their_components() {
        for (text, expected) in [
            ("white", [255, 255, 255]),
            ("Magenta", [255, 0, 255]),
            ("#12aBff", [0x12, 0xab, 0xff]),
            ("#f80", [255, 136, 0]),
        ] {
            assert_eq!(Background::parse_color(text), Some(expected), "{text}");
        }
        for text in
            ["", "#", "#12", "#12345", "#1234567", "#gggggg", "#äö", "12abff", "blur", "a.png"]
        {
            assert_eq!(Background::parse_color(text), None, "{text}");
        }
        assert!(Background::color_names().all(|name| Background::parse_color(name).is_some()));
    }

    #[test]
    fn an_image_is_scaled_once_for_a_size() {
        let image = Image::new(Size::new(2, 1), [[0; 3], [200; 3]].concat()).unwrap();
        let cover = Cover { image, last: Mutex::new(None) };
        let first = cover.pixels(Size::square(8)).unwrap();
        assert!(Arc::ptr_eq(&first, &cover.pixels(Size::square(8)).unwrap()));
        assert_eq!(cover.pixels(Size::new(3, 5)).unwrap().len(), 45);
    }

    #[test]
    fn the_front_is_blended_over_each_background() {
        let size = Size::new(4, 2);
        let image = Image::new(size, [90, 60, 30].repeat(8)).unwrap();
        let alpha = [0, 51, 204, 255].repeat(2);
        let other = Image::new(Size::new(1, 1), vec![10, 110, 210]).unwrap();
        for (background, behind) in [
            (Background::color([10, 110, 210]), [10, 110, 210]),
            (Background::image(other), [10, 110, 210]),
            (Background::blur(), [90, 60, 30]),
        ] {
            let mut front = [250, 0, 100].repeat(8);
            let prepared = background.prepare(&image, &alpha).unwrap();
            prepared.blend(&mut front, &alpha, size.width);
            for (pixel, &alpha) in front.chunks_exact(3).zip(&alpha) {
                let expected: Vec<u8> =
                    [250, 0, 100].into_iter().zip(behind).map(|(f, b)| mix(f, b, alpha)).collect();
                assert_eq!(pixel, expected, "{background:?}");
            }
        }
    }
}
