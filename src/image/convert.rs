//! Conversions from and to the types of the [`image`](::image) crate.

use super::decode::{BACKDROP, Image};
use super::labels::LabelMap;
use crate::error::{Error, Result};
use crate::geometry::Size;
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, RgbImage, RgbaImage};

/// The size of an image of the `image` crate.
fn size(width: u32, height: u32) -> Size {
    Size::new(width as usize, height as usize)
}

impl TryFrom<RgbImage> for Image {
    type Error = Error;

    /// Takes the pixels without a copy.
    ///
    /// # Errors
    /// Returns an error if there are no pixels.
    fn try_from(image: RgbImage) -> Result<Self> {
        Image::new(size(image.width(), image.height()), image.into_raw())
    }
}

impl TryFrom<RgbaImage> for Image {
    type Error = Error;

    /// Blends transparent pixels with [`BACKDROP`] and keeps the opacity, as
    /// [`decode`](super::decode()) does.
    ///
    /// # Errors
    /// Returns an error if there are no pixels.
    fn try_from(image: RgbaImage) -> Result<Self> {
        Image::from_rgba(size(image.width(), image.height()), image.into_raw(), BACKDROP)
    }
}

impl TryFrom<DynamicImage> for Image {
    type Error = Error;

    /// Converts gray, 16-bit and floating-point samples to 8-bit RGB.
    ///
    /// # Errors
    /// Returns an error if there are no pixels.
    fn try_from(image: DynamicImage) -> Result<Self> {
        if image.color().has_alpha() {
            image.into_rgba8().try_into()
        } else {
            image.into_rgb8().try_into()
        }
    }
}

impl From<Image> for DynamicImage {
    /// Returns an RGBA image if the image has transparent pixels, an RGB image otherwise.
    fn from(image: Image) -> Self {
        const SIDES: &str = "invariant: sides of decoded images have 32 bits";
        const LENGTH: &str = "invariant: an image has as many samples as its size requires";
        let width = u32::try_from(image.width).expect(SIDES);
        let height = u32::try_from(image.height).expect(SIDES);
        let Some(alpha) = image.alpha else {
            return RgbImage::from_raw(width, height, image.rgb).expect(LENGTH).into();
        };
        let pixels = image.rgb.chunks_exact(3).zip(alpha);
        let rgba = pixels.flat_map(|(p, alpha)| [p[0], p[1], p[2], alpha]).collect();
        RgbaImage::from_raw(width, height, rgba).expect(LENGTH).into()
    }
}

impl From<LabelMap> for ImageBuffer<Luma<u16>, Vec<u16>> {
    /// Takes the labels without a copy: the value of a pixel is its class.
    fn from(map: LabelMap) -> Self {
        const SIDES: &str = "invariant: sides of label maps have 32 bits";
        let width = u32::try_from(map.width).expect(SIDES);
        let height = u32::try_from(map.height).expect(SIDES);
        ImageBuffer::from_raw(width, height, map.labels)
            .expect("invariant: a map has as many labels as its size requires")
    }
}

impl TryFrom<GrayImage> for LabelMap {
    type Error = Error;

    /// Takes the values as classes.
    ///
    /// # Errors
    /// Returns an error if there are no pixels.
    fn try_from(image: GrayImage) -> Result<Self> {
        let size = size(image.width(), image.height());
        LabelMap::new(size, image.into_raw().into_iter().map(u16::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_opacity_come_back() {
        let rgb = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let image = Image::try_from(rgb.clone()).unwrap();
        assert_eq!((image.size(), image.alpha.is_none()), (Size::new(3, 2), true));
        assert_eq!(DynamicImage::from(image), rgb.into());
        let rgba = RgbaImage::from_fn(2, 1, |x, _| image::Rgba([200, 100, 0, 255 * x as u8]));
        let image = Image::try_from(DynamicImage::from(rgba)).unwrap();
        assert_eq!(image.alpha.as_deref(), Some(&[0, 255][..]));
        assert_eq!(image.rgb[..3], BACKDROP, "transparent pixels show the backdrop");
        assert_eq!(DynamicImage::from(image).into_rgba8().get_pixel(1, 0).0, [200, 100, 0, 255]);
        assert!(Image::try_from(RgbImage::new(0, 3)).is_err());
    }

    #[test]
    fn gray_and_wide_samples_become_eight_bit_rgb() {
        let wide = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![65_535, 257]).unwrap();
        let image = Image::try_from(DynamicImage::from(wide)).unwrap();
        assert_eq!(image.rgb, [255, 255, 255, 1, 1, 1]);
    }

    #[test]
    fn labels_are_gray_values() {
        let gray = GrayImage::from_raw(2, 2, vec![0, 1, 2, 255]).unwrap();
        let map = LabelMap::try_from(gray).unwrap();
        assert_eq!((map.size(), &map.labels[..]), (Size::square(2), &[0, 1, 2, 255][..]));
        let wide = ImageBuffer::<Luma<u16>, Vec<u16>>::from(map);
        assert_eq!(wide.into_raw(), [0, 1, 2, 255]);
    }
}
