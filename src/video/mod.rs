//! Videos in and out: frames as [`Image`]s from Y4M, raw streams, animations, image sequences and,
//! through the `ffmpeg` program, from whatever else it reads; and the same ways back.
//!
//! ```no_run
//! use atrous::video::{self, VideoOptions, FrameSource};
//!
//! // A file, a directory of images, `shot%04d.png`, `shots/*.png`.
//! let video = video::open("street.y4m", &VideoOptions::default())?;
//! println!("{} x {}, {} frames a second", video.info().width, video.info().height, video.info().rate);
//! for frame in video {
//!     let image = frame?.image;
//!     assert_eq!(image.rgb.len(), 3 * image.width * image.height);
//! }
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! A source gives frames until it ends or fails; after an error it gives nothing more, and what
//! came before is whole. A [`FrameSink`] takes frames and is finished explicitly: a file appears under
//! its name only then, whole.

mod animation;
mod directory;
mod ffmpeg;
mod gif;
mod kind;
mod process;
mod rate;
mod raw;
mod select;
mod sequence;
mod sink;
mod y4m;
mod yuv;

pub use kind::{VideoKind, kind};
pub use rate::Rate;
pub use raw::{PixelFormat, RawFrames};
pub use select::{Selection, select};
pub use sequence::is_numbered;
pub use sink::{Content, FrameSink, VideoFormat, create, write_to};
pub use yuv::{Color, Matrix};
#[cfg(feature = "cli")]
pub(crate) use {directory::frame_in, process::end_children, sequence::files_of};

use crate::error::{Error, Result, error};
use crate::image::{DecodeOptions, Image};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

/// What a video says of itself before its frames.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// Columns of every frame.
    pub width: usize,
    /// Rows of every frame.
    pub height: usize,
    /// Frames a second; of animations whose frames have times of their own, the mean.
    pub rate: Rate,
    /// How many frames there are, where that can be told beforehand. A hint: what a file says of
    /// itself may be wrong.
    pub frames: Option<u64>,
    /// What was assumed about the video, in sentences for people.
    pub notes: Vec<String>,
}

/// A frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What it shows.
    pub image: Image,
    /// How long it is shown, where the format says that of each frame; else as the video's rate has
    /// it.
    pub duration: Option<Duration>,
}

/// Frames in their order, all of one size. After an error there is nothing more.
pub trait FrameSource: Iterator<Item = Result<Frame>> + Send {
    /// Size, rate, and what else is known beforehand.
    fn info(&self) -> &VideoInfo;
}

/// How videos are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VideoOptions {
    /// Frames a second of what does not tell its rate: image sequences and raw frames. `None` is
    /// [`Rate::USUAL`].
    pub rate: Option<Rate>,
    /// Size and layout, where a stream is nothing but raw frames.
    pub raw: Option<RawFrames>,
    /// Limits, which are checked before memory is taken, and the color behind transparent pixels.
    pub decode: DecodeOptions,
}

/// Opens a video: a file of any [`VideoKind`], a directory of images, a pattern such as `shots/*.png` or
/// `shot%04d.png`, or with [`VideoOptions::raw`] a file of raw frames. A still image is a video of one
/// frame.
///
/// # Errors
/// It cannot be read, is damaged at its beginning, is past the limits, or needs `ffmpeg` where that
/// is not installed.
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

/// Reads a video from a stream, such as standard input: raw frames where [`VideoOptions::raw`] says what
/// they are, else Y4M. `name` is what errors call it.
///
/// # Errors
/// The stream does not begin as Y4M, or is past the limits.
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

/// A file or another program's stream, and its length where it is a regular file.
fn file(path: &Path) -> Result<(File, Option<u64>)> {
    // A FIFO (`mkfifo`, `<(..)`) is a stream like standard input.
    let file = File::open(path).map_err(|e| Error::io(path, "could not be opened", e))?;
    let meta = file.metadata().map_err(|e| Error::io(path, "could not be read", e))?;
    Ok((file, meta.is_file().then_some(meta.len())))
}

/// The two sizes, where a frame of that size at so many bytes a pixel is within the limits.
fn bytes_for(
    width: u64,
    height: u64,
    bytes_per_pixel: u64,
    options: &VideoOptions,
) -> Result<(usize, usize)> {
    let limits = &options.decode;
    limits.check_pixels(width, height)?;
    let bytes = width.saturating_mul(height).saturating_mul(bytes_per_pixel);
    if bytes > limits.max_bytes {
        let mib = |n: u64| n.div_ceil(1 << 20);
        let (needed, limit) = (mib(bytes), mib(limits.max_bytes));
        return Err(error!(
            Image,
            "a frame of {width} x {height} pixels takes {needed} MiB, more than the limit of {limit} MiB"
        ));
    }
    // Within the limits, which are far below what a `usize` of 32 bits holds.
    Ok((width as usize, height as usize))
}
