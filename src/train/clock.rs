//! How long a training takes, and how much of that its device waited.

use super::run::TOLD;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time that training takes: evaluations and checkpoints do not count.
pub(super) struct Clock {
    /// Seconds before this start.
    before: f64,
    start: Instant,
    paused: Duration,
    /// Time that the device waited for images since the last step was told.
    waited: Duration,
    /// When the last step ended, in time that counts.
    last: Duration,
    /// Time, images and waiting of the last steps.
    steps: VecDeque<(Duration, u64, Duration)>,
}

impl Clock {
    pub fn new(before: f64) -> Self {
        let (paused, waited, last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { before, start: Instant::now(), paused, waited, last, steps: VecDeque::new() }
    }

    fn counted(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.paused)
    }

    /// Seconds of training so far, also before this start.
    pub fn seconds(&self) -> f64 {
        self.before + self.counted().as_secs_f64()
    }

    /// Leaves out time that went into something else.
    pub fn pause(&mut self, time: Duration) {
        self.paused += time;
    }

    /// Notes time that the device waited for images.
    pub fn wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Notes the end of a step; images per second and the share of waiting, over the last steps.
    pub fn step(&mut self, images: u64) -> (f64, f64) {
        let now = self.counted();
        let took = now.saturating_sub(std::mem::replace(&mut self.last, now));
        self.steps.push_back((took, images, std::mem::take(&mut self.waited)));
        if self.steps.len() > TOLD as usize {
            self.steps.pop_front();
        }
        let time: f64 = self.steps.iter().map(|s| s.0.as_secs_f64()).sum::<f64>().max(1e-9);
        let (images, waited) = (
            self.steps.iter().map(|s| s.1).sum::<u64>(),
            self.steps.iter().map(|s| s.2.as_secs_f64()).sum::<f64>(),
        );
        (images as f64 / time, (waited / time).clamp(0.0, 1.0))
    }
}
