//! Files as their authors published them, compared with the same weights in safetensors.

use crate::support::{Rng, data};
use crate::{difference, logits};
use atrous::Model;
use atrous::engine::Shape;

/// Compares the logits of two files of the same network, which has output stride 8 in the graph; the
/// names alone do not state that.
fn compare(foreign: &str, own: &str, size: usize, classes: usize) {
    let weights = data().join("weights");
    let foreign = Model::open(weights.join("foreign").join(foreign)).unwrap();
    let own = Model::open(weights.join(own)).unwrap();
    assert_eq!(foreign.dialect_name(), "tensorflow");
    assert_eq!(foreign.config().unwrap().classes(), Some(classes));
    assert_eq!(foreign.config().unwrap().output_stride, 8);
    assert_eq!(foreign.config().unwrap().preprocess.size, Some(size));
    let mut expected = own.with_output_stride(8).unwrap();
    expected.config_mut().unwrap().preprocess.size = Some(size);
    assert_eq!(foreign.config().unwrap(), expected.config().unwrap());
    let image = Rng(7).tensor(Shape::new(1, size, size, 3));
    let largest = difference(&logits(&foreign, &image), &logits(&expected, &image));
    assert!(largest <= 1e-3, "{largest}");
}

#[test]
#[cfg_attr(not(has_data), ignore = "no weights: set ATROUS_DATA")]
fn a_tflite_file_has_the_logits_of_its_conversion() {
    compare("deeplabv3_257_mv_gpu.tflite", "deeplabv3_mnv2_dm05_voc21.safetensors", 257, 21);
}

#[test]
#[cfg_attr(not(has_data), ignore = "no weights: set ATROUS_DATA")]
fn a_frozen_graph_has_the_logits_of_its_conversion() {
    compare(
        "portrait2_frozen_inference_graph.pb",
        "deeplabv3_mnv2_dm05_portrait2.safetensors",
        513,
        2,
    );
}
