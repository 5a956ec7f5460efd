//! ONNX files: those of PyTorch and of this crate, and damaged ones.
#![cfg(feature = "onnx")]

mod damaged;
#[path = "../weights_hostile/memory.rs"]
mod memory;
mod networks;
mod operators;
mod own;
mod published;
#[path = "../golden/seeded.rs"]
#[allow(dead_code, reason = "tests/networks uses the rest")]
mod seeded;
#[path = "../support/mod.rs"]
mod support;

use atrous::Model;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::Outputs;
use atrous::engine::passes::optimize;
use atrous::engine::{Shape, Tensor};
use std::path::{Path, PathBuf};

/// Returns a file that `onnx_files.py` wrote.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx").join(name)
}

/// Returns the scores of a model at the size of the image, `[N, C, H, W]`.
fn scores(model: &Model, image: &Tensor) -> (Shape, Vec<f32>) {
    let outputs = Outputs { logits_full: true, ..Outputs::default() };
    let network = model.network(image.shape(), &outputs).unwrap_or_else(|e| panic!("{e}"));
    let index = network.graph.outputs().iter().position(|(name, _)| name == "logits_full").unwrap();
    let runner = Runner::new(&Device::Cpu, optimize(network.graph).unwrap()).unwrap();
    let results = runner.run(&[("input", image)]).unwrap();
    (results[index].shape(), results[index].to_nchw())
}

/// Returns the largest difference of two lists of the same length.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, v| f32::max(max, v.abs()))
}
