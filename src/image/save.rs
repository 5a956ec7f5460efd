//! Encoding of images.

use super::alloc::with_capacity;
use super::decode::Image;
use super::file_format::FileFormat;
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::atomic_write;
use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use std::borrow::Cow;
use std::io::{self, Cursor, Seek, Write};
use std::path::Path;

/// Quality of JPEG files, 0 to 100, high enough to keep text and thin lines clean.
const JPEG_QUALITY: u8 = 92;

impl Image {
    /// Writes the image in the [`FileFormat`] that the path's extension names: `.png`, `.webp`,
    /// `.tiff`, `.bmp` (all lossless) or `.jpg`. `alpha` is written too if set, which only PNG and WebP
    /// support.
    ///
    /// The file is written atomically.
    ///
    /// # Errors
    /// Returns an error with the file's name if the extension is not supported, the format lacks
    /// transparency that the image has, the image is too large for the format, or the file cannot
    /// be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let format = FileFormat::named_by(path)?;
        let pixels = self.pixels(format).map_err(|e| e.file(path))?;
        atomic_write(path, |writer| self.write(format, &pixels, writer))
    }

    /// Encodes the file that [`Image::save`] writes.
    ///
    /// # Errors
    /// Returns an error if the format lacks transparency that the image has, or the image is too
    /// large for the format.
    pub fn encode(&self, format: FileFormat) -> Result<Vec<u8>> {
        let pixels = self.pixels(format)?;
        let mut out = Cursor::new(Vec::new());
        self.write(format, &pixels, &mut out).map_err(encoding_failed)?;
        Ok(out.into_inner())
    }

    /// Returns the pixels as an encoder reads them. PNG is written from the planes instead.
    fn pixels(&self, format: FileFormat) -> Result<(Cow<'_, [u8]>, ExtendedColorType)> {
        if self.alpha.is_some() && !format.has_alpha() {
            return Err(
                error!(Image, "{format} does not support transparency").advice("use .png or .webp")
            );
        }
        match format {
            FileFormat::Png => Ok((Cow::Borrowed(&self.rgb), ExtendedColorType::Rgb8)),
            _ => self.interleaved(),
        }
    }

    fn write(
        &self,
        format: FileFormat,
        (pixels, color): &(Cow<'_, [u8]>, ExtendedColorType),
        mut writer: impl Write + Seek,
    ) -> io::Result<()> {
        let (w, h) = (self.width as u32, self.height as u32);
        match format {
            FileFormat::Png => return self.write_png(writer).map_err(Into::into),
            FileFormat::WebP => WebPEncoder::new_lossless(writer).write_image(pixels, w, h, *color),
            FileFormat::Jpeg => JpegEncoder::new_with_quality(writer, JPEG_QUALITY)
                .write_image(pixels, w, h, *color),
            FileFormat::Tiff => TiffEncoder::new(writer).write_image(pixels, w, h, *color),
            FileFormat::Bmp => BmpEncoder::new(&mut writer).write_image(pixels, w, h, *color),
        }
        .map_err(to_io)
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

/// Returns the error about an image that an encoder refuses.
pub(super) fn encoding_failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Image, "could not encode the image").source(error)
}

pub(super) fn to_io(error: ImageError) -> io::Error {
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
        for format in FileFormat::ALL.into_iter().filter(|format| format.is_lossless()) {
            let path = directory.path().join("a").with_extension(format.extension());
            image.save(&path).unwrap();
            assert_eq!(decode(&path).unwrap(), image, "{format}");
            assert_eq!(std::fs::read(&path).unwrap(), image.encode(format).unwrap(), "{format}");
        }
        image.rgb.fill(77);
        image.save(directory.path().join("a.JPG")).unwrap();
        assert!(
            decode(directory.path().join("a.JPG")).unwrap().rgb.iter().all(|v| v.abs_diff(77) <= 1)
        );
        image.alpha = Some((0..200).map(|i| i as u8).collect());
        for name in ["b.png", "b.webp"] {
            let path = directory.path().join(name);
            image.save(&path).unwrap();
            assert_eq!(decode(&path).unwrap().alpha, image.alpha, "{name}");
        }
    }

    #[test]
    fn other_endings_and_transparent_jpegs_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut image = Image::new(Size::square(1), vec![0; 3]).unwrap();
        let error = image.save(directory.path().join("a.gif")).unwrap_err().to_string();
        assert!(error.contains("a.gif") && error.contains(".png"), "{error}");
        image.alpha = Some(vec![0]);
        for name in ["a.jpg", "a.bmp", "a.tiff"] {
            let error = image.save(directory.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("transparency"), "{error}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
