//! Writing frames to files, directories and streams: the [`FrameSink`] trait, the output formats,
//! and the checks that all sinks share.

mod alpha;
mod directory;
mod ffmpeg;
mod gif;
pub(super) mod open;
mod stream;

#[cfg(feature = "cli")]
pub(crate) use directory::frame_in;

use super::{VideoInfo, kind};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::{Image, LabelMap};
use std::path::{MAIN_SEPARATOR, Path};
use std::time::Duration;

/// The content of a written frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An image. In formats without transparency, transparent pixels are blended with
    /// [`VideoFormat::backdrop`].
    Image(Image),
    /// Class numbers.
    Mask(LabelMap),
}

impl Content {
    /// Returns the width and height.
    pub fn size(&self) -> Size {
        match self {
            Content::Image(image) => image.size(),
            Content::Mask(labels) => labels.size(),
        }
    }
}

/// A video being written. Frames are written in order and must have the video's size and kind.
///
/// Dropping a sink without calling [`FrameSink::finish`] leaves no file under the video's name; a
/// directory keeps the frames already written.
pub trait FrameSink: Send {
    /// Writes the next frame, to be displayed for `duration`, or for one frame at the video's frame
    /// rate. Formats with a constant frame rate ignore `duration`.
    ///
    /// # Errors
    /// Returns an error if the frame has another size or kind than the video, or cannot be written.
    fn write(&mut self, content: &Content, duration: Option<Duration>) -> Result<()>;

    /// Writes buffered data and moves the file to its final name.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Output format of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoFormat {
    /// YUV4MPEG2. Images are 4:2:0 in limited range, BT.709 or BT.601 according to
    /// `Matrix::default_for`; masks are mono, one byte per pixel with
    /// the class.
    Y4m,
    /// Raw frames: images as rgb24, masks with one byte per pixel.
    Raw,
    /// Animated GIF. The palette indices of a mask are the classes.
    Gif,
    /// A directory of PNG files, `000001.png` and so on; masks have a palette.
    Directory,
    /// A container written by `ffmpeg`, without audio: images with ffmpeg's default codec for the
    /// container, masks lossless (FFV1, `.mkv` only), transparency in `.webm` (VP9) and `.mov` (ProRes
    /// 4444).
    Container,
}

impl VideoFormat {
    /// Returns the format of an output path, or `None` if the extension is unknown. A path is a
    /// directory if one exists there or if it ends in a slash.
    pub fn from_path(path: &Path) -> Option<Self> {
        if path.is_dir() || path.to_string_lossy().ends_with(['/', MAIN_SEPARATOR]) {
            return Some(VideoFormat::Directory);
        }
        let extension =
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "y4m" => Some(VideoFormat::Y4m),
            "gif" => Some(VideoFormat::Gif),
            "raw" | "rgb" | "gray" => Some(VideoFormat::Raw),
            _ => kind::is_container_name(path).then_some(VideoFormat::Container),
        }
    }

    /// Returns the color that transparent pixels are blended with, or `None` if the format supports
    /// transparency, as some containers do with
    /// [`create_transparent`](crate::video::create_transparent). It is chroma-key green, so that other programs can key it out.
    pub fn backdrop(self) -> Option<[u8; 3]> {
        match self {
            VideoFormat::Y4m | VideoFormat::Raw | VideoFormat::Container => Some(CHROMA_KEY_GREEN),
            VideoFormat::Gif | VideoFormat::Directory => None,
        }
    }
}

/// The common color of chroma-key screens.
const CHROMA_KEY_GREEN: [u8; 3] = [0, 177, 64];

/// Checks that a frame has the video's size and kind.
fn check(content: &Content, info: &VideoInfo, masks: bool) -> Result<()> {
    let (got, expected) = (content.size(), info.size());
    if got != expected {
        return Err(error!(Usage, "expected a frame of {expected} pixels, got {got}"));
    }
    match (masks, content) {
        (true, Content::Image(_)) => Err(error!(Usage, "expected a mask, got an image")),
        (false, Content::Mask(_)) => Err(error!(Usage, "expected an image, got a mask")),
        _ => Ok(()),
    }
}

/// Converts the labels of a mask to bytes.
fn label_bytes(labels: &LabelMap) -> Result<Vec<u8>> {
    match labels.max() {
        0..=255 => Ok(labels.labels.iter().map(|&l| l as u8).collect()),
        max => Err(error!(Usage, "class {max} does not fit into a byte")
            .advice("write a directory of PNG files, which support classes up to 65535")),
    }
}
