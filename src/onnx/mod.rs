//! ONNX files: writing networks, so that other engines can run them.
//!
//! What each operation is in ONNX is in its own file ([`Op::onnx`](crate::graph::Op::onnx)); here
//! are the file format, the names and the sizes.

mod export;
#[cfg(test)]
mod export_tests;
mod proto;
mod sizes;

pub use export::{OnnxOptions, export};
