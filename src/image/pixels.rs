//! From whatever samples a decoder returns to upright 8-bit RGB, with as few copies of the image as
//! its kind allows.

use super::decode::Image;
use crate::error::{Result, error};
use crate::memory;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, RgbImage};

/// How the note on an image begins that was turned by its EXIF orientation.
pub(crate) const TURNED: &str = "turned upright";

/// RGB over `backdrop`, and the alpha where a pixel is not opaque. `data` are interleaved samples
/// as a decoder returns them, 16-bit ones in the machine's byte order.
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
            return Err(error!(Image, "holds floating-point samples")
                .advice("convert it to 8 or 16 bits a sample"));
        }
    }
    if matches!(color, L8 | La8 | L16 | La16) {
        notes.push("gray was spread to red, green and blue".into());
    }
    Ok(match color.channel_count() {
        1 => (memory::collect(3 * data.len(), data.iter().flat_map(|&v| [v; 3]))?, None),
        2 => {
            let pixels = data.len() / 2;
            let rgb = memory::collect(3 * pixels, data.chunks_exact(2).flat_map(|p| [p[0]; 3]))?;
            let alpha = memory::collect(pixels, data.chunks_exact(2).map(|p| p[1]))?;
            lay_over(rgb, alpha, backdrop, premultiplied, notes)
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
            lay_over(data, alpha, backdrop, premultiplied, notes)
        }
    })
}

/// 16 bits to 8 in place, to the nearest: 65535 is 255, 257 is 1.
fn narrow(data: &mut Vec<u8>, notes: &mut Vec<String>) {
    let mut largest = 0;
    for sample in 0..data.len() / 2 {
        let wide = u32::from(u16::from_ne_bytes([data[2 * sample], data[2 * sample + 1]]));
        largest = largest.max(wide);
        data[sample] = ((wide * 255 + 32767) / 65535) as u8;
    }
    data.truncate(data.len() / 2);
    data.shrink_to_fit();
    notes.push("16-bit samples were rounded to 8".into());
    // 10- and 12-bit data in 16-bit files: valid, but next to black, and a network sees nothing in
    // it.
    if largest < 4096 {
        notes.push(format!(
            "the largest 16-bit sample is only {largest} of 65535: the image is next to black"
        ));
    }
}

/// Takes a fourth channel away that is not opacity, where the decoder left it in.
pub(super) fn without_fourth_channel(
    color: ColorType,
    mut data: Vec<u8>,
    notes: &mut Vec<String>,
) -> (ColorType, Vec<u8>) {
    use ColorType::*;
    notes.push(
        "the fourth channel is not marked as alpha (TIFF ExtraSamples), and was left out".into(),
    );
    let kept = match color {
        Rgba8 => Rgb8,
        Rgba16 => Rgb16,
        _ => return (color, data),
    };
    let (from, to) = (usize::from(color.bytes_per_pixel()), usize::from(kept.bytes_per_pixel()));
    for pixel in 0..data.len() / from {
        data.copy_within(from * pixel..from * pixel + to, to * pixel);
    }
    data.truncate(data.len() / from * to);
    (kept, data)
}

fn lay_over(
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
        for (sample, behind) in pixel.iter_mut().zip(backdrop) {
            // Of premultiplied colors the front's share is in the sample already.
            *sample = if premultiplied {
                sample.saturating_add(mix(0, behind, a))
            } else {
                mix(*sample, behind, a)
            };
        }
    }
    let [r, g, b] = backdrop;
    notes.push(format!("transparency was laid over the color {r} {g} {b}"));
    (rgb, Some(alpha))
}

/// `share` of 255 parts of `front`, the rest `behind`, rounded to the nearest.
pub(crate) fn mix(front: u8, behind: u8, share: u8) -> u8 {
    let (front, behind, share) = (u32::from(front), u32::from(behind), u32::from(share));
    ((front * share + behind * (255 - share) + 127) / 255) as u8
}

/// Turns and mirrors the image upright.
pub(super) fn turn(
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    alpha: Option<Vec<u8>>,
    orientation: Orientation,
    mut notes: Vec<String>,
) -> Result<Image> {
    let lost = || error!(Image, "the decoder returned fewer pixels than {width} x {height}");
    let mut rgb = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, rgb).ok_or_else(lost)?);
    let mut alpha = match alpha {
        Some(alpha) => Some(DynamicImage::ImageLuma8(
            GrayImage::from_raw(width, height, alpha).ok_or_else(lost)?,
        )),
        None => None,
    };
    if orientation != Orientation::NoTransforms {
        rgb.apply_orientation(orientation);
        alpha.iter_mut().for_each(|a| a.apply_orientation(orientation));
        notes.push(format!("{TURNED} (EXIF orientation {})", orientation.to_exif()));
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
