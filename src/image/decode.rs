//! Decoding of image files to 8-bit RGB. Unusual but valid content is converted with a note;
//! anything else is an error that names the file.

use super::probe::{self, Alpha, Probe};
use super::{jpeg, pixels};
use crate::error::{Error, Result, error};
use crate::files::open_regular;
use crate::geometry::Size;
use crate::memory;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

/// Default limit on the number of pixels of an image: 512 MiB of RGB, the size above which Pillow
/// refuses a file as a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Default limit on the memory for decoding an image: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// Advice for an image past a limit. The limits in [`DecodeOptions`] can be set by programs, but
/// not on the command line.
const SCALE_DOWN_ADVICE: &str = "scale the image down, or crop it, with an image editor first";

/// Background color of transparent pixels: the gray nearest to 0 after the mobile networks' `x /
/// 127.5 - 1`.
///
/// Mid-gray rather than white or black: it is the padding of the networks' training images, light
/// and dark objects both contrast with it, and the hidden colors of transparent pixels never reach
/// the network.
pub const BACKDROP: [u8; 3] = [127; 3];

/// A decoded image: 8-bit sRGB, upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, red first. Transparent pixels are already blended with the backdrop.
    pub rgb: Vec<u8>,
    /// `[height, width]`, 255 is opaque; `None` if every pixel is opaque. Cut-outs keep transparent
    /// pixels transparent.
    pub alpha: Option<Vec<u8>>,
    /// Human-readable notes on conversions applied while decoding; empty for a plain image.
    pub notes: Vec<String>,
}

impl Image {
    /// Creates an image from its pixels, `[height, width, 3]`.
    ///
    /// # Errors
    /// Returns an error if there are no pixels or their number does not match the size.
    pub fn new(size: Size, rgb: Vec<u8>) -> Result<Self> {
        let Size { width, height } = size;
        let expected = size.pixels().checked_mul(3);
        if expected != Some(rgb.len()) || rgb.is_empty() {
            return Err(error!(
                Usage,
                "an RGB image of {size} pixels does not have {} bytes",
                rgb.len()
            ));
        }
        Ok(Self { width, height, rgb, alpha: None, notes: Vec::new() })
    }

    /// Creates an image from RGBA pixels, `[height, width, 4]`. Transparent pixels are blended with
    /// `backdrop`, and the opacity is kept in `alpha`.
    ///
    /// # Errors
    /// Returns an error if there are no pixels or their number does not match the size.
    pub fn from_rgba(size: Size, rgba: Vec<u8>, backdrop: [u8; 3]) -> Result<Self> {
        let Size { width, height } = size;
        let expected = size.pixels().checked_mul(4);
        if expected != Some(rgba.len()) || rgba.is_empty() {
            return Err(error!(
                Usage,
                "an RGBA image of {size} pixels does not have {} bytes",
                rgba.len()
            ));
        }
        let mut notes = Vec::new();
        let (rgb, alpha) = pixels::to_rgb(ColorType::Rgba8, rgba, backdrop, false, &mut notes)?;
        Ok(Self { width, height, rgb, alpha, notes })
    }

    /// Returns the width and height.
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

/// Decodes an image file with the default [`DecodeOptions`].
///
/// # Errors
/// As for [`DecodeOptions::decode`].
pub fn decode(path: impl AsRef<Path>) -> Result<Image> {
    DecodeOptions::default().decode(path)
}

/// Decodes an image in memory with the default [`DecodeOptions`]; `name` identifies it in errors.
///
/// # Errors
/// As for [`DecodeOptions::decode_bytes`].
pub fn decode_bytes(bytes: &[u8], name: &str) -> Result<Image> {
    DecodeOptions::default().decode_bytes(bytes, name)
}

/// Options and limits for decoding images.
///
/// Supported formats are PNG, JPEG, GIF, WebP, BMP, TIFF, PNM, QOI and TGA. The format is detected
/// from the content, not the file name (except TGA, which has no signature). The EXIF orientation
/// is applied. Gray is converted to RGB, 16-bit samples are rounded to 8 bits, and transparency is
/// blended with [`DecodeOptions::backdrop`]. Color profiles are not applied, as in the networks'
/// training. YCbCr JPEGs (nearly all) decode to the same pixels as libjpeg and therefore Pillow;
/// gray and CMYK JPEGs may differ by a few steps of 255.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Decode the first frame of an animation instead of returning an error.
    pub first_frame: bool,
    /// Maximum number of pixels, checked against the header before memory is allocated.
    pub max_pixels: u64,
    /// Maximum memory for decoding, in bytes: the file, its pixels, and the decoder's working
    /// memory.
    pub max_bytes: u64,
    /// Background color of transparent pixels.
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
    /// Decodes an image file.
    ///
    /// # Errors
    /// Returns an error with the file's name if the file cannot be read, is empty, a directory, not
    /// an image, of an unsupported format, corrupt, truncated, too large, or an animation.
    pub fn decode(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let bytes = self.read(path)?;
        self.decode_bytes(&bytes, &path.display().to_string())
    }

    /// Reads the bytes of an image file, at most [`DecodeOptions::max_bytes`]. A file whose first
    /// bytes are not those of an image is refused before the rest is read.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let file = open_image(path)?;
        let unreadable = |e| Error::io(path, "could not be read", e);
        let len = file.metadata().map_err(unreadable)?.len();
        if len > self.max_bytes {
            return Err(self.too_large(len).file(path));
        }
        let mut bytes = Vec::new();
        (&file).take(probe::HEAD_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        if !bytes.is_empty() {
            probe::format_of(&bytes, &path.display().to_string()).map_err(|e| e.file(path))?;
        }
        let rest = usize::try_from(len).unwrap_or(0).saturating_sub(bytes.len()) + 1;
        bytes.try_reserve_exact(rest).map_err(|_| {
            error!(OutOfMemory, "could not allocate {} for reading", memory::mib(rest as u64))
                .file(path)
        })?;
        // A file may grow while it is read: stop past the limit.
        let rest = (self.max_bytes + 1).saturating_sub(bytes.len() as u64);
        file.take(rest).read_to_end(&mut bytes).map_err(unreadable)?;
        let len = bytes.len() as u64;
        if len > self.max_bytes { Err(self.too_large(len).file(path)) } else { Ok(bytes) }
    }

    /// Decodes an image in memory; `name` identifies it in errors.
    ///
    /// # Errors
    /// As for [`DecodeOptions::decode`].
    pub fn decode_bytes(&self, bytes: &[u8], name: &str) -> Result<Image> {
        self.decode_inner(bytes, name).map_err(|e| e.at(name))
    }

    fn decode_inner(&self, bytes: &[u8], name: &str) -> Result<Image> {
        if bytes.is_empty() {
            return Err(error!(Image, "the file is empty"));
        }
        let probe = probe::probe(bytes, name)?;
        if probe.truncated {
            return Err(error!(Image, "truncated file: the end of the image is missing")
                .advice("copy or download it again"));
        }
        if probe.frames > 1 && !self.first_frame {
            return Err(error!(
                Image,
                "animation of {} frames; expected a still image", probe.frames
            )
            .advice("extract the frames, or use only the first one with --first-frame"));
        }
        let stripped = probe::without_metadata(bytes, probe.format);
        let copied = if matches!(stripped, Cow::Owned(_)) { stripped.len() } else { 0 };
        let input_bytes = bytes.len() + copied;
        let mut reader = ImageReader::with_format(Cursor::new(&*stripped), probe.format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_bytes.saturating_sub(input_bytes as u64));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        let size = Size::new(width as usize, height as usize);
        self.check_size(size, decoder.color_type().bytes_per_pixel(), input_bytes, &probe)?;
        let orientation = match probe.orientation {
            Some(orientation) => orientation,
            // The pixels are usable without valid EXIF data: leave the image unrotated.
            None => decoder.orientation().unwrap_or(Orientation::NoTransforms),
        };
        let color = decoder.color_type();
        let mut data = memory::zeros(decoder.total_bytes() as usize)?;
        let is_decoded = probe.format == ImageFormat::Jpeg && jpeg::decode(bytes, size, &mut data);
        if !is_decoded {
            decoder.read_image(&mut data).map_err(damaged)?;
        }
        let mut notes = notes_of(&probe, name);
        let (color, data) = match probe.alpha {
            Alpha::None => pixels::without_fourth_channel(color, data, &mut notes),
            Alpha::Premultiplied | Alpha::AsDecoded => (color, data),
        };
        let premultiplied = probe.alpha == Alpha::Premultiplied;
        let (rgb, alpha) = pixels::to_rgb(color, data, self.backdrop, premultiplied, &mut notes)?;
        pixels::orient(width, height, rgb, alpha, orientation, notes)
    }

    /// Checks the size before anything is allocated for it.
    fn check_size(
        &self,
        size: Size,
        bytes_per_pixel: u8,
        file: usize,
        probe: &Probe,
    ) -> Result<()> {
        let pixels = self.check_pixels(size)?;
        // Bytes per pixel on top of the decoded samples: the decoder's buffers, or the conversion
        // to RGB, the alpha channel and the rotation.
        let overhead = match probe.format {
            // 16-bit coefficients and 8-bit planes of up to three components, or of four in the
            // `image` crate's decoder.
            ImageFormat::Jpeg if probe.progressive => 9,
            ImageFormat::WebP => 6,
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Pnm => 4,
            _ => u64::from(bytes_per_pixel).max(4),
        };
        let copies = if probe.format == ImageFormat::Jpeg { 2 } else { 1 };
        let needed = pixels
            .saturating_mul(u64::from(bytes_per_pixel) + overhead)
            .saturating_add(copies * file as u64);
        if needed > self.max_bytes {
            return Err(self.too_large(needed).at(format!("{size} pixels")));
        }
        memory::check(needed, "decoding").map_err(|e| e.at(format!("{size} pixels")))
    }

    /// Returns the number of pixels, or an error if it is zero or past the limit.
    pub(crate) fn check_pixels(&self, size: Size) -> Result<u64> {
        let pixels = size.pixels() as u64;
        if pixels == 0 {
            return Err(error!(Image, "the image has no pixels ({size})"));
        }
        if pixels > self.max_pixels {
            let mega = |n: u64| n as f64 / 1e6;
            return Err(error!(
                Image,
                "{size} is {:.1} million pixels, over the limit of {:.1} million",
                mega(pixels),
                mega(self.max_pixels)
            )
            .advice(SCALE_DOWN_ADVICE));
        }
        Ok(pixels)
    }

    fn too_large(&self, needed: u64) -> Error {
        let mib = |n: u64| n.div_ceil(1 << 20);
        error!(
            Image,
            "decoding needs about {} MiB of memory, over the limit of {} MiB",
            mib(needed),
            mib(self.max_bytes)
        )
        .advice(SCALE_DOWN_ADVICE)
    }
}

/// Opens an image file. FIFOs, devices and directories are refused: they are not images, and
/// reading some of them never ends.
fn open_image(path: &Path) -> Result<File> {
    if path.is_dir() {
        return Err(error!(Image, "expected an image, found a directory").file(path));
    }
    open_regular(path, "an image")
}

/// Reads the columns and rows of an image file from its header, as stored (without EXIF rotation).
///
/// # Errors
/// Returns an error with the file's name if the file cannot be read or has no image header.
pub(crate) fn dimensions(path: &Path) -> Result<Size> {
    let unreadable = |e| Error::io(path, "could not be read", e);
    let mut file = open_image(path)?;
    let mut head = Vec::new();
    (&file).take(24).read_to_end(&mut head).map_err(unreadable)?;
    // For PNG these bytes are enough; a decoder would also inflate the color profile.
    if let Some(size) = probe::png_size(&head) {
        return Ok(size);
    }
    file.rewind().map_err(unreadable)?;
    let reader =
        ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(unreadable)?;
    let (width, height) = reader.into_dimensions().map_err(|e| {
        Error::new(crate::error::ErrorKind::Image, "no header of a supported image format")
            .source(e)
            .file(path)
    })?;
    Ok(Size::new(width as usize, height as usize))
}

/// Reads the columns and rows that an image file has when it is decoded: rotated by its EXIF
/// orientation.
///
/// # Errors
/// As for [`dimensions`].
pub(crate) fn upright_dimensions(path: &Path) -> Result<Size> {
    let size = dimensions(path)?;
    Ok(if is_turned(path).unwrap_or(false) { size.transposed() } else { size })
}

/// Whether columns become rows when an image file is decoded; `None` if it cannot be read.
fn is_turned(path: &Path) -> Option<bool> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let file = BufReader::new(open_image(path).ok()?);
    let mut decoder = ImageReader::new(file).with_guessed_format().ok()?.into_decoder().ok()?;
    let orientation = decoder.orientation().ok()?;
    Some(matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH))
}

pub(crate) fn damaged(error: ImageError) -> Error {
    let message = match &error {
        ImageError::Limits(_) => "decoding needs more memory than the limit allows",
        ImageError::Unsupported(_) => "unsupported kind of image",
        _ => "corrupt image",
    };
    Error::new(crate::error::ErrorKind::Image, message).source(error)
}

fn notes_of(probe: &Probe, name: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if probe.frames > 1 {
        notes.push(format!("used the first of {} frames", probe.frames));
    }
    if probe.pages > 1 {
        notes.push(format!("used the first of {} pages", probe.pages));
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
        notes.push(format!("the file extension is .{extension}, but the content is {kind}"));
    }
    notes
}
