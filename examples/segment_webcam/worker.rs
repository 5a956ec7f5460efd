//! The thread that runs the network on the latest frame, slice by slice, as often as possible.

use atrous::Size;
use atrous::engine::exec::{Device, Slices};
use atrous::engine::tune::Tuning;
use atrous::image::{Image, SizeRule};
use atrous::live::Live;
use atrous::{Model, Result};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages from the worker to the window.
pub enum WorkerEvent {
    /// A network is ready and in use.
    Ready(Arc<Live>),
    /// New scores are available; `time` is the duration of the run.
    Scores { time: Duration, slices: usize },
    /// The worker failed and has exited.
    Failed(atrous::Error),
    /// The requested size is not possible; the previous one stays in use.
    Refused(String),
}

/// Requests from the window to the worker.
#[derive(Default)]
struct Requests {
    /// Counts the uploaded frames.
    frame: u64,
    size: Option<SizeRule>,
    stop: bool,
}

/// The window's handle of the worker.
#[derive(Clone, Default)]
pub struct Worker(Arc<(Mutex<Requests>, Condvar)>);

impl Worker {
    fn change(&self, f: impl FnOnce(&mut Requests)) {
        f(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_one();
    }

    /// Signals that a new frame was uploaded.
    pub fn frame(&self) {
        self.change(|w| w.frame += 1);
    }

    /// Requests another input size.
    pub fn size(&self, size: SizeRule) {
        self.change(|w| w.size = Some(size));
    }

    /// Stops the worker.
    pub fn end(&self) {
        self.change(|w| w.stop = true);
    }

    /// Waits for a frame after `seen` or a new size. Returns both, or `None` when the worker is
    /// stopped.
    fn next(&self, seen: u64) -> Option<(u64, Option<SizeRule>)> {
        let requests = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |w: &mut Requests| w.frame == seen && w.size.is_none() && !w.stop;
        let mut requests =
            self.0.1.wait_while(requests, idle).unwrap_or_else(PoisonError::into_inner);
        (!requests.stop).then(|| (requests.frame, requests.size.take()))
    }
}

/// Everything needed to prepare a network.
pub struct Setup {
    pub device: Device,
    pub model: Arc<Model>,
    pub frame: Size,
    pub background: Option<Arc<Image>>,
    pub smooth: f32,
    /// Maximum time that the network may occupy the device without a break.
    pub slice: Duration,
}

impl Setup {
    pub fn live(&self, size: SizeRule) -> Result<Live> {
        let live = Live::new(&self.device, &self.model, self.frame, size, &Tuning::default())?;
        live.set_smoothing(self.smooth)?;
        if let Some(image) = &self.background {
            live.set_background(image)?;
        }
        Ok(live)
    }
}

/// Starts the thread. `send` returns whether the receiver still exists.
pub fn start(
    setup: Setup,
    live: Arc<Live>,
    worker: Worker,
    send: impl Fn(WorkerEvent) -> bool + Send + 'static,
) {
    std::thread::spawn(move || {
        if let Err(e) = work(&setup, live, &worker, &send) {
            send(WorkerEvent::Failed(e));
        }
    });
}

fn work(
    setup: &Setup,
    mut live: Arc<Live>,
    worker: &Worker,
    send: &impl Fn(WorkerEvent) -> bool,
) -> Result<()> {
    let mut slices: Option<Slices> = None;
    let mut seen = 0;
    while let Some((frame, size)) = worker.next(seen) {
        if let Some(size) = size {
            match setup.live(size) {
                Ok(new) => {
                    (live, slices) = (Arc::new(new), None);
                    // The new network has no frame yet; the window uploads one.
                    seen = frame;
                    if !send(WorkerEvent::Ready(live.clone())) {
                        return Ok(());
                    }
                    continue;
                }
                Err(e) => drop(send(WorkerEvent::Refused(e.to_string()))),
            }
        }
        seen = frame;
        let started = Instant::now();
        let count = match &slices {
            Some(slices) => {
                live.segment_in_slices(slices)?;
                slices.count()
            }
            // Measuring the slices runs the network too.
            None => slices.insert(live.slices(setup.slice)?).count(),
        };
        if !send(WorkerEvent::Scores { time: started.elapsed(), slices: count }) {
            return Ok(());
        }
    }
    Ok(())
}
