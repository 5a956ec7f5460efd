//! TensorFlow's files: frozen graphs, checkpoints, TFLite and archives.

#[path = "../support/mod.rs"]
mod support;

mod published;
