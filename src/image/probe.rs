//! Properties of an image file known before decoding: its format, its number of frames, and whether
//! it is truncated.
//!
//! The decoders do not report these (a JPEG decoder fills a missing half with gray and reports
//! success), so the containers are parsed here. Nothing is allocated, and no length in a file is
//! trusted beyond the end of the bytes.

use crate::error::{Result, error};
use crate::geometry::Size;
use image::ImageFormat;
use image::metadata::Orientation;
use std::borrow::Cow;
use std::time::Duration;

/// Properties of the container.
#[derive(Debug)]
pub(crate) struct Probe {
    pub format: ImageFormat,
    /// Frames of an animation; 1 for a still image.
    pub frames: usize,
    /// Pages of a TIFF; 1 for others.
    pub pages: usize,
    /// Display times of an animation's frames.
    pub delays: Delays,
    /// The file ends before its structure is complete.
    pub truncated: bool,
    /// A progressive JPEG, whose coefficients are all in memory while decoding.
    pub progressive: bool,
    /// Meaning of the fourth channel of a TIFF.
    pub alpha: Alpha,
    /// Orientation from a PNG's `eXIf` chunk, which the decoder misses if it follows the pixels.
    pub orientation: Option<Orientation>,
}

/// Meaning of a fourth channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpha {
    /// Opacity if the decoder reports it as such.
    AsDecoded,
    /// Opacity, with premultiplied colors (TIFF 6.0, section 18: ExtraSamples 1).
    Premultiplied,
    /// Not opacity, whatever the decoder reports, but for example near infrared (ExtraSamples 0, or
    /// no such tag).
    None,
}

/// Display times of the frames of an animation, summed.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// Number of frames with a display time.
    frames: u64,
    micros: u64,
    /// Display time of the first frame in seconds, as numerator and denominator.
    first: Option<(u32, u32)>,
    differ: bool,
}

impl Delays {
    fn add(&mut self, seconds: (u32, u32)) {
        let (numerator, denominator) = seconds;
        let time = Duration::from_secs_f64(f64::from(numerator) / f64::from(denominator.max(1)));
        self.frames += 1;
        self.micros += displayed_for(time).as_micros() as u64;
        self.differ |= *self.first.get_or_insert(seconds) != seconds;
    }

    /// Returns the frame rate as a fraction, and whether it is a mean over different display times.
    /// `None` if no frame has a display time.
    pub(crate) fn frame_rate(&self) -> Option<((u64, u64), bool)> {
        let (numerator, denominator) = self.first?;
        let time = Duration::from_secs_f64(f64::from(numerator) / f64::from(denominator.max(1)));
        let slow = displayed_for(time) == SLOW;
        Some(match (self.differ, slow) {
            (true, _) => ((self.frames * 1_000_000, self.micros), true),
            (false, true) => ((10, 1), false),
            (false, false) => ((denominator.into(), numerator.into()), false),
        })
    }
}

/// Display time of frames with a nominal time of up to 10 ms, as in browsers.
const SLOW: Duration = Duration::from_millis(100);

/// Returns the actual display time of a frame with the given nominal time.
pub(crate) fn displayed_for(nominal: Duration) -> Duration {
    if nominal <= Duration::from_millis(10) { SLOW } else { nominal }
}

/// Returns whether a file begins like a format that supports animation.
pub(crate) fn may_be_animated(head: &[u8]) -> bool {
    use ImageFormat::*;
    matches!(image::guess_format(head), Ok(Gif | Png | WebP))
}

/// Returns whether a file begins like an image, supported or not.
pub(crate) fn is_image(head: &[u8]) -> bool {
    image::guess_format(head).is_ok()
}

/// Unsupported formats that users may pass as images, by offset and magic bytes.
const UNSUPPORTED: &[(usize, &[u8], &str)] = &[
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftypcrx", "a camera's raw image"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"YUV4MPEG2", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"RIFF", "a RIFF file other than WebP"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML file (perhaps an SVG drawing)"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"\x93NUMPY", "a NumPy array"),
];

/// Parses a file's container. `name` is used only for TGA, which has no signature.
pub(crate) fn probe(bytes: &[u8], name: &str) -> Result<Probe> {
    let (format, delays) = (format_of(bytes, name)?, Delays::default());
    let mut probe = Probe {
        format,
        frames: 1,
        pages: 1,
        delays,
        truncated: false,
        progressive: false,
        alpha: Alpha::AsDecoded,
        orientation: None,
    };
    match probe.format {
        ImageFormat::Jpeg => jpeg(bytes, &mut probe),
        ImageFormat::Png => png(bytes, &mut probe),
        ImageFormat::Gif => gif(bytes, &mut probe),
        ImageFormat::WebP => webp(bytes, &mut probe),
        ImageFormat::Tiff => tiff(bytes, &mut probe),
        _ => {}
    }
    Ok(probe)
}

/// Number of leading bytes that [`format_of`] needs.
pub(crate) const HEAD_BYTES: u64 = 512;

/// Detects the format from the first bytes, or from the name for TGA.
///
/// # Errors
/// Returns an error if the format is unknown or not supported.
pub(crate) fn format_of(bytes: &[u8], name: &str) -> Result<ImageFormat> {
    use ImageFormat::*;
    let advice = "convert it to PNG or JPEG";
    match image::guess_format(bytes) {
        Ok(format @ (Png | Jpeg | Gif | WebP | Bmp | Tiff | Pnm | Qoi)) => return Ok(format),
        Ok(other) => {
            let kind =
                other.extensions_str().first().map_or("unknown".into(), |e| e.to_uppercase());
            return Err(error!(Image, "unsupported image format {kind}").advice(advice));
        }
        Err(_) if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") => return Ok(Tiff),
        Err(_) => {}
    }
    for (at, magic, what) in UNSUPPORTED {
        if bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
            let advice = if *what == "a video" {
                "segment videos one at a time, not together with images"
            } else {
                advice
            };
            return Err(error!(Image, "expected an image, found {what}").advice(advice));
        }
    }
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    if matches!(extension.as_str(), "tga" | "icb" | "vda" | "vst") {
        return Ok(Tga);
    }
    Err(error!(Image, "unknown image format")
        .advice("use a PNG, JPEG, GIF, WebP, BMP, TIFF, PNM, QOI or TGA file"))
}

fn u16_be(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_be(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn u32_le(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// Walks the segments up to the end-of-image marker. An image without one is truncated.
fn jpeg(bytes: &[u8], probe: &mut Probe) {
    let mut at = 2;
    probe.truncated = true;
    while let Some(skip) = bytes
        .get(at..)
        .and_then(|rest| rest.windows(2).position(|w| w[0] == 0xff && is_marker(w[1])))
    {
        let marker = bytes[at + skip + 1];
        at += skip + 2;
        match marker {
            0xd9 => {
                probe.truncated = false;
                return;
            }
            0x01 | 0xd8 => {}
            _ => {
                let Some(length) = u16_be(bytes, at) else { return };
                if matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce) {
                    probe.progressive = true;
                }
                at += length.max(2);
            }
        }
    }
}

/// Returns whether a byte after 0xff makes it a marker, and not a stuffed 0xff, a fill byte, or a
/// restart marker inside the data.
fn is_marker(byte: u8) -> bool {
    !matches!(byte, 0x00 | 0xff | 0xd0..=0xd7)
}

fn png(bytes: &[u8], probe: &mut Probe) {
    let mut at = 8;
    let mut seen_pixels = false;
    while let (Some(length), Some(kind)) = (u32_be(bytes, at), bytes.get(at + 4..at + 8)) {
        let data = at + 8..(at + 8).saturating_add(length);
        match kind {
            b"IDAT" => seen_pixels = true,
            // An animation header is only valid before the pixels.
            b"acTL" if !seen_pixels => probe.frames = u32_be(bytes, at + 8).unwrap_or(1).max(1),
            // The display time as a fraction of seconds; a denominator of 0 means 100 (APNG
            // specification, fcTL).
            b"fcTL" => {
                let numerator = u16_be(bytes, data.start + 20);
                let denominator = u16_be(bytes, data.start + 22);
                if let (Some(n), Some(d)) = (numerator, denominator) {
                    probe.delays.add((n as u32, if d == 0 { 100 } else { d as u32 }));
                }
            }
            b"eXIf" => {
                probe.orientation = bytes.get(data.clone()).and_then(Orientation::from_exif_chunk)
            }
            b"IEND" => return,
            _ => {}
        }
        at = data.end.saturating_add(4);
    }
    probe.truncated = true;
}

/// Returns the columns and rows of a PNG from its first 24 bytes.
pub(crate) fn png_size(head: &[u8]) -> Option<Size> {
    let is_png = head.starts_with(b"\x89PNG\r\n\x1a\n") && head.get(12..16) == Some(b"IHDR");
    is_png.then(|| Some(Size::new(u32_be(head, 16)?, u32_be(head, 20)?)))?
}

/// Removes the color profile and text chunks of a PNG: they are not used, and decoders inflate
/// them, possibly a thousandfold. Other formats store such data uncompressed.
pub(crate) fn without_metadata(bytes: &[u8], format: ImageFormat) -> Cow<'_, [u8]> {
    if format != ImageFormat::Png {
        return Cow::Borrowed(bytes);
    }
    let (mut at, mut kept, mut out) = (8, 0, Vec::new());
    while let (Some(length), Some(kind)) = (u32_be(bytes, at), bytes.get(at + 4..at + 8)) {
        let next = at.saturating_add(length).saturating_add(12);
        if matches!(kind, b"iCCP" | b"tEXt" | b"zTXt" | b"iTXt") {
            out.extend_from_slice(&bytes[kept..at]);
            kept = next.min(bytes.len());
        }
        at = next;
    }
    match kept {
        0 => Cow::Borrowed(bytes),
        _ => {
            out.extend_from_slice(&bytes[kept..]);
            Cow::Owned(out)
        }
    }
}

fn gif(bytes: &[u8], probe: &mut Probe) {
    let table = |flags: u8| if flags & 0x80 != 0 { 3usize << ((flags & 7) + 1) } else { 0 };
    let sub_blocks = |mut at: usize| -> Option<usize> {
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                return Some(at);
            }
        }
    };
    let mut frames = 0;
    // Delay of the next frame in hundredths of a second, 0 without a graphic control extension.
    let mut delay = 0;
    let mut walk = || -> Option<()> {
        let mut at = 13 + table(*bytes.get(10)?);
        loop {
            match *bytes.get(at)? {
                0x2c => {
                    at = sub_blocks(at + 11 + table(*bytes.get(at + 9)?))?;
                    frames += 1;
                    probe.delays.add((std::mem::take(&mut delay), 100));
                }
                0x21 if bytes.get(at + 1) == Some(&0xf9) => {
                    delay = u16_le(bytes, at + 4).unwrap_or(0);
                    at = sub_blocks(at + 2)?;
                }
                0x21 => at = sub_blocks(at + 2)?,
                _ => return Some(()),
            }
        }
    };
    // A file without its last byte but with a complete frame is still an image.
    probe.truncated = walk().is_none() && frames == 0;
    probe.frames = frames.max(1);
}

fn webp(bytes: &[u8], probe: &mut Probe) {
    let Some(size) = u32_le(bytes, 4) else { return probe.truncated = true };
    probe.truncated = size.saturating_add(8) > bytes.len();
    let (mut at, mut frames) = (12usize, 0);
    while let (Some(kind), Some(length)) =
        (bytes.get(at..at.saturating_add(4)), u32_le(bytes, at.saturating_add(4)))
    {
        frames += usize::from(kind == b"ANMF");
        // The duration is 24 bits of milliseconds after position and size.
        if let (b"ANMF", Some(millis)) = (kind, u32_le(bytes, at.saturating_add(20))) {
            probe.delays.add((millis as u32 & 0xff_ffff, 1000));
        }
        at = at.saturating_add(8).saturating_add(length).saturating_add(length & 1);
        if at > bytes.len() {
            break;
        }
    }
    probe.frames = frames.max(1);
}

/// Tags of a TIFF image file directory.
const PHOTOMETRIC: usize = 262;
const SAMPLES_PER_PIXEL: usize = 277;
const EXTRA_SAMPLES: usize = 338;

/// Returns the meaning of the channel after the colors, from the tags of a TIFF.
fn tiff_alpha(photometric: Option<usize>, samples: Option<usize>, extra: Option<usize>) -> Alpha {
    // 2 is RGB; other color models have other numbers of channels and are left to the decoder.
    match (photometric, samples) {
        (Some(2), Some(4)) => match extra {
            Some(1) => Alpha::Premultiplied,
            Some(2) => Alpha::AsDecoded,
            _ => Alpha::None,
        },
        _ => Alpha::AsDecoded,
    }
}

/// The image file directories of a classic TIFF.
struct Directories<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Directories<'a> {
    /// `None` for other files, such as a BigTIFF.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = bytes.starts_with(b"MM");
        let this = Self { bytes, big_endian };
        (this.short(2) == Some(42)).then_some(this)
    }

    fn short(&self, at: usize) -> Option<usize> {
        let pair: [u8; 2] = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        let read = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        Some(usize::from(read(pair)))
    }

    fn long(&self, at: usize) -> Option<usize> {
        if self.big_endian { u32_be(self.bytes, at) } else { u32_le(self.bytes, at) }
    }

    /// Returns the position of the first directory.
    fn first(&self) -> Option<usize> {
        self.long(4).filter(|&at| at > 0)
    }

    /// Returns the position of the directory after the one at `at`.
    fn next(&self, at: usize) -> Option<usize> {
        let entries = self.short(at)?;
        self.long(at + 2 + 12 * entries).filter(|&next| next > 0)
    }

    /// Returns the position of a tag's first 16-bit value in the directory at `at`.
    fn position(&self, at: usize, tag: usize) -> Option<usize> {
        let entries = self.short(at)?;
        let mut entries = (0..entries).map(|i| at + 2 + 12 * i);
        let entry = entries.find(|&entry| self.short(entry) == Some(tag))?;
        // One or two 16-bit values are stored in the entry itself, more at the offset in the entry.
        if self.long(entry + 4)? > 2 { self.long(entry + 8) } else { Some(entry + 8) }
    }

    fn value(&self, at: usize, tag: usize) -> Option<usize> {
        self.short(self.position(at, tag)?)
    }
}

/// Counts the pages of a classic TIFF and finds the meaning of the first page's last channel. A
/// BigTIFF counts as one page.
fn tiff(bytes: &[u8], probe: &mut Probe) {
    let Some(tiff) = Directories::of(bytes) else { return };
    if let Some(first) = tiff.first() {
        let value = |tag| tiff.value(first, tag);
        probe.alpha =
            tiff_alpha(value(PHOTOMETRIC), value(SAMPLES_PER_PIXEL), value(EXTRA_SAMPLES));
    }
    // The bound stops circular chains.
    let pages = std::iter::successors(tiff.first(), |&at| tiff.next(at)).take(1000);
    probe.pages = pages.filter(|&at| tiff.short(at).is_some()).count().max(1);
}

/// Declares the indices of a palette TIFF gray values. Returns whether it has a palette.
pub(crate) fn tiff_palette_as_gray(bytes: &mut [u8]) -> bool {
    const PALETTE: usize = 3;
    const BLACK_IS_ZERO: u16 = 1;
    let found = Directories::of(bytes).and_then(|tiff| {
        let at = tiff.position(tiff.first()?, PHOTOMETRIC)?;
        (tiff.short(at)? == PALETTE).then_some((at, tiff.big_endian))
    });
    let Some((at, big_endian)) = found else { return false };
    let value = if big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
    bytes[at..at + 2].copy_from_slice(&value);
    true
}
