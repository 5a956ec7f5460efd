//! Encoding of images.

use super::alloc::with_capacity;
use super::decode::Image;
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::atomic_write;
use crate::geometry::Size;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

/// Quality of JPEG files, 0 to 100, high enough to keep text and thin lines clean.
const JPEG_QUALITY: u8 = 92;

impl Image {
    /// Writes the image as `.png`, `.webp` (both lossless) or `.jpg`/`.jpeg`, chosen by the file
    /// extension. `alpha` is written too if set, which JPEG does not support.
    ///
    /// The file is written atomically.
    ///
    /// # Errors
    /// Returns an error with the file's name if the extension is not supported, a JPEG would need
    /// transparency, the image is too large for the format, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let extension =
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let (w, h) = (self.width as u32, self.height as u32);
        match extension.as_str() {
            "png" => atomic_write(path, |writer| self.write_png(writer).map_err(Into::into)),
            "webp" => {
                let (data, color) = self.interleaved().map_err(|e| e.file(path))?;
                atomic_write(path, |writer| {
                    WebPEncoder::new_lossless(writer).write_image(&data, w, h, color).map_err(to_io)
                })
            }
            "jpg" | "jpeg" if self.alpha.is_some() => {
                Err(error!(Image, "JPEG does not support transparency")
                    .file(path)
                    .advice("use .png or .webp"))
            }
            "jpg" | "jpeg" => atomic_write(path, |writer| {
                JpegEncoder::new_with_quality(writer, JPEG_QUALITY)
                    .write_image(&self.rgb, w, h, ExtendedColorType::Rgb8)
                    .map_err(to_io)
            }),
            _ => Err(error!(Image, "unsupported image file extension")
                .file(path)
                .advice("use .png, .jpg or .webp")),
        }
    }

    /// Encodes the image as PNG, optimized for size rather than speed.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let (data, color) = self.interleaved()?;
        let encoder =
            PngEncoder::new_with_quality(&mut out, CompressionType::Best, FilterType::Adaptive);
        encoder
            .write_image(&data, self.width as u32, self.height as u32, color)
            .map_err(encoding_failed)?;
        Ok(out)
    }

    /// Encodes the image as JPEG, without transparency.
    pub(crate) fn jpeg(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
        encoder
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(encoding_failed)?;
        Ok(out)
    }

    fn interleaved(&self) -> Result<(Cow<'_, [u8]>, ExtendedColorType)> {
        Ok(match &self.alpha {
            None => (Cow::Borrowed(&self.rgb), ExtendedColorType::Rgb8),
            Some(alpha) => {
                let mut rgba = with_capacity(4 * alpha.len(), "the pixels")?;
                rgba.extend(
                    self.rgb.chunks_exact(3).zip(alpha).flat_map(|(p, &a)| [p[0], p[1], p[2], a]),
                );
                (Cow::Owned(rgba), ExtendedColorType::Rgba8)
            }
        })
    }

    /// Encodes row by row, so that neither all interleaved nor all compressed pixels are in memory
    /// at once.
    fn write_png(&self, writer: impl io::Write) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(writer, self.width as u32, self.height as u32);
        encoder.set_color(if self.alpha.is_some() {
            png::ColorType::Rgba
        } else {
            png::ColorType::Rgb
        });
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let rows = self.rgb.chunks_exact(3 * self.width);
        match &self.alpha {
            None => write_rows(encoder, rows, |rgb, row| row.extend_from_slice(rgb)),
            Some(alpha) => write_rows(
                encoder,
                rows.zip(alpha.chunks_exact(self.width)),
                |(rgb, alpha), row| {
                    row.extend(
                        rgb.chunks_exact(3).zip(alpha).flat_map(|(p, &a)| [p[0], p[1], p[2], a]),
                    );
                },
            ),
        }
    }
}

/// Writes one byte per pixel as a grayscale PNG, atomically.
pub(crate) fn save_gray(path: &Path, size: Size, pixels: &[u8]) -> Result<()> {
    atomic_write(path, |writer| {
        let mut encoder = png::Encoder::new(writer, size.width as u32, size.height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        write_rows(encoder, pixels.chunks_exact(size.width), |gray, row| {
            row.extend_from_slice(gray);
        })
        .map_err(Into::into)
    })
}

/// Size of a PNG's pixel data chunks, in bytes.
const CHUNK: usize = 1 << 18;

/// Writes a PNG row by row; `fill` appends a row's bytes.
pub(super) fn write_rows<W: io::Write, R>(
    encoder: png::Encoder<'_, W>,
    rows: impl Iterator<Item = R>,
    fill: impl Fn(R, &mut Vec<u8>),
) -> Result<(), png::EncodingError> {
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer_with_size(CHUNK)?;
    let mut bytes = Vec::new();
    for row in rows {
        bytes.clear();
        fill(row, &mut bytes);
        stream.write_all(&bytes)?;
    }
    stream.finish()?;
    // Explicit, because dropping the writer would ignore a full disk.
    writer.finish()
}

fn encoding_failed(error: ImageError) -> Error {
    Error::new(ErrorKind::Image, "could not encode the image").source(error)
}

fn to_io(error: ImageError) -> io::Error {
    match error {
        ImageError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::image::decode;

    #[test]
    fn images_come_back_as_they_were_saved() {
        let directory = tempfile::tempdir().unwrap();
        let rgb: Vec<u8> = (0..3 * 20 * 10).map(|i| (i * 7 % 256) as u8).collect();
        let mut image = Image::new(Size::new(20, 10), rgb).unwrap();
        for name in ["a.png", "a.webp"] {
            let path = directory.path().join(name);
            image.save(&path).unwrap();
            assert_eq!(decode(&path).unwrap(), image, "{name}");
        }
        image.rgb.fill(77);
        image.save(directory.path().join("a.JPG")).unwrap();
        assert!(
            decode(directory.path().join("a.JPG")).unwrap().rgb.iter().all(|v| v.abs_diff(77) <= 1)
        );
        image.alpha = Some((0..200).map(|i| i as u8).collect());
        let path = directory.path().join("b.png");
        image.save(&path).unwrap();
        assert_eq!(decode(&path).unwrap().alpha, image.alpha);
    }

    #[test]
    fn other_endings_and_transparent_jpegs_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut image = Image::new(Size::square(1), vec![0; 3]).unwrap();
        let error = image.save(directory.path().join("a.bmp")).unwrap_err().to_string();
        assert!(error.contains("a.bmp") && error.contains(".png"), "{error}");
        image.alpha = Some(vec![0]);
        let error = image.save(directory.path().join("a.jpg")).unwrap_err().to_string();
        assert!(error.contains("a.jpg") && error.contains("transparency"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
