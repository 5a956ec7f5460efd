//! What a run tells whoever watches it.

use crate::report::EvaluationRecord;

/// What a run says about itself as it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was made: its number from 1, the loss of late, the rate, images per second.
    Step {
        /// Steps done.
        step: u64,
        /// Mean of the last steps' losses.
        loss: f64,
        /// Learning rate.
        rate: f64,
        /// Images trained on per second.
        images_per_second: f64,
        /// Share of the time in which the device waited for images.
        idle: f64,
    },
    /// A validation image was scored: its number from 1.
    Scored {
        /// Images scored.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// All were.
    Evaluated(&'a EvaluationRecord),
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: u64,
    },
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All the steps are made, and the last evaluation.
    Finished,
    /// It was asked to stop; it can be resumed.
    Stopped,
}
