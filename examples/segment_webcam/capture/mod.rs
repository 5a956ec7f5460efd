//! Frame sources. Each source runs in its own thread; a new frame replaces one that was not
//! consumed.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod camera;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod camera;
mod convert;
mod files;
mod synthetic;

use crate::options::{Options, SourceChoice};
use atrous::Size;
use atrous::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use camera::list;

/// Frames per second of sources without their own frame rate.
const DEFAULT_FPS: f64 = 30.0;

/// A source of frames of one size.
pub trait Source: Send {
    /// Returns width and height.
    fn size(&self) -> Size;

    /// Returns the next frame as packed pixels, or `None` after the last one. Cameras block until a
    /// frame arrives.
    fn next(&mut self) -> Result<Option<Vec<u32>>>;

    /// Returns whether the source sets its own pace.
    fn is_live(&self) -> bool {
        false
    }

    /// Returns the frames per second, if the source specifies them.
    fn fps(&self) -> Option<f64> {
        None
    }

    /// Returns a display name.
    fn name(&self) -> String;
}

/// Opens the source given in the options.
pub fn open(options: &Options) -> Result<Box<dyn Source>> {
    Ok(match &options.source {
        SourceChoice::Camera(index) => camera::open(*index, options.resolution)?,
        SourceChoice::Synthetic => Box::new(synthetic::Scene::new(options.resolution)),
        SourceChoice::Path(path) => files::open(path, options.resolution)?,
    })
}

/// Returns the error for a camera that is not in the list.
fn no_camera(index: usize, found: usize) -> Error {
    let text = match found {
        0 => "no camera found".into(),
        n => format!("camera:{index} does not exist; found {n}, starting at camera:0"),
    };
    Error::new(ErrorKind::Io, text)
        .advice("use --list-cameras to list them, or --source synthetic for a generated scene")
}

/// A frame on its way to the device.
pub struct Frame {
    pub pixels: Vec<u32>,
    /// Capture time, including waiting for a camera.
    pub capture_time: Duration,
}

/// Messages from the capture thread.
pub enum CaptureEvent {
    /// A frame is available.
    Frame,
    /// The source has ended.
    Ended,
    /// The source failed.
    Failed(String),
}

/// The latest frame that was not consumed yet.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Mutex<Option<Frame>>>);

impl Mailbox {
    pub fn take(&self) -> Option<Frame> {
        self.lock().take()
    }

    /// Stores a frame, and returns whether the previous one was consumed.
    fn put(&self, frame: Frame) -> bool {
        self.lock().replace(frame).is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Captures on a separate thread until the source ends or `send` reports that the receiver is gone.
pub fn start(
    mut source: Box<dyn Source>,
    fps: Option<f64>,
    mailbox: Mailbox,
    send: impl Fn(CaptureEvent) -> bool + Send + 'static,
) {
    std::thread::spawn(move || {
        let pace = Duration::from_secs_f64(1.0 / fps.or(source.fps()).unwrap_or(DEFAULT_FPS));
        let mut due = Instant::now();
        loop {
            let started = Instant::now();
            let listening = match source.next() {
                Ok(Some(pixels)) => {
                    let was_consumed =
                        mailbox.put(Frame { pixels, capture_time: started.elapsed() });
                    !was_consumed || send(CaptureEvent::Frame)
                }
                Ok(None) => {
                    send(CaptureEvent::Ended);
                    false
                }
                Err(e) => {
                    send(CaptureEvent::Failed(e.to_string()));
                    false
                }
            };
            if !listening {
                return;
            }
            if !source.is_live() {
                // A source that falls behind does not try to catch up.
                due = (due + pace).max(Instant::now());
                std::thread::sleep(due - Instant::now().min(due));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frame_wins() {
        let mailbox = Mailbox::default();
        let frame = |v| Frame { pixels: vec![v], capture_time: Duration::ZERO };
        assert!(mailbox.put(frame(1)));
        assert!(!mailbox.put(frame(2)), "the first one was not taken");
        assert_eq!(mailbox.take().map(|f| f.pixels), Some(vec![2]));
        assert!(mailbox.take().is_none());
    }
}
