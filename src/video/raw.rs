//! Raw frames without a container, as from cameras and pipes: size, pixel format and frame rate
//! must be given.

use super::yuv::{Chroma, Color, Matrix, Samples, to_rgb};
use super::{Frame, FrameRate, FrameSource, VideoInfo, VideoOptions, check_frame_size};
use crate::error::{Error, ErrorKind, Result, error};
use crate::geometry::Size;
use crate::image::Image;
use std::io::Read;
use std::str::FromStr;

/// Pixel format of raw frames, with ffmpeg's names. All have 8 bits per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Red, green, blue, opacity.
    Rgba,
    /// One value per pixel.
    Gray,
    /// A luma plane, then two chroma planes at half the width and height.
    Yuv420p,
    /// A luma plane, then a plane of interleaved chroma pairs at half the width and height.
    Nv12,
    /// Interleaved luma and chroma, two pixels in four bytes; the width must be even.
    Yuyv422,
}

/// All formats by name.
const NAMES: [(&str, PixelFormat); 7] = [
    ("rgb24", PixelFormat::Rgb24),
    ("bgr24", PixelFormat::Bgr24),
    ("rgba", PixelFormat::Rgba),
    ("gray", PixelFormat::Gray),
    ("yuv420p", PixelFormat::Yuv420p),
    ("nv12", PixelFormat::Nv12),
    ("yuyv422", PixelFormat::Yuyv422),
];

impl FromStr for PixelFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let format = NAMES.iter().find(|(name, _)| *name == text).map(|(_, format)| *format);
        format.ok_or_else(|| {
            error!(
                Usage,
                "unknown pixel format `{text}` (supported: {})",
                NAMES.map(|(name, _)| name).join(", ")
            )
        })
    }
}

impl PixelFormat {
    /// Returns the number of bytes of a frame.
    pub fn frame_bytes(self, size: Size) -> usize {
        // Saturated sizes match no buffer.
        let pixels = size.pixels();
        let quarter = size.map(|side| side.div_ceil(2)).pixels();
        match self {
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => pixels.saturating_mul(3),
            PixelFormat::Rgba => pixels.saturating_mul(4),
            PixelFormat::Gray => pixels,
            PixelFormat::Yuv420p | PixelFormat::Nv12 => {
                pixels.saturating_add(quarter.saturating_mul(2))
            }
            PixelFormat::Yuyv422 => pixels.saturating_mul(2),
        }
    }

    /// Converts the bytes of a frame to an image. Luma and chroma are interpreted in limited range
    /// with the matrix that players assume for the size; transparent pixels are blended with
    /// `backdrop`.
    ///
    /// # Errors
    /// Returns an error if the number of bytes does not match the size, or the format does not
    /// support the size.
    pub fn image(self, size: Size, bytes: &[u8], backdrop: [u8; 3]) -> Result<Image> {
        let Size { width, height } = size;
        if self == PixelFormat::Yuyv422 && !width.is_multiple_of(2) {
            return Err(error!(Usage, "yuyv422 requires an even width, got {width}"));
        }
        if bytes.len() != self.frame_bytes(size) {
            return Err(error!(
                Usage,
                "a {self:?} frame of {size} pixels does not have {} bytes",
                bytes.len()
            ));
        }
        let color = Color { matrix: Matrix::default_for(size), full_range: false };
        let (luma, rest) = bytes.split_at(bytes.len().min(width * height));
        let (row, quarter) = (width.div_ceil(2), width.div_ceil(2) * height.div_ceil(2));
        let halved = |cb, cr| Some(Chroma { cb, cr, across: 2, down: 2 });
        let rgb = match self {
            PixelFormat::Rgb24 => bytes.to_vec(),
            PixelFormat::Bgr24 => bytes.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect(),
            PixelFormat::Rgba => return Image::from_rgba(size, bytes.to_vec(), backdrop),
            PixelFormat::Gray => bytes.iter().flat_map(|&v| [v; 3]).collect(),
            PixelFormat::Yuv420p => {
                let (cb, cr) = rest.split_at(quarter);
                let chroma = halved(Samples::plane(cb, row), Samples::plane(cr, row));
                to_rgb(size, Samples::plane(luma, width), chroma, color)
            }
            PixelFormat::Nv12 => {
                let pairs = |from: usize| Samples { data: &rest[from..], step: 2, pitch: 2 * row };
                to_rgb(size, Samples::plane(luma, width), halved(pairs(0), pairs(1)), color)
            }
            PixelFormat::Yuyv422 => {
                let samples =
                    |from: usize, step| Samples { data: &bytes[from..], step, pitch: 2 * width };
                let chroma = Chroma { cb: samples(1, 4), cr: samples(3, 4), across: 2, down: 1 };
                to_rgb(size, samples(0, 2), Some(chroma), color)
            }
        };
        Image::new(size, rgb)
    }
}

/// Size and pixel format of raw frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrames {
    /// Size of a frame.
    pub size: Size,
    /// Pixel format.
    pub format: PixelFormat,
}

/// Reads consecutive raw frames.
pub(super) struct RawSource<R> {
    reader: R,
    name: String,
    frames: RawFrames,
    info: VideoInfo,
    backdrop: [u8; 3],
    bytes: Vec<u8>,
    read: u64,
    over: bool,
}

impl<R: Read + Send> RawSource<R> {
    pub(super) fn new(
        reader: R,
        name: &str,
        length: Option<u64>,
        frames: RawFrames,
        options: &VideoOptions,
    ) -> Result<Self> {
        check_frame_size(frames.size, 8, options).map_err(|e| e.at(name))?;
        let Size { width, height } = frames.size;
        if frames.format == PixelFormat::Yuyv422 && !width.is_multiple_of(2) {
            return Err(error!(Usage, "yuyv422 requires an even width, got {width}").at(name));
        }
        let size = frames.format.frame_bytes(frames.size);
        let frame_rate = options.frame_rate.unwrap_or(FrameRate::DEFAULT);
        let info = VideoInfo {
            width,
            height,
            frame_rate,
            frames: length.map(|l| l / size as u64),
            notes: Vec::new(),
        };
        let backdrop = options.decode.backdrop;
        Ok(Self {
            reader,
            name: name.to_owned(),
            frames,
            info,
            backdrop,
            bytes: vec![0; size],
            read: 0,
            over: false,
        })
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let number = self.read + 1;
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.reader.read(&mut self.bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    let expected = self.bytes.len();
                    return Err(error!(
                        Image,
                        "the stream ends after {filled} of {expected} bytes"
                    )
                    .at(format!("frame {number}"))
                    .at(&self.name)
                    .advice("check that the frame size and pixel format match the stream"));
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let error = Error::new(ErrorKind::Io, "could not be read").source(e);
                    return Err(error.at(format!("frame {number}")).at(&self.name));
                }
            }
        }
        self.read = number;
        let RawFrames { size, format } = self.frames;
        Ok(Some(Frame { image: format.image(size, &self.bytes, self.backdrop)?, duration: None }))
    }
}

impl<R: Read + Send> Iterator for RawSource<R> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let frame = self.frame();
        self.over = !matches!(frame, Ok(Some(_)));
        frame.transpose()
    }
}

impl<R: Read + Send> FrameSource for RawSource<R> {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}
