//! Image files to 8-bit RGB, with every surprise of real files handled or refused by name.

use super::probe::{self, Alpha, Probe};
use super::{jpeg, pixels};
use crate::error::{Error, Result, error};
use crate::files::open_regular;
use crate::memory;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

/// The largest image that is decoded unless the caller says otherwise, in pixels: 512 MiB of RGB,
/// the size at which Pillow too stops believing a file.
pub const MAX_PIXELS: u64 = 178_956_970;

/// The most memory that decoding may take unless the caller says otherwise: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// What to do about an image past a limit. The limits are those of [`DecodeOptions`], which
/// programs set; no flag of the command line does.
const SMALLER: &str = "scale the image down, or crop it, with an image editor first";

/// The color behind transparent pixels: the gray nearest to 0 after the mobile networks'
/// `x / 127.5 - 1`.
///
/// Neither white nor black: mid-gray is what the networks saw around their training images
/// (padding), light and dark objects both keep their contrast against it, and the colors that files
/// hide under transparent pixels never reach the network.
pub const BACKDROP: [u8; 3] = [127; 3];

/// A decoded image: 8-bit sRGB, upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, red first. Transparent pixels are already laid over the backdrop.
    pub rgb: Vec<u8>,
    /// `[height, width]`, 255 opaque; `None` where every pixel is opaque. Cut-outs keep what was
    /// transparent transparent.
    pub alpha: Option<Vec<u8>>,
    /// What was done to the file's content on the way, in sentences for people; empty for a plain
    /// image.
    pub notes: Vec<String>,
}

impl Image {
    /// An image from its pixels, `[height, width, 3]`. Errors where it has no pixels or their
    /// number does not fit.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let wanted = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if wanted != Some(rgb.len()) || rgb.is_empty() {
            return Err(error!(
                Usage,
                "an image of {width} x {height} pixels in RGB cannot be made of {} bytes",
                rgb.len()
            ));
        }
        Ok(Self { width, height, rgb, alpha: None, notes: Vec::new() })
    }

    /// An image from its pixels with their opacity, `[height, width, 4]`: what is transparent is
    /// laid over `backdrop`, and kept in `alpha`. Errors where it has no pixels or their number
    /// does not fit.
    pub fn from_rgba(
        width: usize,
        height: usize,
        rgba: Vec<u8>,
        backdrop: [u8; 3],
    ) -> Result<Self> {
        let wanted = width.checked_mul(height).and_then(|n| n.checked_mul(4));
        if wanted != Some(rgba.len()) || rgba.is_empty() {
            return Err(error!(
                Usage,
                "an image of {width} x {height} pixels in RGBA cannot be made of {} bytes",
                rgba.len()
            ));
        }
        let mut notes = Vec::new();
        let (rgb, alpha) = pixels::to_rgb(ColorType::Rgba8, rgba, backdrop, false, &mut notes)?;
        Ok(Self { width, height, rgb, alpha, notes })
    }
}

/// Reads an image file with the default [`DecodeOptions`].
pub fn decode(path: impl AsRef<Path>) -> Result<Image> {
    DecodeOptions::default().decode(path)
}

/// Reads an image from memory with the default [`DecodeOptions`]; `name` is what errors call it.
pub fn decode_bytes(bytes: &[u8], name: &str) -> Result<Image> {
    DecodeOptions::default().decode_bytes(bytes, name)
}

/// How images are read.
///
/// PNG, JPEG, GIF, WebP, BMP, TIFF, PNM, QOI and TGA are read; the content decides which it is, not
/// the file's name (TGA alone has no signature and goes by its name). The EXIF orientation is
/// applied. Gray becomes RGB, 16-bit samples are rounded to 8, transparency is laid over
/// [`DecodeOptions::backdrop`]. Color profiles are not applied, as the networks' training did not.
/// The pixels of JPEGs in YCbCr (nearly all) are those of libjpeg, and so of Pillow; gray and CMYK
/// ones may be a step of 255 or a few off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Take the first frame of an animation instead of refusing it.
    pub first_frame: bool,
    /// The largest number of pixels; the header is checked before memory is taken.
    pub max_pixels: u64,
    /// The most memory that decoding may take, in bytes: the file, its pixels, and what the decoder
    /// needs beside them.
    pub max_bytes: u64,
    /// The color behind transparent pixels.
    pub backdrop: [u8; 3],
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            first_frame: false,
            max_pixels: MAX_PIXELS,
            max_bytes: MAX_BYTES,
            backdrop: BACKDROP,
        }
    }
}

impl DecodeOptions {
    /// Reads an image file.
    ///
    /// Errors name the file: it cannot be read, is empty, a directory, no image, of a kind that is
    /// not read, damaged, cut short, too large, or an animation.
    pub fn decode(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = self.read(path)?;
        self.decode_bytes(&bytes, &path.display().to_string())
    }

    /// The bytes of an image file, as many as [`DecodeOptions::max_bytes`] allows. What its first
    /// bytes show to be no image is refused before the rest is read.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let file = open_image(path)?;
        let unreadable = |e| Error::io(path, "could not be read", e);
        let len = file.metadata().map_err(unreadable)?.len();
        if len > self.max_bytes {
            return Err(self.too_much(len).file(path));
        }
        let mut bytes = Vec::new();
        (&file).take(probe::HEAD).read_to_end(&mut bytes).map_err(unreadable)?;
        if !bytes.is_empty() {
            probe::format_of(&bytes, &path.display().to_string()).map_err(|e| e.file(path))?;
        }
        let rest = usize::try_from(len).unwrap_or(0).saturating_sub(bytes.len()) + 1;
        bytes.try_reserve_exact(rest).map_err(|_| {
            error!(OutOfMemory, "could not allocate {} to read it", memory::mib(rest as u64))
                .file(path)
        })?;
        // A file may grow while it is read: stop where the limit is passed.
        let rest = (self.max_bytes + 1).saturating_sub(bytes.len() as u64);
        file.take(rest).read_to_end(&mut bytes).map_err(unreadable)?;
        match bytes.len() as u64 {
            found if found > self.max_bytes => Err(self.too_much(found).file(path)),
            _ => Ok(bytes),
        }
    }

    /// Reads an image from memory; `name` is what errors call it.
    pub fn decode_bytes(&self, bytes: &[u8], name: &str) -> Result<Image> {
        self.decode_inner(bytes, name).map_err(|e| e.at(name))
    }

    fn decode_inner(&self, bytes: &[u8], name: &str) -> Result<Image> {
        if bytes.is_empty() {
            return Err(error!(Image, "is empty"));
        }
        let probe = probe::probe(bytes, name)?;
        if probe.truncated {
            return Err(error!(Image, "is cut short: the image's end is missing")
                .advice("copy or download it again"));
        }
        if probe.frames > 1 && !self.first_frame {
            return Err(error!(Image, "holds {} frames; segment takes still images", probe.frames)
                .advice(
                    "extract the frames first, or ask for the first one alone (--first-frame)",
                ));
        }
        let without = probe::without_metadata(bytes, probe.format);
        let copied = if matches!(without, Cow::Owned(_)) { without.len() } else { 0 };
        let held = bytes.len() + copied;
        let mut reader = ImageReader::with_format(Cursor::new(&*without), probe.format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_bytes.saturating_sub(held as u64));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        self.check_size(width, height, decoder.color_type().bytes_per_pixel(), held, &probe)?;
        let orientation = match probe.orientation {
            Some(orientation) => orientation,
            // Damaged EXIF does not make the pixels worthless: the image is taken as it lies.
            None => decoder.orientation().unwrap_or(Orientation::NoTransforms),
        };
        let color = decoder.color_type();
        let mut data = memory::zeros(decoder.total_bytes() as usize)?;
        let is_done =
            probe.format == ImageFormat::Jpeg && jpeg::decode(bytes, (width, height), &mut data);
        if !is_done {
            decoder.read_image(&mut data).map_err(damaged)?;
        }
        let mut notes = notes_of(&probe, name);
        let (color, data) = match probe.alpha {
            Alpha::None => pixels::without_fourth_channel(color, data, &mut notes),
            Alpha::Premultiplied | Alpha::AsDecoded => (color, data),
        };
        let premultiplied = probe.alpha == Alpha::Premultiplied;
        let (rgb, alpha) = pixels::to_rgb(color, data, self.backdrop, premultiplied, &mut notes)?;
        pixels::turn(width, height, rgb, alpha, orientation, notes)
    }

    /// Refuses a size before anything is allocated for it.
    fn check_size(
        &self,
        width: u32,
        height: u32,
        bytes_per_pixel: u8,
        file: usize,
        probe: &Probe,
    ) -> Result<()> {
        let pixels = self.check_pixels(width.into(), height.into())?;
        // Beside the decoded samples: what the decoder holds, or what the conversion to RGB, the
        // alpha and the turning take.
        let beside = match probe.format {
            // Coefficients of 16 bits and planes of 8, of three colors at most; or of four in the
            // other decoder.
            ImageFormat::Jpeg if probe.progressive => 9,
            ImageFormat::WebP => 6,
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Pnm => 4,
            _ => u64::from(bytes_per_pixel).max(4),
        };
        let copies = if probe.format == ImageFormat::Jpeg { 2 } else { 1 };
        let needed = pixels
            .saturating_mul(u64::from(bytes_per_pixel) + beside)
            .saturating_add(copies * file as u64);
        if needed > self.max_bytes {
            return Err(self.too_much(needed).at(format!("{width} x {height} pixels")));
        }
        memory::check(needed, "decoding").map_err(|e| e.at(format!("{width} x {height} pixels")))
    }

    /// The number of pixels, where it is not zero and within the limit.
    pub(crate) fn check_pixels(&self, width: u64, height: u64) -> Result<u64> {
        let pixels = width.saturating_mul(height);
        if pixels == 0 {
            return Err(error!(Image, "has no pixels ({width} x {height})"));
        }
        if pixels > self.max_pixels {
            let mega = |n: u64| n as f64 / 1e6;
            return Err(error!(
                Image,
                "{width} x {height} pixels are {:.1} million, more than the limit of {:.1} million",
                mega(pixels),
                mega(self.max_pixels)
            )
            .advice(SMALLER));
        }
        Ok(pixels)
    }

    fn too_much(&self, needed: u64) -> Error {
        let mib = |n: u64| n.div_ceil(1 << 20);
        error!(
            Image,
            "decoding takes about {} MiB of memory, more than the limit of {} MiB",
            mib(needed),
            mib(self.max_bytes)
        )
        .advice(SMALLER)
    }
}

/// Opens an image file. FIFOs, devices and directories are refused: none of them is an image, and
/// some have no end.
fn open_image(path: &Path) -> Result<File> {
    if path.is_dir() {
        return Err(error!(Image, "is a directory, not an image").file(path));
    }
    open_regular(path, "an image")
}

/// Columns and rows of an image file as stored (not turned by EXIF), by its header.
///
/// Errors name the file: it cannot be read, or has no header of an image.
pub(crate) fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let unreadable = |e| Error::io(path, "could not be read", e);
    let mut file = open_image(path)?;
    let mut head = Vec::new();
    (&file).take(24).read_to_end(&mut head).map_err(unreadable)?;
    // Of a PNG these bytes are enough; a decoder would also inflate its color profile.
    if let Some(size) = probe::png_size(&head) {
        return Ok(size);
    }
    file.rewind().map_err(unreadable)?;
    let reader =
        ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(unreadable)?;
    let (width, height) = reader.into_dimensions().map_err(|e| {
        Error::new(crate::error::ErrorKind::Image, "has no header of an image that is read")
            .source(e)
            .file(path)
    })?;
    Ok((width as usize, height as usize))
}

pub(crate) fn damaged(error: ImageError) -> Error {
    let message = match &error {
        ImageError::Limits(_) => "needs more memory than the limit allows",
        ImageError::Unsupported(_) => "is of a kind that is not read",
        _ => "is damaged",
    };
    Error::new(crate::error::ErrorKind::Image, message).source(error)
}

fn notes_of(probe: &Probe, name: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if probe.frames > 1 {
        notes.push(format!("the first of {} frames was taken", probe.frames));
    }
    if probe.pages > 1 {
        notes.push(format!("the first of {} pages was taken", probe.pages));
    }
    let extension = Path::new(name)
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let claimed = ImageFormat::from_extension(&extension);
    if claimed.is_some_and(|claimed| claimed != probe.format) {
        let kind =
            probe.format.extensions_str().first().copied().unwrap_or_default().to_uppercase();
        notes.push(format!("the name ends in .{extension}, the content is {kind}"));
    }
    notes
}
