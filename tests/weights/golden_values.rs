//! Reading files written by PyTorch (`tests/golden/pth.py`).

use crate::support;
use atrous::engine::weights::{StoredDType, WeightFile, WeightFormat};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pth").join(name)
}

fn open(name: &str) -> WeightFile {
    WeightFile::open(golden(name)).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the elements of `tensor(dims, seed)` in the Python script.
fn expected_values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i + seed) * 37 % 101) as f32 - 50.0) / 16.0).collect()
}

#[track_caller]
fn assert_tensor(file: &WeightFile, name: &str, dims: &[usize], seed: usize) {
    let (actual_dims, values) = file.read_f32(name).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(actual_dims, dims, "{name}");
    assert_eq!(values, expected_values(dims.iter().product(), seed), "{name}");
}

#[track_caller]
fn assert_network(file: &WeightFile) {
    assert_eq!(
        file.names().collect::<Vec<_>>(),
        ["conv.weight", "conv.bias", "bn.num_batches_tracked"]
    );
    assert_tensor(file, "conv.weight", &[4, 3, 3, 3], 1);
    assert_tensor(file, "conv.bias", &[4], 2);
    assert_eq!(
        file.get("bn.num_batches_tracked").map(|t| (t.dtype(), t.dims(), t.len())),
        Some((StoredDType::I64, &[][..], 1))
    );
    let error = file.read_f32("bn.num_batches_tracked").unwrap_err().to_string();
    assert!(
        error.ends_with(
            "tensor `bn.num_batches_tracked`: expected a floating-point tensor, got I64"
        ),
        "{error}"
    );
}

#[test]
fn a_modules_state_dict_is_read_with_its_names_in_order() {
    let file = open("module.pth");
    assert_eq!(file.format(), WeightFormat::Pth);
    let names = [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ];
    assert_eq!(file.names().collect::<Vec<_>>(), names);
    assert_tensor(&file, "0.weight", &[4, 3, 3, 3], 0);
    for (seed, name) in names.iter().enumerate().take(6).skip(1) {
        assert_tensor(&file, name, &[4], seed);
    }
    assert!(file.metadata().is_empty() && file.ignored().is_empty());
}

#[test]
fn half_precision_is_read_as_f32() {
    let file = open("half.pth");
    assert_eq!(file.get("conv.weight").map(|t| t.dtype()), Some(StoredDType::F16));
    assert_network(&file);
}

#[test]
fn strided_tensors_are_gathered_in_their_own_order() {
    for name in ["strided.pth", "legacy_strided.pth"] {
        let file = open(name);
        assert_tensor(&file, "transposed", &[3, 5], 1);
        assert_tensor(&file, "channels_last", &[2, 3, 4, 5], 2);
        assert_tensor(&file, "whole", &[2, 3, 4], 5);
        // Rows 1 and 2 of the second half of `whole`: elements 16 and on.
        assert_tensor(&file, "part", &[2, 4], 5 + 16);
        // The elements in between are NaN and belong to no tensor.
        assert_tensor(&file, "step", &[6], 3);
        assert_tensor(&file, "single", &[], 4);
        assert_tensor(&file, "empty", &[0, 3], 0);
        assert_eq!(file.read_f32("expanded").unwrap(), (vec![1000, 3], vec![0.0; 3000]));
    }
}

#[test]
fn parameters_and_tensors_with_attributes_are_tensors() {
    let file = open("wrapped.pth");
    assert_tensor(&file, "parameter", &[2, 2], 1);
    assert_tensor(&file, "buffer", &[2], 2);
    assert_tensor(&file, "tagged", &[3], 3);
    assert_tensor(&file, "grad", &[2], 4);
    assert_eq!(file.ignored(), []);
}

#[test]
fn every_kind_of_value_in_a_state_dict_is_listed_or_named_as_ignored() {
    let file = open("kinds.pth");
    let listed: Vec<String> =
        file.tensors().iter().map(|t| format!("{} {}", t.name(), t.dtype())).collect();
    let expected = "f64 F64, f32 F32, f16 F16, bf16 BF16, i64 I64, i32 I32, i16 I16, i8 I8, \
                    u64 U64, u32 U32, u16 U16, u8 U8, bool BOOL";
    assert_eq!(listed.join(", "), expected);
    for (seed, name) in ["f64", "f32", "f16", "bf16"].iter().enumerate() {
        assert_tensor(&file, name, &[3], seed + 1);
    }
    let ignored: Vec<&str> = file.ignored().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(ignored, ["complex", "f8", "quantised", "sparse", "nothing", "state"]);
    assert_eq!(file.ignored()[2].kind, "a quantized tensor");
    assert_eq!(file.metadata()["version"], "3");
    assert_eq!(file.metadata()["name"], "kinds");
}

#[test]
fn a_checkpoints_state_dict_is_found_and_module_is_stripped() {
    for name in ["checkpoint.pth", "protocol5.pth", "legacy_checkpoint.pth"] {
        let file = open(name);
        assert_network(&file);
        let metadata: Vec<_> =
            file.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected =
            [("arch", "deeplabv3plus"), ("best_score", "0.75"), ("done", "true"), ("epoch", "12")];
        assert_eq!(metadata, expected, "{name}");
    }
}

#[test]
fn state_dicts_are_found_under_any_key() {
    assert_network(&open("in_a_tuple.pth"));
    // Several are named by their keys.
    let file = open("unknown_name.pth");
    let names: Vec<&str> = file.names().collect();
    let expected = [
        "weights_of_the_net.conv.weight",
        "weights_of_the_net.conv.bias",
        "weights_of_the_net.bn.num_batches_tracked",
        "one.x",
    ];
    assert_eq!(names, expected);
    assert_tensor(&file, "weights_of_the_net.conv.weight", &[4, 3, 3, 3], 1);
    assert_tensor(&file, "one.x", &[2], 1);
    assert_eq!(file.metadata()["generation"], "4");
}

#[test]
fn files_from_before_torch_1_6_are_read() {
    let file = open("legacy.pth");
    assert_eq!(file.format(), WeightFormat::PthLegacy);
    assert_network(&file);
    assert_network(&open("legacy_protocol4.pth"));
}

#[test]
fn deflated_archives_are_read() {
    assert_network(&open("deflated.pth"));
}

#[test]
fn scripts_are_rejected_with_advice() {
    let error = WeightFile::open(golden("script.pth")).unwrap_err().to_string();
    assert!(
        ["script.pth", "TorchScript", "state_dict()"].iter().all(|part| error.contains(part)),
        "{error}"
    );
}

#[test]
fn pickled_modules_have_the_tensors_of_their_state_dict() {
    let file = open("whole_model.pth");
    assert_eq!(file.names().collect::<Vec<_>>(), ["0.weight", "0.bias"]);
    for name in ["modules.pth", "modules_protocol4.pth"] {
        let file = open(name);
        // Without the buffer that is not persistent, and with the shared block under both names.
        let names = [
            "scale",
            "block.0.weight",
            "block.0.bias",
            "block.1.weight",
            "block.1.bias",
            "block.1.running_mean",
            "block.1.running_var",
            "block.1.num_batches_tracked",
            "again.0.weight",
            "again.0.bias",
            "again.1.weight",
            "again.1.bias",
            "again.1.running_mean",
            "again.1.running_var",
            "again.1.num_batches_tracked",
            "heads.0.weight",
        ];
        assert_eq!(file.names().collect::<Vec<_>>(), names, "{name}");
        assert_tensor(&file, "scale", &[2], 0);
        assert_tensor(&file, "block.0.weight", &[4, 3, 1, 1], 1);
        assert_tensor(&file, "again.1.running_var", &[4], 6);
        assert_tensor(&file, "heads.0.weight", &[2, 4, 1, 1], 8);
    }
}

/// Opens every file of the weights directory, and reads all of its floating-point tensors.
#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn the_data_directories_weights_are_read_whole() {
    let directory = std::fs::read_dir(support::data().join("weights")).unwrap();
    let mut files = 0;
    for entry in directory {
        let path = entry.expect("the directory is readable").path();
        if !path.extension().is_some_and(|e| e == "safetensors" || e == "pth" || e == "pt") {
            continue;
        }
        let file = WeightFile::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let mut elements = 0;
        for tensor in file.tensors().iter().filter(|t| t.dtype().is_float()) {
            let (dims, values) = file.read_f32(tensor.name()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(dims.iter().product::<usize>(), values.len());
            elements += values.len();
        }
        println!(
            "{}: {} tensors, {elements} floats, {:?}",
            path.display(),
            file.names().len(),
            file.metadata()
        );
        assert!(elements > 100_000, "{}", path.display());
        files += 1;
    }
    assert!(files > 0, "no weights in the data directory");
}
