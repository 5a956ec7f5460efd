//! Creating the sink for an output path or stream.

use super::directory::DirectorySink;
use super::ffmpeg::{Encoder, Pixels, keeps_alpha};
use super::gif::GifSink;
use super::stream::{OutputStream, StagedFile, Stream};
use super::{FrameSink, VideoFormat};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::video::VideoInfo;
use std::io::Write;
use std::path::Path;

/// Creates a video file or directory. `info` sets size and frame rate. `classes` must be given if
/// the frames are masks, and sets their colors.
///
/// # Errors
/// Returns an error if the extension is unknown, the format does not support the video, the path is
/// not writable, the directory already contains frames, or `ffmpeg` is needed but not installed.
pub fn create(
    path: impl AsRef<Path>,
    info: &VideoInfo,
    classes: Option<&ClassTable>,
) -> Result<Box<dyn FrameSink>> {
    let path = path.as_ref();
    let masks = classes.is_some();
    let name = path.display().to_string();
    let format = VideoFormat::from_path(path).ok_or_else(|| {
        error!(Usage, "unrecognized video file extension").file(path).advice(
            "use .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi, or end the name in / for a directory of PNG files",
        )
    })?;
    Ok(match format {
        VideoFormat::Directory => Box::new(DirectorySink::create(path, info, classes)?),
        VideoFormat::Gif => Box::new(GifSink::create(path, info, classes)?),
        VideoFormat::Container => {
            let pixels = if masks { Pixels::Gray } else { Pixels::Rgb };
            Box::new(Stream::new(Encoder::start(path, info, pixels)?, name, info, masks, true)?)
        }
        VideoFormat::Y4m | VideoFormat::Raw => {
            let out = StagedFile::create(path)?;
            Box::new(Stream::new(out, name, info, masks, format == VideoFormat::Raw)?)
        }
    })
}

/// Like [`create`], for images with transparency. WebM (VP9) and QuickTime files (`.mov`, ProRes 4444)
/// then keep it, as animated GIFs and directories always do; other formats have
/// [`VideoFormat::backdrop`] instead.
///
/// # Errors
/// As for [`create`].
pub fn create_transparent(path: impl AsRef<Path>, info: &VideoInfo) -> Result<Box<dyn FrameSink>> {
    let path = path.as_ref();
    let is_container = VideoFormat::from_path(path) == Some(VideoFormat::Container);
    if !is_container || !keeps_alpha(path) {
        return create(path, info, None);
    }
    let (encoder, name) = (Encoder::start(path, info, Pixels::Rgba)?, path.display().to_string());
    Ok(Box::new(Stream::new(encoder, name, info, false, true)?.with_alpha()))
}

/// Writes a video to a stream, such as standard output, as Y4M or, if `raw`, as raw frames. `name`
/// identifies the stream in errors.
///
/// # Errors
/// Returns an error if the stream cannot be written to.
pub fn write_to(
    out: impl Write + Send + 'static,
    name: &str,
    info: &VideoInfo,
    masks: bool,
    raw: bool,
) -> Result<Box<dyn FrameSink>> {
    let out = OutputStream::new(out, name);
    Ok(Box::new(Stream::new(out, name.to_owned(), info, masks, raw)?))
}
