//! Conversion of camera formats to pack pixels.

// Each platform uses only some of these.
#![allow(dead_code)]

use atrous::Size;
use atrous::{Error, ErrorKind, Result};

fn pack(r: f32, g: f32, b: f32) -> u32 {
    // Saturates at 0 and 255.
    u32::from_le_bytes([(r + 0.5) as u8, (g + 0.5) as u8, (b + 0.5) as u8, 255])
}

/// Converts BT.601 in limited range (luma 16 to 235), as sent by cameras.
fn from_yuv(y: u8, u: u8, v: u8) -> u32 {
    let (y, u, v) = (1.164_383 * (f32::from(y) - 16.0), f32::from(u) - 128.0, f32::from(v) - 128.0);
    pack(y + 1.596_027 * v, y - 0.391_762 * u - 0.812_968 * v, y + 2.017_232 * u)
}

fn too_short(have: usize, need: usize) -> Error {
    Error::new(ErrorKind::Data, format!("the camera sent a frame of {have} bytes, expected {need}"))
}

/// Converts YUYV: Y U Y V for every two pixels, in rows of `stride` bytes.
pub fn yuyv(bytes: &[u8], Size { width: w, height: h }: Size, stride: usize) -> Result<Vec<u32>> {
    let need = stride * h.saturating_sub(1) + 2 * w;
    if bytes.len() < need || stride < 2 * w || w % 2 != 0 {
        return Err(too_short(bytes.len(), need));
    }
    let rows = bytes.chunks(stride).take(h);
    Ok(rows
        .flat_map(|row| {
            row[..2 * w]
                .chunks_exact(4)
                .flat_map(|p| [from_yuv(p[0], p[1], p[3]), from_yuv(p[2], p[1], p[3])])
        })
        .collect())
}

/// Converts NV12: a plane of Y, then one of U V for every two by two pixels, both in rows of
/// `stride` bytes.
pub fn nv12(bytes: &[u8], Size { width: w, height: h }: Size, stride: usize) -> Result<Vec<u32>> {
    let need = stride * h + stride * (h / 2);
    if bytes.len() < need || stride < w || w % 2 != 0 || h % 2 != 0 {
        return Err(too_short(bytes.len(), need));
    }
    let (luma, chroma) = bytes.split_at(stride * h);
    let mut pixels = Vec::with_capacity(w * h);
    for (y, row) in luma.chunks_exact(stride).enumerate() {
        let chroma = &chroma[y / 2 * stride..][..w];
        pixels.extend(
            row[..w]
                .iter()
                .enumerate()
                .map(|(x, &y)| from_yuv(y, chroma[x / 2 * 2], chroma[x / 2 * 2 + 1])),
        );
    }
    Ok(pixels)
}

/// Decodes a JPEG image of an MJPEG stream, and returns its size.
pub fn jpeg(bytes: &[u8]) -> Result<(Size, Vec<u32>)> {
    let image = image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg)
        .map_err(|e| Error::new(ErrorKind::Data, "the camera sent a corrupt image").source(e))?
        .into_rgb8();
    let size = Size::new(image.width() as usize, image.height() as usize);
    Ok((size, atrous::live::Live::pack(image.as_raw())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White, black, and pure red, green and blue in BT.601.
    const COLORS: [([u8; 3], [u8; 3]); 5] = [
        ([235, 128, 128], [255, 255, 255]),
        ([16, 128, 128], [0, 0, 0]),
        ([81, 90, 240], [255, 0, 0]),
        ([145, 54, 34], [0, 255, 0]),
        ([41, 240, 110], [0, 0, 255]),
    ];

    #[test]
    fn colors_come_out_of_every_layout() {
        for (yuv, rgb) in COLORS {
            let near = |pixel: u32| {
                pixel.to_le_bytes()[..3].iter().zip(rgb).all(|(&a, b)| a.abs_diff(b) <= 2)
            };
            let [y, u, v] = yuv;
            // Each row has two bytes of padding.
            let row = [y, u, y, v, 9, 9];
            let pixels = yuyv(&[row, row].concat(), Size::square(2), 6).unwrap();
            assert!(pixels.len() == 4 && pixels.iter().all(|&p| near(p)), "{yuv:?}: {pixels:x?}");
            let pixels = nv12(&[y, y, 9, y, y, 9, u, v, 9], Size::square(2), 3).unwrap();
            assert!(pixels.len() == 4 && pixels.iter().all(|&p| near(p)), "{yuv:?}: {pixels:x?}");
        }
    }

    #[test]
    fn short_frames_are_refused() {
        assert!(yuyv(&[0; 7], Size::square(2), 4).is_err());
        assert!(nv12(&[0; 5], Size::square(2), 2).is_err());
        assert!(jpeg(&[0xff, 0xd8, 0]).is_err());
    }
}
