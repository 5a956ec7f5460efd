//! The thread that runs the network: on the newest frame, slice by slice, as often as it can.

use atrous::exec::{Device, Slices};
use atrous::image::{Image, SizeRule};
use atrous::live::Live;
use atrous::tune::Tuning;
use atrous::{Model, Result};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the thread tells.
pub enum Told {
    /// A network is ready for frames, and in use from now on.
    Ready(Arc<Live>),
    /// There are new scores, after so long.
    Scores { time: Duration, slices: usize },
    /// It failed and ended.
    Failed(atrous::Error),
    /// The size that was asked for cannot be had; the one before stays.
    Refused(String),
}

/// What the window wants of the thread.
#[derive(Default)]
struct Wishes {
    /// Counts the uploaded frames.
    frame: u64,
    size: Option<SizeRule>,
    over: bool,
}

/// The window's end.
#[derive(Clone, Default)]
pub struct Worker(Arc<(Mutex<Wishes>, Condvar)>);

impl Worker {
    fn change(&self, f: impl FnOnce(&mut Wishes)) {
        f(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_one();
    }

    /// A new frame lies on the device.
    pub fn frame(&self) {
        self.change(|w| w.frame += 1);
    }

    /// The network's input is to have another size.
    pub fn size(&self, size: SizeRule) {
        self.change(|w| w.size = Some(size));
    }

    /// The thread is to end.
    pub fn end(&self) {
        self.change(|w| w.over = true);
    }

    /// Waits for a frame after `seen`, or a new size: both, or `None` at the end.
    fn next(&self, seen: u64) -> Option<(u64, Option<SizeRule>)> {
        let wishes = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |w: &mut Wishes| w.frame == seen && w.size.is_none() && !w.over;
        let mut wishes = self.0.1.wait_while(wishes, idle).unwrap_or_else(PoisonError::into_inner);
        (!wishes.over).then(|| (wishes.frame, wishes.size.take()))
    }
}

/// What networks are made of.
pub struct Setup {
    pub device: Device,
    pub model: Arc<Model>,
    pub frame: (usize, usize),
    pub behind: Option<Arc<Image>>,
    pub smooth: f32,
    /// How long the device may be kept from the window at a time.
    pub slice: Duration,
}

impl Setup {
    pub fn live(&self, size: SizeRule) -> Result<Live> {
        let live = Live::new(&self.device, &self.model, self.frame, size, &Tuning::default())?;
        live.set_smoothing(self.smooth)?;
        if let Some(image) = &self.behind {
            live.set_behind(image)?;
        }
        Ok(live)
    }
}

/// Starts the thread. `tell` says whether anybody listens.
pub fn start(
    setup: Setup,
    live: Arc<Live>,
    worker: Worker,
    tell: impl Fn(Told) -> bool + Send + 'static,
) {
    std::thread::spawn(move || {
        if let Err(e) = work(&setup, live, &worker, &tell) {
            tell(Told::Failed(e));
        }
    });
}

fn work(
    setup: &Setup,
    mut live: Arc<Live>,
    worker: &Worker,
    tell: &impl Fn(Told) -> bool,
) -> Result<()> {
    let mut slices: Option<Slices> = None;
    let mut seen = 0;
    while let Some((frame, size)) = worker.next(seen) {
        if let Some(size) = size {
            match setup.live(size) {
                Ok(new) => {
                    (live, slices) = (Arc::new(new), None);
                    // It has no frame yet; the window uploads one.
                    seen = frame;
                    if !tell(Told::Ready(live.clone())) {
                        return Ok(());
                    }
                    continue;
                }
                Err(e) => drop(tell(Told::Refused(e.to_string()))),
            }
        }
        seen = frame;
        let started = Instant::now();
        let cut = match &slices {
            Some(cut) => {
                live.segment_in_slices(cut)?;
                cut.count()
            }
            // Finding out where to cut runs the network too.
            None => slices.insert(live.slices(setup.slice)?).count(),
        };
        if !tell(Told::Scores { time: started.elapsed(), slices: cut }) {
            return Ok(());
        }
    }
    Ok(())
}
