//! Where frames come from. Each source runs in its own thread; the newest frame replaces one that
//! nobody has taken.

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
use atrous::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use camera::list;

/// Frames a second of sources that have no pace of their own.
const RATE: f64 = 30.0;

/// A source of frames of one size.
pub trait Source: Send {
    /// Width and height.
    fn size(&self) -> (usize, usize);

    /// The next frame, packed pixels; waits for it where the source is a camera. `None` after the
    /// last.
    fn next(&mut self) -> Result<Option<Vec<u32>>>;

    /// Whether it comes at a pace of its own.
    fn is_live(&self) -> bool {
        false
    }

    /// Frames a second, where the source says so.
    fn rate(&self) -> Option<f64> {
        None
    }

    /// For people.
    fn name(&self) -> String;
}

/// Opens what the options name.
pub fn open(options: &Options) -> Result<Box<dyn Source>> {
    Ok(match &options.source {
        SourceChoice::Camera(index) => camera::open(*index, options.resolution)?,
        SourceChoice::Synthetic => Box::new(synthetic::Scene::new(options.resolution)),
        SourceChoice::Path(path) => files::open(path, options.resolution)?,
    })
}

/// The error of a camera that is not in the list.
fn no_camera(index: usize, found: usize) -> Error {
    let text = match found {
        0 => "no camera was found".into(),
        n => format!("there is no camera:{index}; {n} found, counted from camera:0"),
    };
    Error::new(ErrorKind::Io, text)
        .advice("--list-cameras lists them; --source synthetic shows a drawn scene")
}

/// A frame on its way to the device.
pub struct Frame {
    pub pixels: Vec<u32>,
    /// What it took to get it, waiting for a camera included.
    pub took: Duration,
}

/// What a capturing thread tells.
pub enum News {
    /// There is a frame to take.
    Frame,
    /// There are no more.
    Ended,
    /// The source failed.
    Failed(String),
}

/// Holds the newest frame until it is taken.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Mutex<Option<Frame>>>);

impl Mailbox {
    pub fn take(&self) -> Option<Frame> {
        self.lock().take()
    }

    /// Puts a frame in, and says whether the one before was taken.
    fn put(&self, frame: Frame) -> bool {
        self.lock().replace(frame).is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Captures in a thread of its own until the source ends, or `tell` says that nobody listens.
pub fn start(
    mut source: Box<dyn Source>,
    rate: Option<f64>,
    mailbox: Mailbox,
    tell: impl Fn(News) -> bool + Send + 'static,
) {
    std::thread::spawn(move || {
        let pace = Duration::from_secs_f64(1.0 / rate.or(source.rate()).unwrap_or(RATE));
        let mut due = Instant::now();
        loop {
            let started = Instant::now();
            let listening = match source.next() {
                Ok(Some(pixels)) => {
                    let first = mailbox.put(Frame { pixels, took: started.elapsed() });
                    !first || tell(News::Frame)
                }
                Ok(None) => {
                    tell(News::Ended);
                    false
                }
                Err(e) => {
                    tell(News::Failed(e.to_string()));
                    false
                }
            };
            if !listening {
                return;
            }
            if !source.is_live() {
                // A source that cannot keep up begins anew from here, and does not hurry
                // afterwards.
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
        let frame = |v| Frame { pixels: vec![v], took: Duration::ZERO };
        assert!(mailbox.put(frame(1)));
        assert!(!mailbox.put(frame(2)), "the first one was not taken");
        assert_eq!(mailbox.take().map(|f| f.pixels), Some(vec![2]));
        assert!(mailbox.take().is_none());
    }
}
