//! Training: the forward and backward pass of a step as one graph, parameters that stay on the
//! device from step to step, and complete runs.

mod arena;
mod changes;
pub(crate) mod checkpoint;
mod clock;
mod context;
mod data;
mod directory;
mod event;
mod init;
mod loss_recipe;
mod memory_estimate;
pub(crate) mod memory_fit;
mod mining;
mod options;
mod param_groups;
mod recipe;
mod recompute;
mod run;
mod schedule;
pub(crate) mod step;
mod step_layout;
mod step_loss;
mod trainer;
mod update;
pub(crate) mod validation;

pub use checkpoint::BestScore;
pub use context::RunContext;
pub use data::TrainingData;
pub use directory::{Origin, RunDirectory};
pub use event::{Ending, Event};
pub use init::InitialModel;
pub use loss_recipe::LossRecipe;
pub use memory_estimate::MemoryEstimate;
pub(crate) use memory_fit::MemoryFit;
pub use mining::Mining;
pub use options::{NormMomentum, TrainOptions};
pub use param_groups::ParamGroups;
pub use recipe::{DataRecipe, ModelName, NetworkRecipe, PreprocessName, Recipe};
pub use run::Run;
pub use schedule::{Decay, Schedule};
pub use step::{NormMode, StepOptions};
pub use trainer::{BatchRef, StepOutcome, Trainer};
pub use update::Optimizer;
pub(crate) use validation::ValidationMemory;
