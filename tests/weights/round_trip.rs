//! Weight files survive a round trip, in both formats.

use atrous::engine::weights::dialects::StoredWeights;
use atrous::engine::weights::{
    CheckpointDict, FloatDType, StoredDType, WeightFile, WeightFormat, write_pth, write_safetensors,
};
use half::{bf16, f16};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Generates up to six tensors with unique names, including arbitrary text, and with dimensions
/// that include zero and the empty list.
fn tensors() -> impl Strategy<Value = Tensors> {
    let name = prop_oneof![3 => "[a-z]{1,8}(\\.[a-z0-9_]{1,12}){0,3}", 1 => "\\PC{1,20}"];
    let dims = prop::collection::vec(0usize..5, 0..5);
    let tensor = (name, dims).prop_flat_map(|(name, dims)| {
        let len: usize = dims.iter().product();
        prop::collection::vec(-1000f32..1000.0, len)
            .prop_map(move |data| (name.clone(), dims.clone(), data))
    });
    prop::collection::vec(tensor, 1..6).prop_map(|mut tensors| {
        let mut seen = HashSet::from(["__metadata__".to_owned()]);
        tensors.retain(|(name, ..)| seen.insert(name.clone()));
        tensors
    })
}

fn dtype() -> impl Strategy<Value = FloatDType> {
    prop_oneof![Just(FloatDType::F32), Just(FloatDType::F16), Just(FloatDType::BF16)]
}

fn metadata() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("\\PC{0,9}", "\\PC{0,30}", 0..4)
}

fn stored(value: f32, dtype: FloatDType) -> f32 {
    match dtype {
        FloatDType::F32 => value,
        FloatDType::F16 => f16::from_f32(value).to_f32(),
        FloatDType::BF16 => bf16::from_f32(value).to_f32(),
    }
}

/// Compares a file with the written tensors. `rename` maps written names to read names.
fn compare(
    file: &WeightFile,
    tensors: &Tensors,
    dtype: FloatDType,
    rename: impl Fn(&str) -> String,
) {
    assert_eq!(
        file.names().map(str::to_owned).collect::<Vec<_>>(),
        tensors.iter().map(|(name, ..)| rename(name)).collect::<Vec<_>>()
    );
    for (name, dims, data) in tensors {
        let name = &rename(name);
        assert_eq!(file.get(name).unwrap().dtype(), StoredDType::from(dtype));
        assert_eq!(file.dims(name), Some(&dims[..]));
        let (actual_dims, values) = file.read_f32(name).unwrap();
        assert_eq!(&actual_dims, dims);
        assert_eq!(values, data.iter().map(|&v| stored(v, dtype)).collect::<Vec<_>>());
    }
}

/// Returns the length of the prefix that reading a `.pth` file removes: every `module.` that all
/// names share.
fn common_prefix(tensors: &Tensors) -> usize {
    let depth = |name: &str| {
        let mut depth = 0;
        while name[7 * depth..].len() > 7 && name[7 * depth..].starts_with("module.") {
            depth += 1;
        }
        depth
    };
    7 * tensors.iter().map(|(name, ..)| depth(name)).min().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn safetensors_come_back_as_they_were(tensors in tensors(), metadata in metadata(), dtype in dtype()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.safetensors");
        let borrowed = tensors.iter().map(|(name, dims, data)| (name.as_str(), dims, data));
        write_safetensors(&path, borrowed, &metadata, dtype).unwrap();
        let file = WeightFile::open(&path).unwrap();
        prop_assert_eq!(file.format(), WeightFormat::Safetensors);
        prop_assert_eq!(file.metadata(), &metadata);
        compare(&file, &tensors, dtype, str::to_owned);
        // The reference implementation can read the file.
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, dims, data) in &tensors {
            let view = reference.tensor(name).unwrap();
            prop_assert_eq!(view.shape(), &dims[..]);
            prop_assert_eq!(view.data().len(), data.len() * StoredDType::from(dtype).size());
        }
    }

    #[test]
    fn pth_come_back_as_they_were(
        tensors in tensors(),
        metadata in metadata(),
        dtype in dtype(),
        key in prop::option::of(prop_oneof![Just("state_dict"), Just("model_state"), Just("anything")]),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pth");
        let checkpoint = key.map(|key| CheckpointDict { key, metadata: &metadata });
        write_pth(&path, tensors.clone(), checkpoint, dtype).unwrap();
        let file = WeightFile::open(&path).unwrap();
        prop_assert_eq!(file.format(), WeightFormat::Pth);
        let prefix = common_prefix(&tensors);
        compare(&file, &tensors, dtype, |name| name[prefix..].to_owned());
        prop_assert_eq!(file.metadata(), &key.map(|_| metadata.clone()).unwrap_or_default());
    }
}

#[test]
fn files_by_the_safetensors_crate_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("reference.safetensors");
    let bytes: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], data| {
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), data).unwrap()
    };
    let views = [
        ("b.steps", view(safetensors::Dtype::I64, &[], &[7, 0, 0, 0, 0, 0, 0, 0])),
        ("a.weight", view(safetensors::Dtype::F64, &[2, 1], &bytes)),
        ("mask", view(safetensors::Dtype::BOOL, &[1], &[1])),
    ];
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.read_f32("a.weight").unwrap(), (vec![2, 1], vec![1.5, -2.0]));
    assert_eq!(file.get("mask").unwrap().dtype(), StoredDType::Bool);
    let error = file.read_f32("b.steps").unwrap_err().to_string();
    assert!(
        error.contains(
            "reference.safetensors: tensor `b.steps`: expected a floating-point tensor, got I64"
        ),
        "{error}"
    );
    let error = file.read_f32("c").unwrap_err().to_string();
    assert!(error.contains("no tensor named `c`"), "{error}");
}

/// PyTorch has them as integers, whatever the type of the weights.
#[test]
fn counters_of_batch_norms_are_written_as_integers() {
    let directory = tempfile::tempdir().unwrap();
    let none = BTreeMap::new();
    let mut stored = StoredWeights::default();
    for part in ["weight", "running_mean", "running_var"] {
        stored.tensors.push((format!("bn.{part}"), vec![3], vec![0.5; 3]));
    }
    stored.add_counters();
    for dtype in [FloatDType::F32, FloatDType::F16] {
        let paths = ["a.safetensors", "a.pth"].map(|name| directory.path().join(name));
        write_safetensors(&paths[0], stored.tensors.clone(), &none, dtype).unwrap();
        write_pth(&paths[1], stored.tensors.clone(), None, dtype).unwrap();
        for path in paths {
            let file = WeightFile::open(&path).unwrap();
            let counter = file.get("bn.num_batches_tracked").unwrap();
            assert_eq!((counter.dtype(), counter.dims()), (StoredDType::I64, &[][..]));
            assert_eq!(file.read_f32("bn.running_var").unwrap(), (vec![3], vec![0.5; 3]));
            assert_eq!(file.tensors().len(), 4);
        }
    }
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let metadata =
        BTreeMap::from(["one", "two", "three", "four"].map(|k| (k.to_owned(), k.to_owned())));
    let tensors = || [("b", [2], [1f32, 2.0]), ("a", [2], [3.0, 4.0])];
    let bytes = |name: &str, write: &dyn Fn(&Path)| {
        let path = directory.path().join(name);
        write(&path);
        std::fs::read(path).unwrap()
    };
    let st = |path: &Path| write_safetensors(path, tensors(), &metadata, FloatDType::F32).unwrap();
    assert_eq!(bytes("1.safetensors", &st), bytes("2.safetensors", &st));
    let pth = |path: &Path| {
        let checkpoint = Some(CheckpointDict { key: "state_dict", metadata: &metadata });
        write_pth(path, tensors(), checkpoint, FloatDType::F32).unwrap()
    };
    assert_eq!(bytes("1.pth", &pth), bytes("2.pth", &pth));
}

#[test]
fn invalid_tensors_are_rejected_and_the_old_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kept.safetensors");
    std::fs::write(&path, "old").unwrap();
    let none = BTreeMap::new();
    let write = |tensors: &[(&str, Vec<usize>, Vec<f32>)], dtype| {
        let st = write_safetensors(&path, tensors.to_vec(), &none, dtype).unwrap_err().to_string();
        let pth = write_pth(&path, tensors.to_vec(), None, dtype).unwrap_err().to_string();
        assert_eq!(st, pth);
        assert!(st.contains("kept.safetensors"), "{st}");
        st
    };
    let nan = write(&[("w", vec![2], vec![0.0, f32::NAN])], FloatDType::F32);
    assert!(nan.contains("tensor `w`: element 1 is NaN"), "{nan}");
    let range = write(&[("w", vec![1], vec![70_000.0])], FloatDType::F16);
    assert!(range.contains("70000, outside the range of F16"), "{range}");
    let len = write(&[("w", vec![2, 2], vec![0.0; 3])], FloatDType::F32);
    assert!(len.contains("dimensions [2, 2] do not match 3 elements"), "{len}");
    let duplicate = write(&[("w", vec![], vec![0.0]), ("w", vec![], vec![0.0])], FloatDType::F32);
    assert!(duplicate.contains("duplicate tensor name `w`"), "{duplicate}");
    assert!(write(&[], FloatDType::F32).contains("no tensors to write"));

    let reserved = write_safetensors(&path, [("__metadata__", [1], [0.0])], &none, FloatDType::F32)
        .unwrap_err();
    assert!(reserved.to_string().contains("invalid tensor name `__metadata__`"), "{reserved}");
    let metadata = BTreeMap::from([("state_dict".to_owned(), String::new())]);
    let checkpoint = Some(CheckpointDict { key: "state_dict", metadata: &metadata });
    let conflict = write_pth(&path, [("w", [1], [0.0])], checkpoint, FloatDType::F32).unwrap_err();
    let expected = "the metadata contains `state_dict`, the key of the state dict";
    assert!(conflict.to_string().contains(expected), "{conflict}");

    let nowhere = directory.path().join("missing/w.safetensors");
    let error =
        write_safetensors(&nowhere, [("w", [1], [0.0])], &none, FloatDType::F32).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");

    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["kept.safetensors"], "temporary files remain");
}

#[test]
fn non_finite_weights_are_rejected_with_their_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nan.safetensors");
    for (bits, kind) in [(0x7e00u16, "NaN"), (0xfc00, "infinity")] {
        let mut bytes = vec![0u8; 24];
        bytes[14..16].copy_from_slice(&bits.to_le_bytes());
        bytes[20..22].copy_from_slice(&bits.to_le_bytes());
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![2, 3, 2], &bytes)
                .unwrap();
        safetensors::serialize_to_file([("w", view)], None, &path).unwrap();
        let error = WeightFile::open(&path).unwrap().read_f32("w").unwrap_err().to_string();
        let expected = format!("nan.safetensors: tensor `w`: contains {kind} (first at [1, 0, 1])");
        assert!(error.contains(&expected), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn written_files_have_the_permissions_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    let weights = directory.path().join("w.safetensors");
    let plain = directory.path().join("plain");
    write_safetensors(&weights, [("w", [1], [0.0])], &BTreeMap::new(), FloatDType::F32).unwrap();
    std::fs::write(&plain, "").unwrap();
    assert_eq!(mode(&weights), mode(&plain));
}
