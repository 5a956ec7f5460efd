//! Animated GIF, PNG and WebP files as videos.

use super::{Frame, FrameRate, FrameSource, VideoInfo, VideoOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Size;
use crate::image::{Image, damaged, probe};
use crate::thread;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder, ImageFormat, ImageResult, Limits};
use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Reads composited frames. They are decoded on a separate thread, because the decoder's iterator
/// borrows from the decoder and cannot be stored with it.
pub(super) struct AnimationSource {
    frames: Receiver<Result<Frame>>,
    /// Joined at the end, so that a panic in the decoder is not mistaken for the end of the video.
    decoder: Option<JoinHandle<()>>,
    name: String,
    info: VideoInfo,
    over: bool,
}

impl AnimationSource {
    pub(super) fn open(path: &Path, options: &VideoOptions) -> Result<Self> {
        let bytes = options.decode.read(path)?;
        let name = path.display().to_string();
        Self::new(bytes, &name, options).map_err(|e| e.at(name))
    }

    fn new(bytes: Vec<u8>, name: &str, options: &VideoOptions) -> Result<Self> {
        let probe = probe::probe(&bytes, name)?;
        let length = bytes.len() as u64;
        let decoder = Decoder::new(probe.format, bytes)?;
        let (width, height) = decoder.dimensions();
        // The current canvas, the next one, and the RGBA and RGB of the output frame.
        let (width, height) = (width as usize, height as usize);
        super::check_frame_size(Size::new(width, height), 4 + 4 + 4 + 3, options)?;
        let ((numerator, denominator), is_mean) =
            probe.delays.frame_rate().unwrap_or(((10, 1), false));
        let frame_rate = FrameRate::new(numerator, denominator).unwrap_or(FrameRate::DEFAULT);
        let mut notes = Vec::new();
        if is_mean {
            notes.push(format!(
                "the frame times vary; the mean frame rate is {:.2} fps",
                frame_rate.fps()
            ));
        }
        if probe.truncated {
            notes.push("the file is truncated before the end of the animation".to_owned());
        }
        let info =
            VideoInfo { width, height, frame_rate, frames: Some(probe.frames as u64), notes };

        let mut limits = Limits::default();
        limits.max_alloc = Some(options.decode.max_bytes.saturating_sub(length));
        let (sender, frames) = sync_channel(1);
        let (source, name, backdrop) = (name.to_owned(), name.to_owned(), options.decode.backdrop);
        let decoder = thread::spawn("to decode frames", move || {
            let at = |e: Error, number: usize| e.at(format!("frame {number}")).at(&name);
            let decoded = match decoder.frames(limits) {
                Ok(decoded) => decoded,
                // The receiver may have been dropped.
                Err(e) => return drop(sender.send(Err(at(damaged(e), 1)))),
            };
            for (number, frame) in (1..).zip(decoded) {
                let frame = frame.map_err(damaged).and_then(|frame| {
                    let duration = probe::displayed_for(frame.delay().into());
                    let rgba = frame.into_buffer();
                    let image = Image::from_rgba(
                        Size::new(rgba.width() as usize, rgba.height() as usize),
                        rgba.into_raw(),
                        backdrop,
                    )?;
                    Ok(Frame { image, duration: Some(duration) })
                });
                let failed = frame.is_err();
                if sender.send(frame.map_err(|e| at(e, number))).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { frames, decoder: Some(decoder), name: source, info, over: false })
    }
}

impl Iterator for AnimationSource {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let mut frame = self.frames.recv().ok();
        if frame.is_none() && self.decoder.take().is_some_and(|thread| thread.join().is_err()) {
            frame = Some(Err(Error::new(ErrorKind::Image, "the decoder failed").at(&self.name)));
        }
        self.over = !matches!(frame, Some(Ok(_)));
        frame
    }
}

impl FrameSource for AnimationSource {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}

enum Decoder {
    Gif(Box<GifDecoder<Cursor<Vec<u8>>>>),
    Png(Box<PngDecoder<Cursor<Vec<u8>>>>),
    WebP(WebPDecoder<Cursor<Vec<u8>>>),
}

impl Decoder {
    fn new(format: ImageFormat, bytes: Vec<u8>) -> Result<Self> {
        let bytes = match probe::without_metadata(&bytes, format) {
            Cow::Owned(without) => without,
            Cow::Borrowed(_) => bytes,
        };
        let bytes = Cursor::new(bytes);
        match format {
            ImageFormat::Gif => {
                GifDecoder::new(bytes).map(|d| Decoder::Gif(Box::new(d))).map_err(damaged)
            }
            ImageFormat::Png => {
                PngDecoder::new(bytes).map(|d| Decoder::Png(Box::new(d))).map_err(damaged)
            }
            ImageFormat::WebP => WebPDecoder::new(bytes).map(Decoder::WebP).map_err(damaged),
            _ => Err(Error::new(ErrorKind::Image, "not an animation")),
        }
    }

    fn dimensions(&self) -> (u32, u32) {
        match self {
            Decoder::Gif(d) => d.dimensions(),
            Decoder::Png(d) => d.dimensions(),
            Decoder::WebP(d) => d.dimensions(),
        }
    }

    fn frames(self, limits: Limits) -> ImageResult<Frames<'static>> {
        Ok(match self {
            Decoder::Gif(mut d) => {
                d.set_limits(limits)?;
                d.into_frames()
            }
            Decoder::Png(mut d) => {
                d.set_limits(limits)?;
                d.apng()?.into_frames()
            }
            Decoder::WebP(mut d) => {
                d.set_limits(limits)?;
                d.into_frames()
            }
        })
    }
}
