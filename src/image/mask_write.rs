//! Writing masks: files whose pixel values are class numbers, or 0 and 255.

use super::alloc::with_capacity;
use super::file_format::FileFormat;
use super::labels::LabelMap;
use super::palette::ClassTable;
use super::save::{encoding_failed, to_io, write_rows};
use crate::error::{Result, error};
use crate::files::atomic_write;
use crate::geometry::Size;
use image::codecs::bmp::BmpEncoder;
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::io::{self, Cursor, Seek, Write};
use std::path::Path;

impl LabelMap {
    /// Writes a mask in the [`FileFormat`] that the path's extension names: the value of a pixel is its
    /// class. PNG and BMP have a palette with the colors of `table`, TIFF is gray, and WebP has three
    /// equal channels.
    ///
    /// If `table` has more than 256 classes, or a label is above 255, the values have 16 bits, and the
    /// file is a gray PNG or TIFF. The file is written atomically.
    ///
    /// # Errors
    /// Returns an error with the file's name if the extension is not supported, the format cannot
    /// hold the classes exactly, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, table: &ClassTable) -> Result<()> {
        let path = path.as_ref();
        let format = FileFormat::named_by(path)?;
        let mask = self.mask(format, table).map_err(|e| e.file(path))?;
        atomic_write(path, |writer| mask.write(writer))
    }

    /// Encodes the file that [`LabelMap::write`] writes.
    ///
    /// # Errors
    /// Returns an error if the format cannot hold the classes exactly, or the map is too large for
    /// it.
    pub fn encode(&self, format: FileFormat, table: &ClassTable) -> Result<Vec<u8>> {
        self.mask(format, table)?.encode()
    }

    /// Encodes the mask as PNG.
    ///
    /// # Errors
    /// Returns an error if the map is too large for a PNG.
    pub fn png(&self, table: &ClassTable) -> Result<Vec<u8>> {
        self.encode(FileFormat::Png, table)
    }

    /// Returns 255 for each pixel whose label is in `classes`, 0 for the others: `[height, width]`.
    ///
    /// # Errors
    /// Returns an error if there is no memory for the pixels.
    pub fn select(&self, classes: &[usize]) -> Result<Vec<u8>> {
        let mut selected = vec![0; usize::from(self.max()) + 1];
        for &class in classes {
            if let Some(value) = selected.get_mut(class) {
                *value = 255;
            }
        }
        let mut pixels = with_capacity(self.labels.len(), "the mask")?;
        pixels.extend(self.labels.iter().map(|&label| selected[usize::from(label)]));
        Ok(pixels)
    }

    fn mask(&self, format: FileFormat, table: &ClassTable) -> Result<Mask<'_>> {
        let is_wide = self.max() > 255 || table.len() > 256;
        let values =
            if is_wide { Values::Wide(&self.labels) } else { Values::Narrow(&self.labels) };
        Mask::new(format, self.size(), values, Some(table.palette()))
    }
}

/// Writes one byte per pixel as a gray image, atomically, in the format of the path's extension.
pub(crate) fn save_gray(path: &Path, size: Size, pixels: &[u8]) -> Result<()> {
    let format = FileFormat::named_by(path)?;
    let mask = Mask::new(format, size, Values::Gray(pixels), None).map_err(|e| e.file(path))?;
    atomic_write(path, |writer| mask.write(writer))
}

/// Encodes the file that [`save_gray`] writes.
pub(crate) fn encode_gray(format: FileFormat, size: Size, pixels: &[u8]) -> Result<Vec<u8>> {
    Mask::new(format, size, Values::Gray(pixels), None)?.encode()
}

/// The value of each pixel.
#[derive(Clone, Copy)]
enum Values<'a> {
    /// Bytes.
    Gray(&'a [u8]),
    /// Labels up to 255, written as bytes.
    Narrow(&'a [u16]),
    /// Labels, written as two bytes.
    Wide(&'a [u16]),
}

/// A mask to encode.
struct Mask<'a> {
    format: FileFormat,
    size: Size,
    values: Values<'a>,
    /// Colors of the values 0 to 255, where the format has a palette.
    palette: Option<Vec<u8>>,
    /// The values as bytes, for encoders that need all of them at once.
    bytes: Vec<u8>,
}

impl<'a> Mask<'a> {
    fn new(
        format: FileFormat,
        size: Size,
        values: Values<'a>,
        palette: Option<Vec<u8>>,
    ) -> Result<Self> {
        if !format.is_lossless() {
            return Err(error!(Image, "{format} does not keep the values of a mask exactly")
                .advice("use .png, .webp, .tiff or .bmp"));
        }
        let is_wide = matches!(values, Values::Wide(_));
        if is_wide && !matches!(format, FileFormat::Png | FileFormat::Tiff) {
            return Err(error!(Image, "{format} cannot hold a mask of more than 256 classes")
                .advice("use .png or .tiff"));
        }
        let mut bytes = Vec::new();
        if let (Values::Narrow(labels), false) = (values, format == FileFormat::Png) {
            bytes = with_capacity(labels.len(), "the mask")?;
            bytes.extend(labels.iter().map(|&label| label as u8));
        }
        Ok(Self { format, size, values, palette, bytes })
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        self.write(&mut out).map_err(encoding_failed)?;
        Ok(out.into_inner())
    }

    fn write(&self, mut writer: impl Write + Seek) -> io::Result<()> {
        let (w, h) = (self.size.width as u32, self.size.height as u32);
        let (bytes, color) = match self.values {
            Values::Gray(pixels) => (pixels, ExtendedColorType::L8),
            Values::Narrow(_) => (&self.bytes[..], ExtendedColorType::L8),
            Values::Wide(labels) => (bytemuck::cast_slice(labels), ExtendedColorType::L16),
        };
        match self.format {
            FileFormat::Png => return self.write_png(writer).map_err(Into::into),
            FileFormat::WebP => WebPEncoder::new_lossless(writer).write_image(bytes, w, h, color),
            FileFormat::Tiff => TiffEncoder::new(writer).write_image(bytes, w, h, color),
            // A mask is lossless, so not JPEG.
            FileFormat::Bmp | FileFormat::Jpeg => {
                let palette = self.palette.as_ref().map(|colors| {
                    colors.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect::<Vec<_>>()
                });
                let mut encoder = BmpEncoder::new(&mut writer);
                encoder.encode_with_palette(bytes, w, h, color, palette.as_deref())
            }
        }
        .map_err(to_io)
    }

    fn write_png(&self, writer: impl Write) -> Result<(), png::EncodingError> {
        let mut encoder =
            png::Encoder::new(writer, self.size.width as u32, self.size.height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        match self.values {
            Values::Gray(pixels) => {
                encoder.set_compression(png::Compression::Fast);
                return write_rows(encoder, pixels.chunks_exact(self.size.width), |gray, row| {
                    row.extend_from_slice(gray);
                });
            }
            Values::Narrow(_) => {
                if let Some(palette) = &self.palette {
                    encoder.set_color(png::ColorType::Indexed);
                    encoder.set_palette(palette);
                }
            }
            Values::Wide(_) => encoder.set_depth(png::BitDepth::Sixteen),
        }
        // Labels form long runs of equal bytes, which filters would break up.
        encoder.set_filter(png::Filter::NoFilter);
        let (Values::Narrow(labels) | Values::Wide(labels)) = self.values else { return Ok(()) };
        let is_wide = matches!(self.values, Values::Wide(_));
        write_rows(encoder, labels.chunks_exact(self.size.width), |labels, row| {
            if is_wide {
                row.extend(labels.iter().flat_map(|l| l.to_be_bytes()));
            } else {
                row.extend(labels.iter().map(|&l| l as u8));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::new(5, 3);

    fn map(top: u16) -> LabelMap {
        LabelMap::new(SIZE, (0..15).map(|i| i * top / 14).collect()).unwrap()
    }

    #[test]
    fn every_lossless_format_holds_the_classes_as_pixel_values() {
        let directory = tempfile::tempdir().unwrap();
        let (map, voc) = (map(20), ClassTable::voc());
        for format in FileFormat::ALL.into_iter().filter(|format| format.is_lossless()) {
            let path = directory.path().join("a").with_extension(format.extension());
            map.write(&path, &voc).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), map.encode(format, &voc).unwrap());
            let image = image::open(&path).unwrap();
            match format {
                // A palette: the colors are those of the table.
                FileFormat::Png | FileFormat::Bmp => {
                    let colors = image.into_rgb8();
                    let expected = map.labels.iter().map(|&l| voc.color(l.into()));
                    assert!(colors.pixels().map(|p| p.0).eq(expected), "{format}");
                }
                _ => {
                    let rgb = image.into_rgb8();
                    let expected = map.labels.iter().map(|&l| [l as u8; 3]);
                    assert!(rgb.pixels().map(|p| p.0).eq(expected), "{format}");
                }
            }
        }
        let error = map.write(directory.path().join("a.jpg"), &voc).unwrap_err().to_string();
        assert!(error.contains("a.jpg") && error.contains("exactly; use .png"), "{error}");
    }

    #[test]
    fn masks_have_16_bits_if_the_table_has_more_classes_than_a_byte() {
        let directory = tempfile::tempdir().unwrap();
        let many = ClassTable::generic(300);
        for (top, table, bits) in [(299, &many, 16), (20, &many, 16), (20, &ClassTable::voc(), 8)] {
            let path = directory.path().join("a.png");
            map(top).write(&path, table).unwrap();
            assert_eq!(LabelMap::read(&path, None).unwrap(), map(top));
            assert_eq!(std::fs::read(&path).unwrap()[24], bits, "{top}");
            let tiff = map(top).encode(FileFormat::Tiff, table).unwrap();
            let image = image::load_from_memory(&tiff).unwrap();
            let values = image.as_luma16().map(|image| image.as_raw().clone());
            assert_eq!(values, (bits == 16).then(|| map(top).labels));
        }
        let error = map(299).encode(FileFormat::WebP, &many).unwrap_err().to_string();
        assert!(error.contains("more than 256 classes"), "{error}");
    }

    #[test]
    fn selected_classes_are_white_in_every_lossless_format() {
        let pixels = map(20).select(&[0, 20, 500]).unwrap();
        assert_eq!(pixels[..3], [255, 0, 0]);
        assert_eq!((pixels[14], pixels.iter().filter(|&&p| p == 255).count()), (255, 2));
        for format in FileFormat::ALL.into_iter().filter(|format| format.is_lossless()) {
            let image = image::load_from_memory(&encode_gray(format, SIZE, &pixels).unwrap());
            assert_eq!(image.unwrap().into_luma8().into_raw(), pixels, "{format}");
        }
    }
}
