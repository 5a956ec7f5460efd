//! Mask files: PNG, TIFF, BMP and GIF images and NumPy arrays whose values are class numbers.

mod bmp;
mod npy;
mod png;
mod tiff;

use super::decode::{DecodeOptions, MAX_PIXELS};
use super::labels::LabelMap;
use super::palette::ClassTable;
use super::probe::{self, Probe};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::open_regular;
use crate::geometry::Size;
use crate::memory;
use image::ImageFormat;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// Extensions of mask files. They keep values as they are; JPEG and most others change them at
/// borders.
pub(crate) const MASK_EXTENSIONS: &[&str] = &["png", "tif", "tiff", "bmp", "gif", "npy"];

/// Advice for a mask with unsupported samples.
const SAMPLES_ADVICE: &str = "save the mask without alpha, with 8 bits per channel";

/// A mask as a file has it.
#[derive(Debug)]
pub(crate) struct MaskFile {
    pub(crate) map: LabelMap,
    pub(crate) pixels: MaskPixels,
}

impl MaskFile {
    /// Whether the labels were looked up by color; these are classes, whatever a data set's mask
    /// values mean.
    pub(crate) fn is_by_color(&self) -> bool {
        self.pixels == MaskPixels::Colors
    }

    /// Reads a mask. `table` maps colors to classes.
    ///
    /// # Errors
    /// As for [`LabelMap::read`].
    pub(crate) fn read(path: &Path, table: Option<&ClassTable>) -> Result<Self> {
        let stored = stored(path, table.is_some()).map_err(|e| e.file(path))?;
        stored.into_labels(table).map_err(|e| e.file(path))
    }
}

/// What the pixels of a mask file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MaskPixels {
    /// Values.
    Values,
    /// Indices into a palette of sRGB colors.
    Indices(Vec<[u8; 3]>),
    /// Colors.
    Colors,
}

/// The contents of a mask file.
struct Stored {
    size: Size,
    data: Data,
}

enum Data {
    Values(Vec<u16>),
    Indices {
        values: Vec<u16>,
        palette: Vec<[u8; 3]>,
    },
    /// Rows of pixels of 3 or 4 bytes each.
    Colors {
        bytes: Vec<u8>,
        channels: usize,
    },
}

impl Stored {
    fn into_labels(self, table: Option<&ClassTable>) -> Result<MaskFile> {
        let (labels, pixels) = match self.data {
            Data::Values(values) => (values, MaskPixels::Values),
            Data::Indices { values, palette } => (values, MaskPixels::Indices(palette)),
            Data::Colors { bytes, channels } => {
                let table = table.expect("invariant: colors without a table were refused");
                let pixels = bytes.chunks_exact(channels);
                if channels == 4 && pixels.clone().any(|p| p[3] != 255) {
                    return Err(error!(Image, "unsupported mask: some pixels are transparent")
                        .advice(SAMPLES_ADVICE));
                }
                let colors = pixels.map(|p| [p[0], p[1], p[2]]);
                (from_colors(colors, table, self.size)?, MaskPixels::Colors)
            }
        };
        Ok(MaskFile { map: LabelMap::new(self.size, labels)?, pixels })
    }
}

/// Reads a file of any format.
fn stored(path: &Path, has_table: bool) -> Result<Stored> {
    let unreadable = |e| Error::new(ErrorKind::Io, "could not be read").source(e);
    let mut file = open_regular(path, "a mask")?;
    let mut head = Vec::new();
    (&mut file).take(16).read_to_end(&mut head).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    if head.starts_with(npy::MAGIC) {
        return npy::read(file);
    }
    match image::guess_format(&head) {
        Ok(ImageFormat::Png) => png::read(file, has_table),
        Ok(format @ (ImageFormat::Tiff | ImageFormat::Bmp | ImageFormat::Gif)) => {
            let bytes = DecodeOptions::default().read(path)?;
            refuse_damaged(&probe::probe(&bytes, "")?)?;
            match format {
                ImageFormat::Tiff => tiff::read(bytes, has_table),
                ImageFormat::Bmp => bmp::read(&bytes, has_table),
                _ => gif(&bytes),
            }
        }
        other => Err(not_a_mask(other.ok(), &file)),
    }
}

/// The error about a file of another format.
fn not_a_mask(format: Option<ImageFormat>, file: &File) -> Error {
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        return error!(Image, "could not decode the mask: the file is empty");
    }
    let found = format.map(|format| format!("a {} image is no mask", format.extensions_str()[0]));
    error!(
        Image,
        "{}: masks are PNG, TIFF, BMP, GIF or .npy files",
        found.as_deref().unwrap_or("could not decode the mask")
    )
    .advice("save the masks as PNG, without lossy compression")
}

fn refuse_damaged(probe: &Probe) -> Result<()> {
    if probe.truncated {
        return Err(error!(Image, "truncated file: the end of the mask is missing")
            .advice("copy or download it again"));
    }
    if probe.frames > 1 {
        return Err(error!(Image, "an animation of {} frames is no mask", probe.frames)
            .advice("save one frame as PNG"));
    }
    Ok(())
}

/// Checks the size before anything is allocated for it.
fn check_size(width: u64, height: u64) -> Result<Size> {
    match width.checked_mul(height) {
        Some(pixels @ 1..) if pixels <= MAX_PIXELS => {
            Ok(Size::new(width as usize, height as usize))
        }
        _ => Err(error!(
            Image,
            "the mask has {width}x{height} pixels; between 1 and {MAX_PIXELS} are supported"
        )),
    }
}

/// Refuses colors that cannot be looked up.
fn check_table(kind: &str, has_table: bool) -> Result<()> {
    if has_table {
        return Ok(());
    }
    Err(error!(Image, "{kind} mask, but the colors of the classes are not known")
        .advice("list the class colors in a classes.txt"))
}

/// Returns the label of a stored number: itself, or 255 for -1, by which labelme's and other arrays
/// mean "ignored".
fn label(value: i64) -> Result<u16> {
    match value {
        -1 => Ok(255),
        _ => u16::try_from(value)
            .map_err(|_| error!(Image, "{value} is no class number, which are 0 to 65535")),
    }
}

/// Returns the label of a stored number, which must be whole.
fn label_of_float(value: f64) -> Result<u16> {
    // Beyond 2^53 all are whole, and far beyond every class number.
    if value.fract() != 0.0 || !value.is_finite() {
        return Err(error!(Image, "{value} is no class number").advice(
            "write the class numbers, not probabilities; of two classes 1 where the probability is above 0.5",
        ));
    }
    label(value as i64)
}

/// Reads the indices of a GIF file.
fn gif(bytes: &[u8]) -> Result<Stored> {
    let damaged = |e| Error::new(ErrorKind::Image, "could not decode the mask as GIF").source(e);
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    options.set_memory_limit(gif::MemoryLimit::Bytes(
        MAX_PIXELS.try_into().expect("invariant: more than zero"),
    ));
    let mut decoder = options.read_info(bytes).map_err(damaged)?;
    let size = check_size(decoder.width().into(), decoder.height().into())?;
    let frame = decoder.next_frame_info().map_err(damaged)?;
    let frame = frame.ok_or_else(|| error!(Image, "the mask has no pixels"))?;
    let frame_size = Size::new(frame.width.into(), frame.height.into());
    if frame_size != size {
        return Err(error!(Image, "the frame has {frame_size} pixels, but the image has {size}")
            .advice("save the mask as PNG"));
    }
    let mut bytes = memory::zeros(size.pixels())?;
    decoder.read_into_buffer(&mut bytes).map_err(damaged)?;
    let palette = decoder.palette().map_err(damaged)?;
    let palette = palette.as_chunks().0.to_vec();
    Ok(Stored { size, data: Data::Indices { values: widened(&bytes)?, palette } })
}

fn widened(bytes: &[u8]) -> Result<Vec<u16>> {
    memory::collect(bytes.len(), bytes.iter().map(|&v| u16::from(v)))
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
mod tests;
