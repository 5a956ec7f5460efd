//! Frames to files, directories and streams.

use super::directory::DirectorySink;
use super::ffmpeg::Encoder;
use super::gif::GifSink;
use super::{VideoInfo, kind, y4m};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::Staged;
use crate::image::{ClassTable, Image, LabelMap};
use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::{MAIN_SEPARATOR, Path};
use std::time::Duration;

/// What a frame that is written shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An image. Where a format has no transparency, what is transparent takes the color that
    /// [`VideoFormat::opaque`] names.
    Image(Image),
    /// Class numbers.
    Mask(LabelMap),
}

impl Content {
    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Content::Image(image) => (image.width, image.height),
            Content::Mask(labels) => (labels.width, labels.height),
        }
    }
}

/// A video being written. Frames come in order, all of the size and kind that it was made for.
///
/// What is dropped without [`FrameSink::finish`] leaves no file under the video's name; a directory
/// keeps the frames that it has.
pub trait FrameSink: Send {
    /// Writes the next frame, shown for `duration`, or as long as the video's rate says. Formats
    /// that have one rate for all frames ignore it.
    ///
    /// # Errors
    /// The frame has another size or kind than the video, or cannot be written.
    fn write(&mut self, content: &Content, duration: Option<Duration>) -> Result<()>;

    /// Writes what is left, and gives the file its name.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// How a video is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoFormat {
    /// YUV4MPEG2: images in 4:2:0, limited range, BT.709 or BT.601 as
    /// [`Matrix::usual`](super::Matrix::usual) says; masks as mono, one byte a pixel that is the
    /// class.
    Y4m,
    /// Bare frames: images as rgb24, masks as one byte a pixel.
    Raw,
    /// GIF. A mask's indices are the classes.
    Gif,
    /// A directory of PNG files, `000001.png` and so on; masks have a palette.
    Directory,
    /// A container that `ffmpeg` writes: images with the codec that it usually takes there, masks
    /// without loss (FFV1, `.mkv` only). Without sound.
    Container,
}

impl VideoFormat {
    /// The format that an output's name asks for: `None` where it names none. A directory is there
    /// already, or ends in a slash.
    pub fn of(path: &Path) -> Option<Self> {
        if path.is_dir() || path.to_string_lossy().ends_with(['/', MAIN_SEPARATOR]) {
            return Some(VideoFormat::Directory);
        }
        let ending =
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "y4m" => Some(VideoFormat::Y4m),
            "gif" => Some(VideoFormat::Gif),
            "raw" | "rgb" | "gray" => Some(VideoFormat::Raw),
            _ => kind::is_container_name(path).then_some(VideoFormat::Container),
        }
    }

    /// The color that replaces what is transparent: green, which nothing but a screen of it is, so
    /// that other programs can key it out.
    pub fn opaque(self) -> Option<[u8; 3]> {
        match self {
            VideoFormat::Y4m | VideoFormat::Raw | VideoFormat::Container => Some(GREEN),
            VideoFormat::Gif | VideoFormat::Directory => None,
        }
    }
}

/// The usual color of chroma-key screens in video.
const GREEN: [u8; 3] = [0, 177, 64];

/// Begins a video in a file or directory. `info` tells size and rate; `classes` is given where it
/// will be masks, and colors them.
///
/// # Errors
/// The name says no format, the format cannot hold the video, the place cannot be written to, the
/// directory holds frames already, or `ffmpeg` is needed and not installed.
pub fn create(
    path: impl AsRef<Path>,
    info: &VideoInfo,
    classes: Option<&ClassTable>,
) -> Result<Box<dyn FrameSink>> {
    let path = path.as_ref();
    let masks = classes.is_some();
    let name = path.display().to_string();
    let format = VideoFormat::of(path).ok_or_else(|| {
        error!(Usage, "the name says no format of a video")
            .file(path)
            .advice("let it end in .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi, or in / for a directory of PNG files")
    })?;
    Ok(match format {
        VideoFormat::Directory => Box::new(DirectorySink::create(path, info, classes)?),
        VideoFormat::Gif => Box::new(GifSink::create(path, info, classes)?),
        VideoFormat::Container => {
            Box::new(Stream::begin(Encoder::start(path, info, masks)?, name, info, masks, true)?)
        }
        VideoFormat::Y4m | VideoFormat::Raw => {
            let out = StagedFile(BufWriter::with_capacity(1 << 16, Staged::create(path, ".tmp")?));
            Box::new(Stream::begin(out, name, info, masks, format == VideoFormat::Raw)?)
        }
    })
}

/// Begins a video on a stream, such as standard output: as Y4M, or `raw` as bare frames. `name` is
/// what errors call it.
///
/// # Errors
/// It cannot be written to.
pub fn write_to(
    out: impl Write + Send + 'static,
    name: &str,
    info: &VideoInfo,
    masks: bool,
    raw: bool,
) -> Result<Box<dyn FrameSink>> {
    let out = Plain(BufWriter::with_capacity(1 << 16, out), name.to_owned());
    Ok(Box::new(Stream::begin(out, name.to_owned(), info, masks, raw)?))
}

/// Where a stream of bytes goes, and what is to be done at its end.
pub(super) trait Target: Write + Send {
    fn finish(self) -> Result<()>;

    /// What is known about a write that failed.
    fn explain(&mut self, name: &str, error: std::io::Error) -> Error {
        Error::io(name, "could not be written", error)
    }
}

/// Frames as bytes, one behind the other.
struct Stream<T> {
    out: T,
    name: String,
    info: VideoInfo,
    masks: bool,
    raw: bool,
}

impl<T: Target> Stream<T> {
    fn begin(out: T, name: String, info: &VideoInfo, masks: bool, raw: bool) -> Result<Self> {
        let mut stream = Self { out, name, info: info.clone(), masks, raw };
        if !raw {
            let content = if masks { y4m::Content::Mono } else { y4m::Content::Color };
            let written = y4m::write_header(&mut stream.out, info, content);
            written.map_err(|e| stream.out.explain(&stream.name, e))?;
        }
        Ok(stream)
    }
}

impl<T: Target> FrameSink for Stream<T> {
    fn write(&mut self, content: &Content, _: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.masks).map_err(|e| e.at(&self.name))?;
        let written = match content {
            Content::Mask(labels) => {
                let bytes = bytes_of(labels).map_err(|e| e.at(&self.name))?;
                if self.raw {
                    self.out.write_all(&bytes)
                } else {
                    y4m::write_mono(&mut self.out, &bytes)
                }
            }
            Content::Image(image) => {
                let rgb = opaque(image, GREEN);
                if self.raw {
                    self.out.write_all(&rgb)
                } else {
                    y4m::write_color(&mut self.out, &self.info, &rgb)
                }
            }
        };
        // Somebody may be watching at the other end.
        written.and_then(|()| self.out.flush()).map_err(|e| self.out.explain(&self.name, e))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.finish()
    }
}

/// Whether a frame is what the video is made of.
pub(super) fn check(content: &Content, info: &VideoInfo, masks: bool) -> Result<()> {
    let ((w, h), kind) = (content.size(), matches!(content, Content::Mask(_)));
    if (w, h) != (info.width, info.height) {
        return Err(error!(
            Usage,
            "a frame of {w} x {h} pixels in a video of {} x {}", info.width, info.height
        ));
    }
    if kind != masks {
        let name = |masks| if masks { "masks" } else { "images" };
        return Err(error!(Usage, "a video of {} takes no {}", name(masks), name(kind)));
    }
    Ok(())
}

/// The classes as bytes.
pub(super) fn bytes_of(labels: &LabelMap) -> Result<Vec<u8>> {
    match labels.max() {
        0..=255 => Ok(labels.labels.iter().map(|&l| l as u8).collect()),
        max => Err(error!(Usage, "class {max} does not fit a byte")
            .advice("write a directory of PNG files, which hold classes up to 65535")),
    }
}

/// The image with `color` in place of what is transparent.
fn opaque(image: &Image, color: [u8; 3]) -> Cow<'_, [u8]> {
    let Some(alpha) = &image.alpha else { return Cow::Borrowed(&image.rgb) };
    let pixels = image.rgb.chunks_exact(3).zip(alpha);
    pixels.flat_map(|(p, &a)| [0, 1, 2].map(|i| crate::image::mix(p[i], color[i], a))).collect()
}

/// A file that takes its name at the end.
struct StagedFile(BufWriter<Staged>);

impl Target for StagedFile {
    fn finish(mut self) -> Result<()> {
        let flushed = self.0.flush();
        flushed.map_err(|e| Error::io(self.0.get_ref().path(), "could not be written", e))?;
        let staged = self.0.into_inner().map_err(|e| {
            Error::new(ErrorKind::Io, "could not be written").source(e.into_error())
        })?;
        staged.commit()
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Somebody else's stream, and its name.
struct Plain<W: Write>(BufWriter<W>, String);

impl<W: Write + Send> Target for Plain<W> {
    fn finish(mut self) -> Result<()> {
        self.0.flush().map_err(|e| Error::io(self.1, "could not be written", e))
    }
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
