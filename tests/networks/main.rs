//! Networks: every dialect, config and wrapper of weights, and their values against PyTorch's.

mod config;
#[path = "../golden/conventions.rs"]
mod conventions;
mod dialects;
mod golden_values;
mod multi_adds;
mod pickled;
#[path = "../golden/seeded.rs"]
mod seeded;
mod statements;
mod statements_golden;
#[path = "../support/mod.rs"]
mod support;
mod wrapped;
mod xception;
