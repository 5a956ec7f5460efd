//! Events of a run, for progress displays.

use crate::report::EvaluationRecord;

/// Steps that a log record averages over.
pub(super) const LOG_INTERVAL: u64 = 10;

/// Progress of a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A training step is complete.
    Step {
        /// Number of completed steps.
        step: u64,
        /// Mean loss of the last steps.
        loss: f64,
        /// Learning rate.
        learning_rate: f64,
        /// Training images per second.
        images_per_second: f64,
        /// Fraction of the time that the device waited for images, 0 to 1.
        idle: f64,
    },
    /// A validation image was scored.
    Scored {
        /// Number of images scored so far.
        done: usize,
        /// Total number of validation images.
        total: usize,
    },
    /// An evaluation is complete.
    Evaluated(&'a EvaluationRecord),
    /// A checkpoint was written.
    Saved {
        /// Number of completed steps.
        step: u64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps and the last evaluation are complete.
    Finished,
    /// Stopped on request; the run can be resumed.
    Stopped,
    /// Stopped before the last step, since the last evaluations were no better than those before.
    StoppedEarly,
}
