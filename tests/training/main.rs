//! Training on small synthetic images: the loss falls, executors agree, runs can be interrupted.

mod memory;
mod notes;
mod owner;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod trainer;
