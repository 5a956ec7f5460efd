//! What weight files cannot state: networks of real libraries with the config files that these
//! write beside their weights, compared with PyTorch. See `tests/golden/README.md`.

use crate::seeded::{self, Golden, Values};
use crate::{conventions, support};
use atrous::Model;
use atrous::engine::Tensor;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::models::mobilenet_v3::MobileNetV3;
use atrous::engine::models::{Backbone, Config, Outputs, build_network};
use atrous::engine::passes::optimize;
use atrous::engine::weights::WeightFile;
use atrous::engine::weights::dialects::{KernelLayout, Loaded, ReadOptions, expected, find, load};
use atrous::engine::weights::statements::{ConfigFiles, Statements};
use std::path::{Path, PathBuf};

/// Absolute tolerance, as in `golden_values.rs`: the values have a standard deviation of about 2,
/// and PyTorch's own rounding error is about 3e-5.
const TOLERANCE: f32 = 1e-3;
const SAMPLE_STEP: usize = 1_000_003;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statements")
}

fn cases(prefix: &str) -> Vec<Golden> {
    let paths = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden files {prefix}*");
    paths.iter().map(|path| Golden::read(path)).collect()
}

/// Returns the names and dimensions of the tensors of a case.
fn tensors(golden: &Golden) -> Vec<(String, Vec<usize>)> {
    let is_v3 = golden.text("backbone") == "mobilenetv3_large_100";
    let (dialect, config) = if is_v3 {
        ("timm", Config::bare(Backbone::MobileNetV3(MobileNetV3 {})))
    } else {
        (conventions::dialect(golden), conventions::config(golden))
    };
    let listed = expected(find(dialect).unwrap(), &config, KernelLayout::Oihw).unwrap();
    let mut tensors: Vec<_> = listed.into_iter().map(|e| (e.name, e.dims)).collect();
    if is_v3 {
        for (name, dims) in [("conv_head", vec![1280, 960, 1, 1]), ("classifier", vec![1000, 1280])]
        {
            tensors.push((format!("{name}.bias"), vec![dims[0]]));
            tensors.push((format!("{name}.weight"), dims));
        }
    }
    tensors.extend(conventions::unused(golden));
    if golden.case.contains("_tu-") {
        // SMP keeps timm's networks one level deeper.
        for (name, _) in &mut tensors {
            *name = name.replacen("encoder.", "encoder.model.", 1);
        }
    }
    tensors
}

fn files(golden: &Golden) -> ConfigFiles {
    let files: serde_json::Value = serde_json::from_str(&golden.metadata["files"]).unwrap();
    let text = |name: &str| files[name].as_str().map(str::to_owned);
    ConfigFiles::new(text("config.json"), text("preprocessor_config.json"))
}

fn with_files(golden: &Golden) -> ReadOptions {
    ReadOptions { config_files: Some(files(golden)), ..ReadOptions::default() }
}

/// Returns the largest difference from PyTorch's values, of the samples of all outputs.
fn largest_difference(golden: &Golden, loaded: &Loaded) -> f32 {
    let x = seeded::image(golden.input_shape);
    let has_head = loaded.config.head.is_some();
    let outputs = Outputs { logits_full: has_head, ..Outputs::default() };
    let mut network = build_network(&loaded.config, x.shape(), &outputs).unwrap();
    network.graph.bind(&loaded.weights).unwrap();
    let names: Vec<String> = network.graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let runner = Runner::new(&Device::Cpu, optimize(network.graph).unwrap()).unwrap();
    let results = runner.run(&[("input", &x)]).unwrap();
    let mut largest = 0f32;
    for (name, result) in names.iter().zip(results) {
        // PyTorch calls the features of a backbone what the network returns, too.
        let name = if name == "features" { "logits" } else { name };
        let Values { data, .. } = &golden.tensors[&format!("{name}.samples")];
        let s = result.shape();
        let dims: Vec<f32> = [s.n, s.c, s.h, s.w].map(|d| d as f32).to_vec();
        if dims != golden.tensors[&format!("{name}.shape")].data {
            return f32::INFINITY;
        }
        let got = result.to_nchw();
        for (k, want) in data.iter().enumerate() {
            let difference = (got[k * SAMPLE_STEP % got.len()] - want).abs();
            largest = if difference.is_nan() { f32::INFINITY } else { largest.max(difference) };
        }
    }
    largest
}

/// Compares a case with PyTorch, or checks the reason of its refusal.
fn check(golden: &Golden) -> Result<(), String> {
    let source = golden.weights(tensors(golden))?;
    let reason = golden.text("refused");
    let loaded = match (load(&source, with_files(golden)), reason) {
        (Ok(loaded), "") => loaded,
        (Err(e), reason) if !reason.is_empty() && e.to_string().contains(reason) => return Ok(()),
        (Err(e), _) => return Err(e.to_string()),
        (Ok(_), reason) => return Err(format!("was not refused: {reason}")),
    };
    if !loaded.notes.iter().any(|note| note.starts_with("config.json of ")) {
        return Err(format!("nothing was applied: {:?}", loaded.notes));
    }
    let difference = largest_difference(golden, &loaded);
    if difference > TOLERANCE {
        return Err(format!("differs by {difference}: {:?}", loaded.notes));
    }
    if golden.config["contrast"] == true {
        let alone = load(&source, ReadOptions::default()).map_err(|e| e.to_string())?;
        let difference = largest_difference(golden, &alone);
        if difference < 100.0 * TOLERANCE {
            return Err(format!("without config.json it differs by {difference} only"));
        }
    }
    Ok(())
}

fn check_all(prefix: &str) {
    let failures: Vec<String> = cases(prefix)
        .iter()
        .filter_map(|golden| Some(format!("{}: {}", golden.case, check(golden).err()?)))
        .collect();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn networks_of_smp_are_those_of_their_config() {
    check_all("smp_v3plus_");
}

#[test]
fn networks_of_smp_without_decoder_are_those_of_their_config() {
    check_all("smp_v3_");
}

#[test]
fn networks_of_hugging_face_are_those_of_their_config() {
    check_all("hf_");
}

#[test]
fn backbones_of_timm_are_those_of_their_config() {
    check_all("timm_");
}

#[test]
fn every_golden_file_has_a_test() {
    for golden in cases("") {
        let tested = ["smp_v3plus_", "smp_v3_", "hf_", "timm_"];
        assert!(tested.iter().any(|prefix| golden.case.starts_with(prefix)), "{}", golden.case);
    }
}

/// Returns the logits at full size of SMP's network trained at output stride 8, and the expected
/// ones.
fn logits_at_stride_8(options: ReadOptions) -> (Vec<f32>, Vec<f32>) {
    let data = support::data().join("cases/weights");
    let model = Model::open_with(data.join("smp_plus_mnv2_os8_f16.safetensors"), options).unwrap();
    let file = WeightFile::open(data.join("smp_plus_mnv2_os8_io.safetensors")).unwrap();
    let (dims, input) = file.read_f32("input").unwrap();
    let input = Tensor::from_nchw(dims[0], dims[1], dims[2], dims[3], &input).unwrap();
    let outputs = Outputs { logits_full: true, ..Outputs::default() };
    let graph = model.graph(input.shape(), &outputs).unwrap();
    let results = Runner::new(&Device::Cpu, graph).unwrap().run(&[("input", &input)]).unwrap();
    (results[1].to_nchw(), file.read_f32("expected").unwrap().1)
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn a_network_trained_at_stride_8_agrees_with_smp() {
    let golden = Golden::read(&directory().join("smp_v3plus_mobilenet_v2_os8.safetensors"));
    let statements = Statements { trained_stride: Some(8), ..Statements::default() };
    for options in [ReadOptions { statements, ..ReadOptions::default() }, with_files(&golden)] {
        let (got, want) = logits_at_stride_8(options);
        assert_eq!(got.len(), want.len());
        let largest = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest <= TOLERANCE, "{largest}");
    }
    // What happens if nobody states it.
    let (got, want) = logits_at_stride_8(ReadOptions::default());
    let largest = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest > 1.0, "{largest}");
}
