//! Training: one step's forward and backward pass as a graph, parameters that stay on the device
//! from step to step, and whole runs.

mod arena;
mod changes;
pub mod checkpoint;
mod clock;
mod data;
mod directory;
mod event;
mod fit;
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
mod scoring;
mod step;
mod trainer;
mod update;

pub use checkpoint::{Checkpoint, RunProgress};
pub use data::TrainingData;
pub use directory::{Origin, RunDirectory};
pub use event::{Ending, Event};
pub use fit::MemoryFit;
pub use groups::Groups;
pub use init::InitialModel;
pub use memory::Need;
pub use mining::Mining;
pub use options::{NormMomentum, TrainOptions};
pub use recipe::{DataRecipe, ModelName, NetworkRecipe, PreprocessName, Recipe};
pub use run::{Run, RunContext};
pub use schedule::{Decay, Schedule};
pub use scoring::Scoring;
pub use step::{NormMode, StepOptions, TrainingStep, training_step};
pub use trainer::{Images, StepOutcome, Trainer};
pub use update::Optimizer;
