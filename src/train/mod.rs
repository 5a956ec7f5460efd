//! Training: one step's forward and backward pass as a graph, and parameters that stay on the device from step to step.

mod bank;
mod groups;
mod memory;
mod mining;
mod options;
mod parts;
mod schedule;
mod step;
mod trainer;
mod update;

pub use groups::Groups;
pub use memory::Need;
pub use mining::Mining;
pub use options::{NormMomentum, TrainOptions};
pub use schedule::{Decay, Schedule};
pub use step::{NormMode, Step, StepOptions, training_step};
pub use trainer::{Outcome, Pictures, Trainer};
pub use update::Optimiser;
