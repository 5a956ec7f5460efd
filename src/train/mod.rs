//! Training. So far: one step's forward and backward pass as a graph, and schedules of the learning rate; the loop is still missing.

mod mining;
mod schedule;
mod step;

pub use mining::Mining;
pub use schedule::{Decay, Schedule};
pub use step::{NormMode, Step, StepOptions, training_step};
