//! Training: one step's forward and backward pass as a graph, parameters that stay on the device from step to step, and whole runs.

mod bank;
pub mod checkpoint;
mod clock;
mod data;
mod event;
mod fit;
mod folder;
mod groups;
mod init;
mod memory;
mod mining;
mod options;
mod parts;
mod recipe;
mod recompute;
mod run;
mod schedule;
mod step;
mod trainer;
mod update;

pub use checkpoint::{Checkpoint, Progress};
pub use data::Sets;
pub use event::{Ending, Event};
pub use fit::Fit;
pub use folder::Origin;
pub use groups::Groups;
pub use init::Beginning;
pub use memory::Need;
pub use mining::Mining;
pub use options::{NormMomentum, TrainOptions};
pub use recipe::{DataRecipe, ModelName, NetworkRecipe, PreprocessName, Recipe};
pub use run::{Run, Setting};
pub use schedule::{Decay, Schedule};
pub use step::{NormMode, Step, StepOptions, training_step};
pub use trainer::{Outcome, Pictures, Trainer};
pub use update::Optimiser;
