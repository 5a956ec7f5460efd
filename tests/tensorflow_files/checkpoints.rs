//! Checkpoints that TensorFlow wrote: an index and two data files, with averages and momenta.

use crate::{difference, expected, logits, normalized, unpack, write};
use atrous::Model;
use atrous::engine::weights::{WeightFile, WeightFormat};
use std::collections::BTreeMap;
use std::path::Path;

const DATA: [&str; 2] = ["model.ckpt.data-00000-of-00002", "model.ckpt.data-00001-of-00002"];

/// Returns the files of the checkpoint.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = unpack("graph.tar.gz");
    files.remove("frozen_inference_graph.pb").unwrap();
    files
}

/// Packs files like the published archives.
fn archive(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let gz =
        flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), Default::default());
    let mut archive = tar::Builder::new(gz);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("deeplab/{name}"), &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

/// The names of a checkpoint state neither the output stride nor the rates.
fn check(model: Model) {
    let expected = expected();
    let mut model = model.with_output_stride(8).unwrap();
    model.config_mut().unwrap().head.as_mut().unwrap().aspp.rates = vec![2, 4, 6];
    let result = logits(&model, &normalized(&expected["image.graph"]));
    let largest = difference(&result, &expected["graph"].data);
    assert!(largest <= 1e-3, "{largest}");
}

#[test]
fn a_checkpoint_is_opened_by_its_index_prefix_or_data_file() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &files());
    for name in ["model.ckpt.index", "model.ckpt", DATA[0], DATA[1]] {
        let file = WeightFile::open(directory.path().join(name)).unwrap();
        assert_eq!(file.format(), WeightFormat::TensorFlowCheckpoint, "{name}");
        assert!(file.get("aspp0/weights/Momentum").is_some(), "{name}");
    }
    let model = Model::open(directory.path().join("model.ckpt")).unwrap();
    assert_eq!(model.dialect_name(), "tensorflow");
    check(model);
}

#[test]
fn an_archive_with_a_checkpoint_alone_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deeplab.tar.gz");
    archive(&path, &files());
    let file = WeightFile::open(&path).unwrap();
    assert!(file.notes()[0].contains("model.ckpt.index"), "{:?}", file.notes());
    check(Model::open(&path).unwrap());
}

#[test]
fn an_archive_with_a_checkpoint_that_lacks_a_data_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deeplab.tar.gz");
    let mut files = files();
    files.remove(DATA[1]);
    archive(&path, &files);
    let error = WeightFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("complete checkpoint") && error.contains("deeplab.tar.gz"), "{error}");
}

#[test]
fn the_checkpoint_is_used_if_the_graph_of_an_archive_is_not_a_network() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deeplab.tar.gz");
    let mut files = files();
    // One node of an unknown operation.
    files.insert("other.pb".to_owned(), b"\x0a\x08\x0a\x01a\x12\x03Foo".to_vec());
    archive(&path, &files);
    let file = WeightFile::open(&path).unwrap();
    let note = &file.notes()[0];
    assert!(note.contains("model.ckpt.index") && note.contains("no convolutions"), "{note}");
}

#[test]
fn a_missing_data_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = files();
    files.remove(DATA[1]);
    write(directory.path(), &files);
    let error = Model::open(directory.path().join("model.ckpt.index")).unwrap_err().to_string();
    assert!(error.contains(DATA[1]) && error.contains("is missing"), "{error}");
}

#[test]
fn a_changed_element_is_found_by_its_checksum() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = files();
    let data = files.get_mut(DATA[0]).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    write(directory.path(), &files);
    let file = WeightFile::open(directory.path().join("model.ckpt")).unwrap();
    let errors: Vec<String> = file
        .tensors()
        .iter()
        .filter(|tensor| tensor.dtype().is_float())
        .filter_map(|tensor| Some(file.read_f32(tensor.name()).err()?.to_string()))
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("checksum") && errors[0].contains(DATA[0]), "{}", errors[0]);
}

#[test]
fn a_saved_model_and_the_list_of_checkpoints_are_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let saved = directory.path().join("saved_model.pb");
    std::fs::write(&saved, b"\x08\x01\x12\x02\x0a\x00").unwrap();
    let list = directory.path().join("checkpoint");
    std::fs::write(&list, b"model_checkpoint_path: \"model.ckpt-30000\"\n").unwrap();
    for (path, reason, advice) in [
        (saved.as_path(), "a SavedModel", "freeze it"),
        (directory.path(), "a SavedModel", "freeze it"),
        (list.as_path(), "only names", ".index"),
    ] {
        let error = WeightFile::open(path).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(advice), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
