//! Training on small synthetic images: the loss falls, executors agree, runs can be interrupted. Steps
//! and losses against PyTorch's.

mod checks;
#[path = "../golden/conventions.rs"]
mod conventions;
mod golden_values;
mod memory;
mod notes;
mod owner;
mod run;
#[path = "../golden/seeded.rs"]
#[allow(dead_code, reason = "networks use the rest")]
mod seeded;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod trainer;
mod twenty_steps;
