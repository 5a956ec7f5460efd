//! What an image file says of itself before anything is decoded: its kind, how many frames it
//! holds, whether it is cut short.
//!
//! The decoders do not tell these (a JPEG decoder fills a missing half with gray and calls it
//! success), so the containers are walked here. Nothing is allocated, and no length found in a file
//! is trusted beyond the end of the bytes.

use crate::error::{Result, error};
use image::ImageFormat;
use image::metadata::Orientation;
use std::borrow::Cow;
use std::time::Duration;

/// What was found in the container.
#[derive(Debug)]
pub(crate) struct Probe {
    pub format: ImageFormat,
    /// Frames of an animation; 1 for a still image.
    pub frames: usize,
    /// Pages of a TIFF; 1 for others.
    pub pages: usize,
    /// How long an animation's frames are shown.
    pub delays: Delays,
    /// The file ends before its own structure does.
    pub truncated: bool,
    /// A JPEG that keeps all coefficients in memory while decoding.
    pub progressive: bool,
    /// What the fourth channel of a TIFF is.
    pub alpha: Alpha,
    /// Of a PNG's `eXIf` chunk, which the decoder misses where it stands behind the pixels.
    pub orientation: Option<Orientation>,
}

/// What a fourth channel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpha {
    /// Opacity, where the decoder calls it that.
    AsDecoded,
    /// Opacity by which the colors are multiplied already (TIFF 6.0, section 18: ExtraSamples 1).
    Premultiplied,
    /// No opacity, whatever the decoder calls it: near infrared, say (ExtraSamples 0, or no such
    /// tag).
    None,
}

/// The times for which the frames of an animation are shown, summed up.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// Frames that say how long.
    frames: u64,
    micros: u64,
    /// The first frame's, in seconds: above and below the line.
    first: Option<(u32, u32)>,
    differ: bool,
}

impl Delays {
    fn add(&mut self, seconds: (u32, u32)) {
        let shown =
            shown(Duration::from_secs_f64(f64::from(seconds.0) / f64::from(seconds.1.max(1))));
        self.frames += 1;
        self.micros += shown.as_micros() as u64;
        self.differ |= *self.first.get_or_insert(seconds) != seconds;
    }

    /// Frames a second as a fraction, and whether that is only their mean; `None` where no frame
    /// tells.
    pub(crate) fn rate(&self) -> Option<((u64, u64), bool)> {
        let (above, below) = self.first?;
        let slow =
            shown(Duration::from_secs_f64(f64::from(above) / f64::from(below.max(1)))) == SLOW;
        Some(match (self.differ, slow) {
            (true, _) => ((self.frames * 1_000_000, self.micros), true),
            (false, true) => ((10, 1), false),
            (false, false) => ((below.into(), above.into()), false),
        })
    }
}

/// Times of up to 10 ms are shown for [`SLOW`] by browsers, whatever the file says, and here.
const SLOW: Duration = Duration::from_millis(100);

/// How long a frame is shown for which an animation says `said`.
pub(crate) fn shown(said: Duration) -> Duration {
    if said <= Duration::from_millis(10) { SLOW } else { said }
}

/// Whether a file begins as one of the kinds that can be animated.
pub(crate) fn animates(head: &[u8]) -> bool {
    use ImageFormat::*;
    matches!(image::guess_format(head), Ok(Gif | Png | WebP))
}

/// Whether a file begins as an image, read here or not.
pub(crate) fn is_image(head: &[u8]) -> bool {
    image::guess_format(head).is_ok()
}

/// Kinds of file that people take for images and that are not read, by their first bytes.
const FOREIGN: &[(usize, &[u8], &str)] = &[
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
    (0, b"RIFF", "a RIFF file that is no WebP image"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML file (perhaps an SVG drawing)"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"\x93NUMPY", "a NumPy array"),
];

/// Looks at a file's content. `name` only helps where the content is silent: TGA has no signature.
pub(crate) fn probe(bytes: &[u8], name: &str) -> Result<Probe> {
    let (format, delays) = (format_of(bytes, name)?, Delays::default());
    let mut found = Probe {
        format,
        frames: 1,
        pages: 1,
        delays,
        truncated: false,
        progressive: false,
        alpha: Alpha::AsDecoded,
        orientation: None,
    };
    match found.format {
        ImageFormat::Jpeg => jpeg(bytes, &mut found),
        ImageFormat::Png => png(bytes, &mut found),
        ImageFormat::Gif => gif(bytes, &mut found),
        ImageFormat::WebP => webp(bytes, &mut found),
        ImageFormat::Tiff => tiff(bytes, &mut found),
        _ => {}
    }
    Ok(found)
}

/// How many of a file's first bytes [`format_of`] looks at.
pub(crate) const HEAD: u64 = 512;

/// The kind of file, by its first bytes; by its name where it is TGA. Errors where no such image is
/// read.
pub(crate) fn format_of(bytes: &[u8], name: &str) -> Result<ImageFormat> {
    use ImageFormat::*;
    let advice = "convert it to PNG or JPEG";
    match image::guess_format(bytes) {
        Ok(format @ (Png | Jpeg | Gif | WebP | Bmp | Tiff | Pnm | Qoi)) => return Ok(format),
        Ok(other) => {
            let kind =
                other.extensions_str().first().map_or("unknown".into(), |e| e.to_uppercase());
            return Err(error!(Image, "holds {kind}, which is not read").advice(advice));
        }
        Err(_) if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") => return Ok(Tiff),
        Err(_) => {}
    }
    for (at, magic, what) in FOREIGN {
        if bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
            let advice = if *what == "a video" {
                "videos are segmented one at a time, not among images"
            } else {
                advice
            };
            return Err(error!(Image, "is {what}, which is not read").advice(advice));
        }
    }
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    if matches!(extension.as_str(), "tga" | "icb" | "vda" | "vst") {
        return Ok(Tga);
    }
    Err(error!(Image, "is no image of a kind that is read")
        .advice("give a PNG, JPEG, GIF, WebP, BMP, TIFF, PNM, QOI or TGA file"))
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

/// Walks the segments up to the end-of-image marker. An image without one was cut short.
fn jpeg(bytes: &[u8], found: &mut Probe) {
    let mut at = 2;
    found.truncated = true;
    while let Some(skip) = bytes
        .get(at..)
        .and_then(|rest| rest.windows(2).position(|w| w[0] == 0xff && is_marker(w[1])))
    {
        let marker = bytes[at + skip + 1];
        at += skip + 2;
        match marker {
            0xd9 => {
                found.truncated = false;
                return;
            }
            0x01 | 0xd8 => {}
            _ => {
                let Some(length) = u16_be(bytes, at) else { return };
                if matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce) {
                    found.progressive = true;
                }
                at += length.max(2);
            }
        }
    }
}

/// Whether a byte behind 0xff makes a marker: not a stuffed 0xff, fill, or a restart in the middle
/// of the data.
fn is_marker(byte: u8) -> bool {
    !matches!(byte, 0x00 | 0xff | 0xd0..=0xd7)
}

fn png(bytes: &[u8], found: &mut Probe) {
    let mut at = 8;
    let mut seen_pixels = false;
    while let (Some(length), Some(kind)) = (u32_be(bytes, at), bytes.get(at + 4..at + 8)) {
        let data = at + 8..(at + 8).saturating_add(length);
        match kind {
            b"IDAT" => seen_pixels = true,
            // An animation's header counts only in front of the pixels.
            b"acTL" if !seen_pixels => found.frames = u32_be(bytes, at + 8).unwrap_or(1).max(1),
            // The numbers of seconds; nothing below the line stands for 100 (APNG specification,
            // fcTL).
            b"fcTL" => {
                if let (Some(above), Some(below)) =
                    (u16_be(bytes, data.start + 20), u16_be(bytes, data.start + 22))
                {
                    found.delays.add((above as u32, if below == 0 { 100 } else { below as u32 }));
                }
            }
            b"eXIf" => {
                found.orientation = bytes.get(data.clone()).and_then(Orientation::from_exif_chunk)
            }
            b"IEND" => return,
            _ => {}
        }
        at = data.end.saturating_add(4);
    }
    found.truncated = true;
}

/// A PNG's columns and rows, by its first 24 bytes.
pub(crate) fn png_size(head: &[u8]) -> Option<(usize, usize)> {
    let is_png = head.starts_with(b"\x89PNG\r\n\x1a\n") && head.get(12..16) == Some(b"IHDR");
    is_png.then(|| Some((u32_be(head, 16)?, u32_be(head, 20)?)))?
}

/// A PNG without its color profile and its texts, of which nothing is used: decoders inflate them,
/// and a thousandfold at that. Other kinds store such things uncompressed.
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

fn gif(bytes: &[u8], found: &mut Probe) {
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
    // Said in front of a frame, in hundredths of a second; a frame in front of which nothing is
    // said has none.
    let mut said = 0;
    let mut walk = || -> Option<()> {
        let mut at = 13 + table(*bytes.get(10)?);
        loop {
            match *bytes.get(at)? {
                0x2c => {
                    at = sub_blocks(at + 11 + table(*bytes.get(at + 9)?))?;
                    frames += 1;
                    found.delays.add((std::mem::take(&mut said), 100));
                }
                0x21 if bytes.get(at + 1) == Some(&0xf9) => {
                    said = u16_le(bytes, at + 4).unwrap_or(0);
                    at = sub_blocks(at + 2)?;
                }
                0x21 => at = sub_blocks(at + 2)?,
                _ => return Some(()),
            }
        }
    };
    // A file without its last byte, but with a whole frame, is an image all the same.
    found.truncated = walk().is_none() && frames == 0;
    found.frames = frames.max(1);
}

fn webp(bytes: &[u8], found: &mut Probe) {
    let Some(size) = u32_le(bytes, 4) else { return found.truncated = true };
    found.truncated = size.saturating_add(8) > bytes.len();
    let (mut at, mut frames) = (12usize, 0);
    while let (Some(kind), Some(length)) =
        (bytes.get(at..at.saturating_add(4)), u32_le(bytes, at.saturating_add(4)))
    {
        frames += usize::from(kind == b"ANMF");
        // Milliseconds in 24 bits, behind place and size.
        if let (b"ANMF", Some(millis)) = (kind, u32_le(bytes, at.saturating_add(20))) {
            found.delays.add((millis as u32 & 0xff_ffff, 1000));
        }
        at = at.saturating_add(8).saturating_add(length).saturating_add(length & 1);
        if at > bytes.len() {
            break;
        }
    }
    found.frames = frames.max(1);
}

/// Tags of a TIFF's directory.
const PHOTOMETRIC: usize = 262;
const SAMPLES_PER_PIXEL: usize = 277;
const EXTRA_SAMPLES: usize = 338;

/// What the channel behind the colors is, by the tags of a TIFF.
fn tiff_alpha(photometric: Option<usize>, samples: Option<usize>, extra: Option<usize>) -> Alpha {
    // 2 is RGB; other kinds have other numbers of colors, and stay the decoder's to name.
    match (photometric, samples) {
        (Some(2), Some(4)) => match extra {
            Some(1) => Alpha::Premultiplied,
            Some(2) => Alpha::AsDecoded,
            _ => Alpha::None,
        },
        _ => Alpha::AsDecoded,
    }
}

/// Counts the directories of a classic TIFF, and says what the first one's last channel is; a big
/// one counts as one page.
fn tiff(bytes: &[u8], found: &mut Probe) {
    let big_endian = bytes.starts_with(b"MM");
    let short = |at: usize| {
        let pair: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(if big_endian {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }))
    };
    let long = |at: usize| if big_endian { u32_be(bytes, at) } else { u32_le(bytes, at) };
    if short(2) != Some(42) {
        return;
    }
    let (mut next, mut pages) = (long(4), 0);
    // The bound breaks chains that bite their own tail.
    while let (Some(at @ 1..), true) = (next, pages < 1000) {
        let Some(entries) = short(at) else { break };
        if pages == 0 {
            let value = |tag: usize| {
                let entry = (0..entries)
                    .map(|i| at + 2 + 12 * i)
                    .find(|&entry| short(entry) == Some(tag))?;
                // One or two numbers of 16 bits are in the entry itself; more are elsewhere, at
                // this offset.
                let count = long(entry + 4)?;
                if count > 2 { short(long(entry + 8)?) } else { short(entry + 8) }
            };
            found.alpha =
                tiff_alpha(value(PHOTOMETRIC), value(SAMPLES_PER_PIXEL), value(EXTRA_SAMPLES));
        }
        pages += 1;
        next = long(at + 2 + 12 * entries);
    }
    found.pages = pages.max(1);
}
