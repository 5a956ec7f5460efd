//! Images in and out: formats, what is in them, and the results that the program writes.

mod annotations;
mod data;
mod edges;
mod formats;
mod segmented;
mod styles;
#[path = "../support/mod.rs"]
mod support;
