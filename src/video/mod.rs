//! Video input and output: frames as [`Image`]s from Y4M, raw streams, animations, image sequences
//! and, through the `ffmpeg` program, any other format it supports; and writing to the same
//! formats.
//!
//! ```no_run
//! use atrous::video::{self, VideoOptions, FrameSource};
//!
//! // A file, a directory of images, `shot%04d.png`, `shots/*.png`.
//! let video = video::open("street.y4m", &VideoOptions::default())?;
//! println!("{}, {} fps", video.info().size(), video.info().frame_rate);
//! for frame in video {
//!     let image = frame?.image;
//!     assert_eq!(image.rgb.len(), 3 * image.width * image.height);
//! }
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! A [`FrameSource`] yields frames until it ends or fails; after an error it yields nothing more. A
//! [`FrameSink`] must be finished explicitly: only then does the complete file appear under its
//! name.

mod animation;
mod ffmpeg;
mod frame_rate;
mod kind;
mod process;
mod raw;
mod select;
mod sequence;
mod sink;
mod y4m;
mod yuv;

pub(crate) use ffmpeg::is_url;
pub use frame_rate::FrameRate;
pub use kind::{VideoKind, kind};
pub use raw::{PixelFormat, RawFrames};
pub use select::{Selection, select};
pub(crate) use sequence::is_numbered;
pub use sink::open::{create, create_transparent, write_to};
pub use sink::{Content, FrameSink, VideoFormat};
pub(crate) use yuv::Matrix;
#[cfg(feature = "cli")]
pub(crate) use {process::kill_children, sequence::files_of, sink::frame_in};

use crate::error::{Error, Result, error};
use crate::geometry::Size;
use crate::image::{DecodeOptions, Image};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

/// Properties of a video that are known before its frames are read.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Width of every frame.
    pub width: usize,
    /// Height of every frame.
    pub height: usize,
    /// Frames per second; the mean for animations with variable frame times.
    pub frame_rate: FrameRate,
    /// Number of frames, if known beforehand. Only a hint, since a file's metadata may be wrong.
    pub frames: Option<u64>,
    /// Human-readable notes on assumptions about the video.
    pub notes: Vec<String>,
}

impl VideoInfo {
    /// Returns the width and height of every frame.
    pub const fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

/// A frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The image.
    pub image: Image,
    /// Display time, if the format stores one for each frame; otherwise it follows from the frame
    /// rate.
    pub duration: Option<Duration>,
}

/// Frames in order, all of one size. After an error the iterator ends.
pub trait FrameSource: Iterator<Item = Result<Frame>> + Send {
    /// Returns size, frame rate and other properties known before reading frames.
    fn info(&self) -> &VideoInfo;
}

/// Options for reading videos.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VideoOptions {
    /// Frame rate of inputs that do not specify one: image sequences and raw frames. `None` is
    /// [`FrameRate::DEFAULT`].
    pub frame_rate: Option<FrameRate>,
    /// Size and pixel format of a stream of raw frames.
    pub raw: Option<RawFrames>,
    /// Limits, checked before memory is allocated, and the background color of transparent pixels.
    pub decode: DecodeOptions,
}

/// Opens a video: a file of any [`VideoKind`], a directory of images, a pattern such as `shots/*.png` or
/// `shot%04d.png`, or with [`VideoOptions::raw`] a file of raw frames. A still image is a video of one
/// frame.
///
/// # Errors
/// Returns an error if the video cannot be read, has a corrupt header, exceeds the limits, or needs
/// `ffmpeg` and it is not installed.
pub fn open(path: impl AsRef<Path>, options: &VideoOptions) -> Result<Box<dyn FrameSource>> {
    let path = path.as_ref();
    if options.raw.is_some() {
        let (file, length) = file(path)?;
        return stream(file, &path.display().to_string(), length, options);
    }
    Ok(match kind(path) {
        VideoKind::Y4m => {
            let (file, length) = file(path)?;
            stream(file, &path.display().to_string(), length, options)?
        }
        VideoKind::Animation => Box::new(animation::AnimationSource::open(path, options)?),
        VideoKind::Container => ffmpeg::open(path, options)?,
        VideoKind::Sequence | VideoKind::Still => {
            Box::new(sequence::SequenceSource::open(path, options)?)
        }
    })
}

/// Reads a video from a stream, such as standard input: raw frames if [`VideoOptions::raw`] is set,
/// otherwise Y4M. `name` identifies the stream in errors.
///
/// # Errors
/// Returns an error if the stream does not begin with a Y4M header or exceeds the limits.
pub fn read(
    reader: impl Read + Send + 'static,
    name: &str,
    options: &VideoOptions,
) -> Result<Box<dyn FrameSource>> {
    stream(reader, name, None, options)
}

fn stream(
    reader: impl Read + Send + 'static,
    name: &str,
    length: Option<u64>,
    options: &VideoOptions,
) -> Result<Box<dyn FrameSource>> {
    let reader = BufReader::with_capacity(1 << 16, reader);
    Ok(match options.raw {
        Some(raw) => Box::new(raw::RawSource::new(reader, name, length, raw, options)?),
        None => Box::new(y4m::Y4mSource::new(reader, name, length, None, options)?),
    })
}

/// Opens a file or FIFO. Returns its length if it is a regular file.
fn file(path: &Path) -> Result<(File, Option<u64>)> {
    // A FIFO (`mkfifo`, `<(..)`) is a stream like standard input.
    let file = File::open(path).map_err(|e| Error::io(path, "could not be opened", e))?;
    let meta = file.metadata().map_err(|e| Error::io(path, "could not be read", e))?;
    Ok((file, meta.is_file().then_some(meta.len())))
}

/// Checks that a frame with the given size and bytes per pixel is within the limits.
fn check_frame_size(size: Size, bytes_per_pixel: u64, options: &VideoOptions) -> Result<()> {
    let limits = &options.decode;
    let bytes = limits.check_pixels(size)?.saturating_mul(bytes_per_pixel);
    if bytes > limits.max_bytes {
        let mib = |n: u64| n.div_ceil(1 << 20);
        let (needed, limit) = (mib(bytes), mib(limits.max_bytes));
        return Err(error!(
            Image,
            "a frame of {size} pixels needs {needed} MiB, over the limit of {limit} MiB"
        ));
    }
    Ok(())
}
