//! ONNX files: writing networks, so that other engines can run them, and reading the networks of
//! others.
//!
//! What each operation is in ONNX is in its own file ([`Op::onnx`](crate::graph::Op::onnx)); here
//! are the file format, the names and the sizes, and in `import` what this crate's operations are
//! for the operators of a file.

mod export;
#[cfg(test)]
mod export_tests;
mod import;
mod proto;
mod sizes;

pub use export::{OnnxOptions, export};
pub(crate) use import::looks_like;
pub use import::{OnnxModel, OnnxNetwork, from_bytes, is_onnx, open};
