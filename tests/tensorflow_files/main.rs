//! TensorFlow's files: frozen graphs, checkpoints, TFLite and archives.
#![cfg(feature = "tensorflow")]

mod build;
mod checkpoints;
mod damaged;
#[path = "../weights_hostile/memory.rs"]
mod memory;
mod published;
#[path = "../golden/seeded.rs"]
#[allow(dead_code, reason = "tests/networks uses the rest")]
mod seeded;
#[path = "../support/mod.rs"]
mod support;
mod written;

use atrous::Model;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::Outputs;
use atrous::engine::passes::optimize;
use atrous::engine::{Shape, Tensor};
use flate2::read::GzDecoder;
use seeded::Values;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Returns the logits of a model for an image.
fn logits(model: &Model, image: &Tensor) -> Vec<f32> {
    let network = model.network(image.shape(), &Outputs::default()).unwrap();
    let runner = Runner::new(&Device::Cpu, optimize(network.graph).unwrap()).unwrap();
    runner.run(&[("input", image)]).unwrap()[0].f32().to_vec()
}

/// Returns the largest difference of two lists of the same length.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Returns a file that `tensorflow_files.py` wrote.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tensorflow").join(name)
}

/// Returns TensorFlow's results.
fn expected() -> HashMap<String, Values> {
    seeded::read(&golden("expected.safetensors")).1
}

/// Returns an image of bytes as the network sees it, from -1 to 1.
fn normalized(image: &Values) -> Tensor {
    let [n, h, w, c] = image.dims[..] else { panic!("{:?}", image.dims) };
    let values = image.data.iter().map(|byte| byte * (2.0 / 255.0) - 1.0).collect();
    Tensor::new(Shape::new(n, h, w, c), values).unwrap()
}

/// Returns the files of an archive by their names without directories.
fn unpack(name: &str) -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(golden(name)).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

/// Writes files to a directory.
fn write(directory: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
