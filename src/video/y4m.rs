//! YUV4MPEG2 (`.y4m`), the uncompressed video format used in pipes: a header line, then for each
//! frame a line and its planes.
//!
//! Implemented here rather than with a crate, because the header must be checked before memory is
//! allocated, an end between two frames must be distinguished from one within a frame, and errors
//! must state the problem. The tests compare it with the crate `y4m`.

use super::yuv::{Chroma, Color, Matrix, Samples, from_rgb_420, to_rgb};
use super::{Frame, FrameRate, FrameSource, VideoInfo, VideoOptions, check_frame_size};
use crate::error::{Error, Result, error};
use crate::geometry::Size;
use crate::image::Image;
use std::io::{BufRead, ErrorKind as IoKind, Read, Write};

/// Magic bytes at the beginning of a Y4M stream.
pub(super) const MAGIC: &[u8] = b"YUV4MPEG2";

/// Maximum length of a header line, in bytes.
const MAX_LINE: u64 = 1024;

/// Parameters of the stream header.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    size: Size,
    frame_rate: Option<FrameRate>,
    /// Pixels per chroma sample; `None` for mono.
    chroma: Option<Size>,
    full_range: bool,
    interlaced: bool,
}

impl Header {
    fn parse(line: &[u8], options: &VideoOptions) -> Result<Self> {
        let not_y4m = || error!(Image, "not a Y4M stream: it does not begin with YUV4MPEG2");
        let line = line.strip_prefix(MAGIC).ok_or_else(not_y4m)?;
        let line = String::from_utf8_lossy(line);
        let (mut width, mut height) = (None, None);
        let mut header = Header {
            size: Size::default(),
            frame_rate: None,
            chroma: Some(Size::square(2)),
            full_range: false,
            interlaced: false,
        };
        for word in line.split(' ').filter(|w| !w.is_empty()) {
            let (key, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            match key {
                "W" => width = value.parse::<u32>().ok().map(|n| n as usize),
                "H" => height = value.parse::<u32>().ok().map(|n| n as usize),
                // 0:0 means that the frame rate is unknown.
                "F" => {
                    header.frame_rate = value
                        .split_once(':')
                        .and_then(|(n, d)| FrameRate::new(n.parse().ok()?, d.parse().ok()?))
                }
                "I" => header.interlaced = !matches!(value, "p" | "?"),
                "C" => header.chroma = chroma(value)?,
                "X" => match value {
                    "COLORRANGE=FULL" => header.full_range = true,
                    "COLORRANGE=LIMITED" => header.full_range = false,
                    _ => {}
                },
                _ => {}
            }
        }
        let (Some(width), Some(height)) = (width, height) else {
            return Err(error!(Image, "the Y4M header has no valid width and height (W and H)"));
        };
        // Check the size of planes and RGB together before allocating either.
        header.size = Size::new(width, height);
        check_frame_size(header.size, 6, options)?;
        Ok(header)
    }

    /// Returns the number of luma samples, of samples in each chroma plane, and of samples in a
    /// chroma row.
    fn sizes(&self) -> (usize, usize, usize) {
        let luma = self.size.pixels();
        self.chroma.map_or((luma, 0, 0), |factor| {
            let plane = self.size.zip(factor, usize::div_ceil);
            (luma, plane.pixels(), plane.width)
        })
    }
}

fn chroma(name: &str) -> Result<Option<Size>> {
    Ok(match name {
        // These differ in chroma siting, but not in the grid.
        "420" | "420jpeg" | "420paldv" | "420mpeg2" => Some(Size::square(2)),
        "422" => Some(Size::new(2, 1)),
        "444" => Some(Size::square(1)),
        "411" => Some(Size::new(4, 1)),
        "mono" => None,
        _ => {
            return Err(error!(
                Image,
                "unsupported Y4M color space C{name} (supported: 8-bit 4:2:0, 4:2:2, 4:4:4, 4:1:1, mono)"
            )
            .advice("convert it with `ffmpeg -i IN -pix_fmt yuv420p OUT.y4m`"));
        }
    })
}

/// Frames of a Y4M stream.
pub(super) struct Y4mSource<R> {
    reader: R,
    name: String,
    header: Header,
    color: Color,
    info: VideoInfo,
    planes: Vec<u8>,
    /// Number of frames read.
    read: u64,
    over: bool,
}

impl<R: BufRead + Send> Y4mSource<R> {
    /// Reads the header. `length` is the length of the stream if it is a file; `matrix` is the
    /// color matrix if it is known.
    pub(super) fn new(
        mut reader: R,
        name: &str,
        length: Option<u64>,
        matrix: Option<Matrix>,
        options: &VideoOptions,
    ) -> Result<Self> {
        let line = read_line(&mut reader).map_err(|e| Error::io(name, "could not be read", e))?;
        let line = line.ok_or_else(|| error!(Image, "unterminated Y4M header").at(name))?;
        let header = Header::parse(&line, options).map_err(|e| e.at(name))?;
        let color = Color {
            matrix: matrix.unwrap_or(Matrix::default_for(header.size)),
            full_range: header.full_range,
        };
        let (luma, chroma, _) = header.sizes();
        let size = luma + 2 * chroma;
        // Exact unless frames carry their own parameters, which no known encoder writes.
        let frames = length.map(|l| l.saturating_sub(line.len() as u64 + 1) / (size as u64 + 6));
        let mut notes = Vec::new();
        if header.frame_rate.is_none() {
            notes.push(format!(
                "the stream does not specify a frame rate; assuming {} fps",
                FrameRate::DEFAULT
            ));
        }
        if header.interlaced {
            notes.push("the video is interlaced; frames are not deinterlaced".to_owned());
        }
        if header.chroma.is_some() && matrix.is_none() {
            let range = if header.full_range { "full" } else { "limited" };
            notes.push(format!("assuming {} colors in {range} range", color.matrix.name()));
        }
        let info = VideoInfo {
            width: header.size.width,
            height: header.size.height,
            frame_rate: header.frame_rate.unwrap_or(FrameRate::DEFAULT),
            frames,
            notes,
        };
        Ok(Self {
            reader,
            name: name.to_owned(),
            header,
            color,
            info,
            planes: vec![0; size],
            read: 0,
            over: false,
        })
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let number = self.read + 1;
        let broken = |e: std::io::Error| match e.kind() {
            IoKind::UnexpectedEof => error!(Image, "the stream ends in the middle of the frame"),
            _ => Error::new(crate::error::ErrorKind::Io, "could not be read").source(e),
        };
        let at = |e: Error| e.at(format!("frame {number}")).at(&self.name);
        if self.reader.fill_buf().map_err(|e| at(broken(e)))?.is_empty() {
            return Ok(None);
        }
        let line = read_line(&mut self.reader).map_err(|e| at(broken(e)))?;
        let line = line.ok_or_else(|| {
            at(error!(Image, "unterminated frame header: the stream is corrupt or truncated"))
        })?;
        if line.strip_prefix(b"FRAME").is_none_or(|rest| !rest.is_empty() && rest[0] != b' ') {
            return Err(at(error!(Image, "missing FRAME marker: the stream is corrupt")));
        }
        self.reader.read_exact(&mut self.planes).map_err(|e| at(broken(e)))?;
        self.read = number;
        let frame_size = self.header.size;
        let (luma, size, row) = self.header.sizes();
        let (y, rest) = self.planes.split_at(luma);
        let chroma = self.header.chroma.map(|Size { width: across, height: down }| {
            let (cb, cr) = rest.split_at(size);
            Chroma { cb: Samples::plane(cb, row), cr: Samples::plane(cr, row), across, down }
        });
        let image = Image::new(
            frame_size,
            to_rgb(frame_size, Samples::plane(y, frame_size.width), chroma, self.color),
        )?;
        Ok(Some(Frame { image, duration: None }))
    }
}

impl<R: BufRead + Send> Iterator for Y4mSource<R> {
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

impl<R: BufRead + Send> FrameSource for Y4mSource<R> {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}

/// Reads a line without its line feed; `None` if there is none within [`MAX_LINE`] bytes.
fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// Color format of a written stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Images in 4:2:0 and limited range.
    Color,
    /// One byte per pixel, unchanged.
    Mono,
}

/// Writes the stream header.
pub(super) fn write_header(
    out: &mut impl Write,
    info: &VideoInfo,
    content: Content,
) -> std::io::Result<()> {
    let kind = match content {
        Content::Color => "C420jpeg XCOLORRANGE=LIMITED",
        Content::Mono => "Cmono XCOLORRANGE=FULL",
    };
    let (n, d) = (info.frame_rate.numerator(), info.frame_rate.denominator());
    writeln!(out, "YUV4MPEG2 W{} H{} F{n}:{d} Ip A1:1 {kind}", info.width, info.height)
}

/// Writes a frame of [`Content::Color`] from RGB.
pub(super) fn write_color(
    out: &mut impl Write,
    info: &VideoInfo,
    rgb: &[u8],
) -> std::io::Result<()> {
    let color = Color { matrix: Matrix::default_for(info.size()), full_range: false };
    out.write_all(b"FRAME\n")?;
    out.write_all(&from_rgb_420(info.size(), rgb, color))
}

/// Writes a frame of [`Content::Mono`].
pub(super) fn write_mono(out: &mut impl Write, values: &[u8]) -> std::io::Result<()> {
    out.write_all(b"FRAME\n")?;
    out.write_all(values)
}
