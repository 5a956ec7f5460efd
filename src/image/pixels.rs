//! Conversion of decoded samples of any kind to upright 8-bit RGB, with as few copies as possible.

use super::decode::Image;
use crate::error::{Result, error};
use crate::memory;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, RgbImage};

/// Start of the note on an image that was rotated according to its EXIF orientation.
pub(crate) const UPRIGHT_NOTE: &str = "rotated upright";

/// Converts interleaved samples (16-bit ones in native byte order) to RGB blended with `backdrop`,
/// and the alpha channel if any pixel is not opaque.
pub(super) fn to_rgb(
    color: ColorType,
    mut data: Vec<u8>,
    backdrop: [u8; 3],
    premultiplied: bool,
    notes: &mut Vec<String>,
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    use ColorType::*;
    match color {
        L8 | La8 | Rgb8 | Rgba8 => {}
        L16 | La16 | Rgb16 | Rgba16 => narrow(&mut data, notes),
        _ => {
            return Err(error!(Image, "floating-point samples are not supported")
                .advice("convert the image to 8 or 16 bits per sample"));
        }
    }
    if matches!(color, L8 | La8 | L16 | La16) {
        notes.push("converted gray to RGB".into());
    }
    Ok(match color.channel_count() {
        1 => (memory::collect(3 * data.len(), data.iter().flat_map(|&v| [v; 3]))?, None),
        2 => {
            let pixels = data.len() / 2;
            let rgb = memory::collect(3 * pixels, data.chunks_exact(2).flat_map(|p| [p[0]; 3]))?;
            let alpha = memory::collect(pixels, data.chunks_exact(2).map(|p| p[1]))?;
            blend_with_backdrop(rgb, alpha, backdrop, premultiplied, notes)
        }
        3 => (data, None),
        _ => {
            let alpha: Vec<u8> =
                memory::collect(data.len() / 4, data.chunks_exact(4).map(|p| p[3]))?;
            for pixel in 0..alpha.len() {
                data.copy_within(4 * pixel..4 * pixel + 3, 3 * pixel);
            }
            data.truncate(3 * alpha.len());
            data.shrink_to_fit();
            blend_with_backdrop(data, alpha, backdrop, premultiplied, notes)
        }
    })
}

/// Rounds 16-bit samples to 8 bits in place: 65535 becomes 255, 257 becomes 1.
fn narrow(data: &mut Vec<u8>, notes: &mut Vec<String>) {
    let mut largest = 0;
    for sample in 0..data.len() / 2 {
        let wide = u32::from(u16::from_ne_bytes([data[2 * sample], data[2 * sample + 1]]));
        largest = largest.max(wide);
        data[sample] = ((wide * 255 + 32767) / 65535) as u8;
    }
    data.truncate(data.len() / 2);
    data.shrink_to_fit();
    notes.push("rounded 16-bit samples to 8 bits".into());
    // 10- and 12-bit data in 16-bit files is valid but almost black, and useless to a network.
    if largest < 4096 {
        notes.push(format!(
            "the largest 16-bit sample is only {largest} of 65535, so the image is almost black"
        ));
    }
}

/// Removes a fourth channel that is not opacity.
pub(super) fn without_fourth_channel(
    color: ColorType,
    mut data: Vec<u8>,
    notes: &mut Vec<String>,
) -> (ColorType, Vec<u8>) {
    use ColorType::*;
    notes.push(
        "dropped the fourth channel, which is not marked as alpha (TIFF ExtraSamples)".into(),
    );
    let target = match color {
        Rgba8 => Rgb8,
        Rgba16 => Rgb16,
        _ => return (color, data),
    };
    let (from, to) = (usize::from(color.bytes_per_pixel()), usize::from(target.bytes_per_pixel()));
    for pixel in 0..data.len() / from {
        data.copy_within(from * pixel..from * pixel + to, to * pixel);
    }
    data.truncate(data.len() / from * to);
    (target, data)
}

fn blend_with_backdrop(
    mut rgb: Vec<u8>,
    alpha: Vec<u8>,
    backdrop: [u8; 3],
    premultiplied: bool,
    notes: &mut Vec<String>,
) -> (Vec<u8>, Option<Vec<u8>>) {
    if alpha.iter().all(|&a| a == 255) {
        return (rgb, None);
    }
    for (pixel, &a) in rgb.chunks_exact_mut(3).zip(&alpha) {
        for (sample, background) in pixel.iter_mut().zip(backdrop) {
            // Premultiplied samples already include the weight of the foreground.
            *sample = if premultiplied {
                sample.saturating_add(mix(0, background, a))
            } else {
                mix(*sample, background, a)
            };
        }
    }
    let [r, g, b] = backdrop;
    notes.push(format!("blended transparent pixels with the color {r} {g} {b}"));
    (rgb, Some(alpha))
}

/// Blends `front` with opacity `alpha` (0 to 255) over `background`, rounded to nearest.
pub(crate) fn mix(front: u8, background: u8, alpha: u8) -> u8 {
    let (front, background, alpha) = (u32::from(front), u32::from(background), u32::from(alpha));
    ((front * alpha + background * (255 - alpha) + 127) / 255) as u8
}

/// Applies the EXIF orientation and builds the image.
pub(super) fn orient(
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    alpha: Option<Vec<u8>>,
    orientation: Orientation,
    mut notes: Vec<String>,
) -> Result<Image> {
    let too_few = || error!(Image, "the decoder returned fewer pixels than {width}x{height}");
    let mut rgb =
        DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, rgb).ok_or_else(too_few)?);
    let mut alpha = match alpha {
        Some(alpha) => Some(DynamicImage::ImageLuma8(
            GrayImage::from_raw(width, height, alpha).ok_or_else(too_few)?,
        )),
        None => None,
    };
    if orientation != Orientation::NoTransforms {
        rgb.apply_orientation(orientation);
        alpha.iter_mut().for_each(|a| a.apply_orientation(orientation));
        notes.push(format!("{UPRIGHT_NOTE} (EXIF orientation {})", orientation.to_exif()));
    }
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Image {
        width,
        height,
        rgb: rgb.into_rgb8().into_raw(),
        alpha: alpha.map(|a| a.into_luma8().into_raw()),
        notes,
    })
}
