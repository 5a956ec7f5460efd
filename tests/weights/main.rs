//! Weight files: written and read again, and against PyTorch's own.

mod golden_values;
mod round_trip;
#[path = "../support/mod.rs"]
mod support;
