//! Training. So far: one step's forward and backward pass as a graph; what updates the weights is still missing.

mod step;

pub use step::{NormMode, Step, StepOptions, training_step};
