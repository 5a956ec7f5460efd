//! Writing animated GIFs.

use super::{Content, FrameSink, check, label_bytes};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::Staged;
use crate::image::{ClassTable, Image};
use crate::video::{FrameRate, VideoInfo};
use gif::{DisposalMethod, Encoder, EncodingError, Frame, Repeat};
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

/// Color quantization speed: 1 is best quality, 30 fastest.
const SPEED: i32 = 10;

/// Minimum frame delay in hundredths of a second. Browsers slow shorter delays down to ten.
const MIN_DELAY: u64 = 2;

/// Writes frames with 256 colors each. Masks share one palette whose indices are the classes.
pub(super) struct GifSink {
    encoder: Encoder<BufWriter<Staged>>,
    name: String,
    info: VideoInfo,
    masks: bool,
    clock: Clock,
}

impl GifSink {
    pub(super) fn create(
        path: &Path,
        info: &VideoInfo,
        classes: Option<&ClassTable>,
    ) -> Result<Self> {
        let name = path.display().to_string();
        let (Ok(w), Ok(h)) = (u16::try_from(info.width), u16::try_from(info.height)) else {
            let size = info.size();
            return Err(
                error!(Usage, "{size} pixels exceed the GIF limit of 65535 per side").file(path)
            );
        };
        let out = BufWriter::with_capacity(1 << 16, Staged::create(path, ".tmp")?);
        let palette = classes.map(ClassTable::palette).unwrap_or_default();
        let mut encoder =
            Encoder::new(out, w, h, &palette).map_err(|e| encoding_failed(&name, e))?;
        encoder.set_repeat(Repeat::Infinite).map_err(|e| encoding_failed(&name, e))?;
        Ok(Self {
            encoder,
            name,
            info: info.clone(),
            masks: classes.is_some(),
            clock: Clock::new(info.frame_rate),
        })
    }
}

impl FrameSink for GifSink {
    fn write(&mut self, content: &Content, duration: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.masks).map_err(|e| e.at(&self.name))?;
        // Both fit, as checked in `create`.
        let (w, h) = (self.info.width as u16, self.info.height as u16);
        let mut frame = match content {
            Content::Mask(labels) => {
                let mut frame = Frame::from_indexed_pixels(
                    w,
                    h,
                    label_bytes(labels).map_err(|e| e.at(&self.name))?,
                    None,
                );
                // Use the global palette.
                frame.palette = None;
                frame
            }
            Content::Image(image) => Frame::from_rgba_speed(w, h, &mut rgba(image), SPEED),
        };
        if frame.transparent.is_some() {
            frame.dispose = DisposalMethod::Background;
        }
        frame.delay = self.clock.tick(duration);
        self.encoder.write_frame(&frame).map_err(|e| encoding_failed(&self.name, e))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let name = self.name;
        let out = self.encoder.into_inner().map_err(|e| encoding_failed(&name, e))?;
        let staged = out
            .into_inner()
            .map_err(|e| Error::io(&name, "could not be written", e.into_error()))?;
        staged.commit()
    }
}

/// Returns RGBA pixels with opacity thresholded, since GIF pixels are either opaque or transparent.
fn rgba(image: &Image) -> Vec<u8> {
    let alpha = |i: usize| image.alpha.as_ref().is_none_or(|a| a[i] >= 128);
    let pixels = image.rgb.chunks_exact(3).enumerate();
    pixels.flat_map(|(i, p)| if alpha(i) { [p[0], p[1], p[2], 255] } else { [0; 4] }).collect()
}

/// Computes frame delays in hundredths of a second, the unit of GIF, without accumulating rounding
/// errors.
#[derive(Debug)]
struct Clock {
    frame_rate: FrameRate,
    /// Number of frames without their own duration.
    frames: u64,
    /// Sum of the durations of the other frames.
    durations: Duration,
    /// Sum of the delays returned so far, in hundredths of a second.
    elapsed: u64,
}

impl Clock {
    fn new(frame_rate: FrameRate) -> Self {
        Self { frame_rate, frames: 0, durations: Duration::ZERO, elapsed: 0 }
    }

    /// Returns the delay of the next frame.
    fn tick(&mut self, duration: Option<Duration>) -> u16 {
        match duration {
            Some(time) => self.durations += time,
            None => self.frames += 1,
        }
        let end = self.frame_rate.start_of(self.frames) + self.durations;
        let hundredths = ((end.as_micros() + 5000) / 10_000) as u64;
        let delay = hundredths.saturating_sub(self.elapsed).max(MIN_DELAY);
        self.elapsed += delay;
        delay.min(u16::MAX.into()) as u16
    }
}

fn encoding_failed(name: &str, error: EncodingError) -> Error {
    match error {
        EncodingError::Io(error) => Error::io(name, "could not be written", error),
        other => Error::new(ErrorKind::Image, "could not encode the GIF").at(name).source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_times_add_up_to_the_rate() {
        for (rate, frames, seconds) in
            [("25", 50, 2), ("30", 90, 3), ("30000/1001", 3000, 100), ("12.5", 25, 2)]
        {
            let mut clock = Clock::new(rate.parse().unwrap());
            let delays: Vec<u64> = (0..frames).map(|_| clock.tick(None).into()).collect();
            let (sum, least) = (delays.iter().sum::<u64>(), delays.iter().min().unwrap());
            assert!(sum.abs_diff(seconds * 100) <= 10, "{rate}: {sum} hundredths for {seconds} s");
            assert!(delays.iter().all(|d| d - least <= 1), "{rate}: {delays:?}");
        }
        let mut clock = Clock::new(FrameRate::DEFAULT);
        let durations = [70, 20, 400].map(Duration::from_millis);
        assert_eq!(
            durations.map(|d| clock.tick(Some(d))),
            [7, 2, 40],
            "explicit durations are kept"
        );
        let mut fast = Clock::new("100".parse().unwrap());
        assert_eq!(
            (0..3).map(|_| fast.tick(None)).collect::<Vec<_>>(),
            [2, 2, 2],
            "not below the minimum"
        );
    }
}
