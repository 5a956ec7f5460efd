//! Training time, throughput, and the fraction of time that the device waits for images.

use super::event::LOG_INTERVAL;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Measures training time, without evaluations and checkpoints.
pub(super) struct Clock {
    /// Training time before this process, in seconds.
    before: f64,
    start: Instant,
    paused: Duration,
    /// Time spent waiting for images since the last step.
    waited: Duration,
    /// End of the last step, in training time.
    last: Duration,
    /// Duration, image count and waiting time of the last steps.
    steps: VecDeque<(Duration, u64, Duration)>,
}

impl Clock {
    pub fn new(before: f64) -> Self {
        let (paused, waited, last) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { before, start: Instant::now(), paused, waited, last, steps: VecDeque::new() }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.paused)
    }

    /// Training time in seconds, including that before this process.
    pub fn seconds(&self) -> f64 {
        self.before + self.elapsed().as_secs_f64()
    }

    /// Excludes `time` from the training time.
    pub fn pause(&mut self, time: Duration) {
        self.paused += time;
    }

    /// Adds time spent waiting for images.
    pub fn wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Ends a step. Returns images per second and the fraction of time spent waiting, both over the
    /// last steps.
    pub fn step(&mut self, images: u64) -> (f64, f64) {
        let now = self.elapsed();
        let took = now.saturating_sub(std::mem::replace(&mut self.last, now));
        self.steps.push_back((took, images, std::mem::take(&mut self.waited)));
        if self.steps.len() > LOG_INTERVAL as usize {
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
