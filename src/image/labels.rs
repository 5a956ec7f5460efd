//! Label maps and mask files: PNGs whose pixel values are class numbers.

use super::alloc::with_capacity;
use super::decode::MAX_PIXELS;
use super::palette::ClassTable;
use super::save::write_rows;
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::{atomic_write, open_regular};
use crate::geometry::Size;
use crate::memory;
use crate::tensor::{Elements, Tensor};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

/// A class number for each pixel of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`.
    pub labels: Vec<u16>,
}

impl LabelMap {
    /// Creates a map from its labels, `[height, width]`.
    ///
    /// # Errors
    /// Returns an error if there are no labels or their number does not match the size.
    pub fn new(size: Size, labels: Vec<u16>) -> Result<Self> {
        let Size { width, height } = size;
        if labels.is_empty() || width.checked_mul(height) != Some(labels.len()) {
            return Err(error!(
                Usage,
                "a label map of {size} pixels does not have {} labels",
                labels.len()
            ));
        }
        Ok(Self { width, height, labels })
    }

    /// Returns the width and height.
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Creates a map from image `n` of a tensor `[N, H, W, 1]` of class numbers (u32 or u8).
    ///
    /// # Errors
    /// Returns an error if the tensor has another shape or element type, no image `n`, or a class
    /// above 65,535.
    pub fn from_tensor(tensor: &Tensor, n: usize) -> Result<Self> {
        let shape = tensor.shape();
        if shape.c != 1 || n >= shape.n {
            return Err(error!(
                Usage,
                "tensor {shape} has no label map {n}: expected [N, H, W, 1]"
            ));
        }
        let mut labels = with_capacity(shape.h.saturating_mul(shape.w), "the labels")?;
        append_labels(&mut labels, tensor, n)?;
        Self::new(shape.size(), labels)
    }

    /// Returns the largest label.
    pub fn max(&self) -> u16 {
        self.labels.iter().copied().max().unwrap_or(0)
    }

    /// Reads a mask: a PNG whose pixel values are classes. In a palette PNG the value is the index,
    /// regardless of the colors; in a gray PNG it is the gray value as stored (1, 2, 4, 8 or 16
    /// bits, not scaled to 255).
    ///
    /// An RGB or fully opaque RGBA PNG is read too if `table` maps its colors to classes.
    ///
    /// # Errors
    /// Returns an error with the file's name if the file is not a PNG, is corrupt, has
    /// transparency, or contains a color that does not belong to a class.
    pub fn read(path: impl AsRef<Path>, table: Option<&ClassTable>) -> Result<Self> {
        Self::read_by_value_or_color(path.as_ref(), table).map(|(map, _)| map)
    }

    /// Like [`LabelMap::read`]. Also returns whether the labels were looked up by color; these are
    /// classes, whatever a data set's mask values mean.
    pub(crate) fn read_by_value_or_color(
        path: &Path,
        table: Option<&ClassTable>,
    ) -> Result<(Self, bool)> {
        read_mask(open_regular(path, "a mask")?, table).map_err(|e| e.file(path))
    }

    /// Writes a mask: an 8-bit palette PNG whose index is the class, with the colors of `table`, or
    /// 16-bit gray if a label is above 255.
    ///
    /// # Errors
    /// Returns an error with the file's name if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, table: &ClassTable) -> Result<()> {
        atomic_write(path, |writer| self.encode(writer, table).map_err(Into::into))
    }

    /// Encodes the file that [`LabelMap::write`] writes.
    ///
    /// # Errors
    /// Returns an error if the map is too large for a PNG.
    pub fn png(&self, table: &ClassTable) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let failed = |e| Error::new(ErrorKind::Image, "could not encode the mask").source(e);
        self.encode(&mut bytes, table).map_err(failed)?;
        Ok(bytes)
    }

    fn encode(&self, writer: impl Write, table: &ClassTable) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(writer, self.width as u32, self.height as u32);
        let narrow = self.max() < 256;
        if narrow {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_palette(table.palette());
        } else {
            encoder.set_color(png::ColorType::Grayscale);
            encoder.set_depth(png::BitDepth::Sixteen);
        }
        // Labels form long runs of equal bytes, which filters would break up.
        encoder.set_filter(png::Filter::NoFilter);
        write_rows(encoder, self.labels.chunks_exact(self.width), |labels, row| {
            if narrow {
                row.extend(labels.iter().map(|&l| l as u8));
            } else {
                row.extend(labels.iter().flat_map(|l| l.to_be_bytes()));
            }
        })
    }
}

/// Appends the class numbers of image `n` of a tensor `[N, H, W, 1]` to `labels`.
///
/// # Errors
/// As for [`LabelMap::from_tensor`].
pub(crate) fn append_labels(labels: &mut Vec<u16>, tensor: &Tensor, n: usize) -> Result<()> {
    let shape = tensor.shape();
    let range = n * shape.h * shape.w..(n + 1) * shape.h * shape.w;
    match tensor.data() {
        Elements::U8(values) => labels.extend(values[range].iter().map(|&v| u16::from(v))),
        Elements::U32(values) => {
            if let Some(v) = values[range.clone()].iter().find(|&&v| v > u32::from(u16::MAX)) {
                return Err(error!(Usage, "class {v} is above the maximum of 65535"));
            }
            labels.extend(values[range].iter().map(|&v| v as u16));
        }
        Elements::F32(_) => {
            return Err(error!(Usage, "label map tensor {shape} must be u8 or u32, not f32"));
        }
    }
    Ok(())
}

/// Advice for a mask with an unsupported color type.
const COLOR_TYPE_ADVICE: &str = "save the mask without alpha, with 8 bits per channel";

/// Refuses masks whose values are not classes and whose colors cannot be looked up.
fn check_color_type(color_type: (png::ColorType, png::BitDepth), has_table: bool) -> Result<()> {
    use png::{BitDepth, ColorType};
    match color_type {
        (ColorType::Grayscale | ColorType::Indexed, _) => {}
        (ColorType::Rgb | ColorType::Rgba, BitDepth::Eight) if has_table => {}
        (color @ (ColorType::Rgb | ColorType::Rgba), BitDepth::Eight) => {
            let kind = if color == ColorType::Rgb { "RGB" } else { "RGBA" };
            return Err(error!(Image, "{kind} mask, but the colors of the classes are not known")
                .advice("list the class colors in a classes.txt"));
        }
        (ColorType::Rgb, _) => {
            return Err(error!(Image, "unsupported mask: RGB with 16 bits per channel")
                .advice(COLOR_TYPE_ADVICE));
        }
        (_, BitDepth::Sixteen) => {
            return Err(error!(Image, "unsupported mask: alpha with 16 bits per channel")
                .advice(COLOR_TYPE_ADVICE));
        }
        _ => {
            return Err(
                error!(Image, "unsupported mask: gray with alpha").advice(COLOR_TYPE_ADVICE)
            );
        }
    }
    Ok(())
}

/// Reads a mask. Also returns whether its labels were looked up by color.
fn read_mask(file: File, table: Option<&ClassTable>) -> Result<(LabelMap, bool)> {
    use png::{BitDepth, ColorType};
    let damaged = |e: png::DecodingError| {
        Error::new(ErrorKind::Image, "could not decode the mask as PNG").source(e)
    };
    let mut decoder = png::Decoder::new(BufReader::new(file));
    // These chunks are not used, and may inflate a thousandfold.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    // Read values as stored: do not apply the palette or scale gray values.
    decoder.set_transformations(png::Transformations::IDENTITY);
    let info = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (info.width as usize, info.height as usize);
    if (width * height) as u64 > MAX_PIXELS {
        return Err(error!(
            Image,
            "the mask has {width}x{height} pixels, over the limit of {MAX_PIXELS}"
        ));
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    // Check the color type before allocating memory.
    check_color_type(reader.output_color_type(), table.is_some())?;
    let size = reader.output_buffer_size().ok_or_else(|| error!(Image, "the mask is too large"))?;
    let mut data = memory::zeros(size)?;
    let frame = reader.next_frame(&mut data).map_err(damaged)?;
    let rows = data.chunks_exact(frame.line_size.max(1)).take(height);
    let labels = match (frame.color_type, frame.bit_depth) {
        (ColorType::Grayscale | ColorType::Indexed, BitDepth::Eight) => memory::collect(
            width * height,
            rows.flat_map(|row| row[..width].iter().map(|&v| u16::from(v))),
        )?,
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            let labels = rows.flat_map(|row| {
                row[..2 * width].chunks_exact(2).map(|p| u16::from_be_bytes([p[0], p[1]]))
            });
            memory::collect(width * height, labels)?
        }
        (ColorType::Grayscale | ColorType::Indexed, depth) => {
            let labels = rows.flat_map(|row| (0..width).map(|x| unpack(row, x, depth as usize)));
            memory::collect(width * height, labels)?
        }
        (color, _) => {
            let table = table.expect("invariant: RGB without a table was refused above");
            let channels = color.samples();
            let pixels = rows.flat_map(|row| row[..channels * width].chunks_exact(channels));
            if channels == 4 && pixels.clone().any(|p| p[3] != 255) {
                return Err(error!(Image, "unsupported mask: some pixels are transparent")
                    .advice(COLOR_TYPE_ADVICE));
            }
            from_colors(pixels.map(|p| [p[0], p[1], p[2]]), table, Size { width, height })?
        }
    };
    let by_color = matches!(frame.color_type, ColorType::Rgb | ColorType::Rgba);
    Ok((LabelMap::new(Size::new(width, height), labels)?, by_color))
}

/// Returns value `x` of a row of packed values of `bits` bits each (1, 2 or 4), the first in the
/// highest bits.
fn unpack(row: &[u8], x: usize, bits: usize) -> u16 {
    let per_byte = 8 / bits;
    let shift = 8 - bits * (x % per_byte + 1);
    u16::from(row[x / per_byte] >> shift) & ((1 << bits) - 1)
}

fn from_colors(
    pixels: impl Iterator<Item = [u8; 3]>,
    table: &ClassTable,
    size: Size,
) -> Result<Vec<u16>> {
    let ignored = table.ignored.iter().map(|i| (i.color, i.label));
    // Classes come last and in reverse: if a color occurs twice, a class wins over an ignored
    // label, and the first class over later ones.
    let classes = table.colors.iter().enumerate().rev().map(|(i, &c)| (c, i as u16));
    let meaning: HashMap<[u8; 3], u16> = ignored.chain(classes).collect();
    let unknown = |at: usize, [r, g, b]: [u8; 3]| {
        error!(
            Image,
            "color {r} {g} {b} at column {}, row {} does not belong to any class",
            at % size.width,
            at / size.width
        )
    };
    let mut labels = memory::with_capacity(size.pixels())?;
    for (at, color) in pixels.enumerate() {
        labels.push(meaning.get(&color).copied().ok_or_else(|| unknown(at, color))?);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Data, Shape};
    use proptest::prelude::*;

    fn write_png(
        path: &Path,
        color: png::ColorType,
        depth: png::BitDepth,
        size: (u32, u32),
        data: &[u8],
    ) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette((0..48).map(|v| 255 - v).collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    #[test]
    fn palette_and_gray_masks_are_read_as_stored_at_every_depth() {
        use png::{BitDepth::*, ColorType::*};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.png");
        for (color, depth, row, labels) in [
            (Indexed, One, vec![0b1010_0000], [1, 0, 1]),
            (Grayscale, One, vec![0b0110_0000], [0, 1, 1]),
            (Indexed, Two, vec![0b1101_1000], [3, 1, 2]),
            (Grayscale, Four, vec![0x4f, 0x10], [4, 15, 1]),
            (Indexed, Eight, vec![1, 15, 7], [1, 15, 7]),
            (Grayscale, Eight, vec![1, 255, 7], [1, 255, 7]),
            (Grayscale, Sixteen, vec![1, 0, 0, 3, 255, 255], [256, 3, 65535]),
        ] {
            write_png(&path, color, depth, (3, 2), &[row.clone(), row].concat());
            let map = LabelMap::read(&path, None).unwrap();
            assert_eq!(map.labels, [labels, labels].concat(), "{color:?} {depth:?}");
        }
    }

    #[test]
    fn colored_masks_need_a_table_and_known_colors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.png");
        let data = [[192, 128, 128], [0, 0, 0], [224, 224, 192]].concat();
        write_png(&path, png::ColorType::Rgb, png::BitDepth::Eight, (3, 1), &data);
        let error = LabelMap::read(&path, None).unwrap_err().to_string();
        assert!(error.contains("mask.png") && error.contains("classes.txt"), "{error}");
        assert_eq!(LabelMap::read(&path, Some(&ClassTable::voc())).unwrap().labels, [15, 0, 255]);
        let error = LabelMap::read(&path, Some(&ClassTable::cityscapes())).unwrap_err().to_string();
        assert!(error.contains("192 128 128 at column 0, row 0"), "{error}");
    }

    #[test]
    fn opaque_masks_with_alpha_are_read_and_others_are_told_what_is_wrong() {
        use png::{BitDepth::*, ColorType::*};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.png");
        let voc = ClassTable::voc();
        write_png(&path, Rgba, Eight, (2, 1), &[192, 128, 128, 255, 0, 0, 0, 255]);
        assert_eq!(LabelMap::read(&path, Some(&voc)).unwrap().labels, [15, 0]);
        for (color, depth, data, part) in [
            (Rgba, Eight, vec![192, 128, 128, 255, 0, 0, 0, 254], "some pixels are transparent"),
            (GrayscaleAlpha, Eight, vec![1, 255, 0, 255], "gray with alpha"),
            (Rgb, Sixteen, vec![0; 12], "RGB with 16 bits per channel"),
            (Rgba, Sixteen, vec![255; 16], "alpha with 16 bits per channel"),
        ] {
            write_png(&path, color, depth, (2, 1), &data);
            let error = LabelMap::read(&path, Some(&voc)).unwrap_err().to_string();
            assert!(
                error.contains(part)
                    && error.contains("save the mask without alpha, with 8 bits per channel"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_mask_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.png");
        std::fs::write(&path, b"JFIF").unwrap();
        assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("mask.png"));
        write_png(&path, png::ColorType::Rgba, png::BitDepth::Eight, (1, 1), &[0; 4]);
        assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("RGBA mask"));
        assert_eq!(
            LabelMap::read(directory.path().join("none.png"), None).unwrap_err().kind(),
            ErrorKind::Io
        );
    }

    #[test]
    fn label_maps_come_out_of_tensors() {
        let tensor =
            Tensor::from_data(Shape::new(2, 1, 2, 1), Data::U32(vec![1, 2, 3, 70_000])).unwrap();
        assert_eq!(
            LabelMap::from_tensor(&tensor, 0).unwrap(),
            LabelMap { width: 2, height: 1, labels: vec![1, 2] }
        );
        assert!(LabelMap::from_tensor(&tensor, 1).unwrap_err().to_string().contains("70000"));
        assert!(LabelMap::from_tensor(&tensor, 2).is_err());
        assert!(
            LabelMap::from_tensor(&Tensor::from_fn(Shape::new(1, 1, 1, 1), |_, _, _, _| 0.0), 0)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_mask_comes_back_as_it_was_written(w in 1usize..30, h in 1usize..30, top in 1u32..70_000, seed in 0u32..1000) {
            let top = top.min(65_536);
            let labels = (0..(w * h) as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) % top) as u16).collect();
            let map = LabelMap::new(Size::new(w, h), labels).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("mask.png");
            map.write(&path, &ClassTable::voc()).unwrap();
            prop_assert_eq!(LabelMap::read(&path, None).unwrap(), map);
        }
    }
}
