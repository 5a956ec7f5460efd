//! Graphs and TFLite files that TensorFlow wrote, compared with TensorFlow's logits.

use crate::{difference, expected, golden, logits, normalized, unpack};
use atrous::Model;
use atrous::engine::models::{ConvKind, Decoder, Norm, PadRule, Pooling};
use atrous::engine::weights::{WeightFile, WeightFormat};

/// Tolerance of logits with a standard deviation of about 1. Both programs sum up to 960 products per
/// value in f32, over some 60 layers.
const TOLERANCE: f32 = 1e-3;

#[test]
fn a_frozen_graph_states_its_network() {
    let expected = expected();
    let model = Model::open(golden("graph.tar.gz")).unwrap();
    let config = model.config().unwrap();
    let head = config.head.as_ref().unwrap();
    assert_eq!((config.output_stride, config.norm), (8, Norm::Separate));
    assert_eq!((head.classes, head.align_corners), (3, true));
    assert_eq!((&head.aspp.rates[..], head.aspp.kind), (&[2, 4, 6][..], ConvKind::SeparableNorm));
    assert_eq!((head.aspp.pooling, head.aspp.pool_first), (Pooling::Global, true));
    assert!(matches!(&head.decoder, Decoder::Plus(plus) if plus.dropouts.len() == 2));
    assert_eq!((config.eps.backbone, config.eps.head), (1e-3, 1.001e-5));
    // The image of the graph is no square.
    let preprocess = config.preprocess;
    assert_eq!((preprocess.size, preprocess.pad), (Some(41), PadRule::None));
    assert_eq!((preprocess.mean, preprocess.std), ([0.5; 3], [0.5; 3]));
    let result = logits(&model, &normalized(&expected["image.graph"]));
    let largest = difference(&result, &expected["graph"].data);
    assert!(largest <= TOLERANCE, "{largest}");
}

#[test]
fn an_archive_says_what_was_used_of_it() {
    let file = WeightFile::open(golden("graph.tar.gz")).unwrap();
    assert_eq!(file.format(), WeightFormat::TensorFlowGraph);
    let note = &file.notes()[0];
    assert!(
        note.contains("frozen_inference_graph.pb") && note.contains("not its checkpoint"),
        "{note}"
    );
}

#[test]
fn a_frozen_graph_of_any_size_states_its_network() {
    let expected = expected();
    let model = Model::open(golden("dynamic.tar.gz")).unwrap();
    assert_eq!(model.config().unwrap().output_stride, 16);
    assert_eq!(model.config().unwrap().head.as_ref().unwrap().aspp.rates, [1, 2, 3]);
    let result = logits(&model, &normalized(&expected["image.dynamic"]));
    let largest = difference(&result, &expected["dynamic"].data);
    assert!(largest <= TOLERANCE, "{largest}");
}

/// Compares a TFLite file with the logits of TensorFlow's interpreter, and a kernel with the
/// interpreter's, exactly.
fn check_lite(mode: &str) {
    let expected = expected();
    let path = golden(&format!("lite_{mode}.tar.gz"));
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.format(), WeightFormat::TfLite);
    // [1, 1, in, out] here, the first few of [out, 1, 1, in] there.
    let (dims, kernel) = file.read_f32("concat_projection/weights").unwrap();
    let stored = &expected[&format!("kernel.{mode}")];
    let [filters, 1, 1, inputs] = stored.dims[..] else { panic!("{:?}", stored.dims) };
    let outputs = dims[3];
    assert_eq!(dims[..3], [1, 1, inputs]);
    for (i, &value) in stored.data.iter().enumerate() {
        let (filter, input) = (i / inputs, i % inputs);
        assert!(filter < filters && value == kernel[input * outputs + filter], "{i}: {value}");
    }
    let model = Model::open(&path).unwrap();
    assert_eq!(model.config().unwrap().norm, Norm::Folded);
    assert_eq!(model.config().unwrap().output_stride, 8);
    let result = logits(&model, &normalized(&expected["image.graph"]));
    let largest = difference(&result, &expected[&format!("lite.{mode}")].data);
    assert!(largest <= TOLERANCE, "{mode}: {largest}");
    let raw = unpack(&format!("lite_{mode}.tar.gz")).remove("model.tflite").unwrap();
    let raw = Model::from_bytes(raw, "model.tflite").unwrap();
    assert_eq!(raw.config().unwrap(), model.config().unwrap());
}

#[test]
fn float16_tflite_has_the_interpreters_logits() {
    check_lite("float16");
}

/// The expected logits are the interpreter's with activations in f32, as here.
#[test]
fn tflite_with_8_bit_kernels_is_dequantized_per_channel_and_per_tensor() {
    check_lite("per_channel");
    check_lite("per_tensor");
}

#[test]
fn entirely_quantized_tflite_has_its_kernels_dequantized() {
    check_lite("int8");
}

/// TensorFlow's tool does not fold the norms of atrous convolutions.
#[test]
fn a_graph_with_some_of_its_norms_folded_has_the_same_logits() {
    let expected = expected();
    let path = golden("optimized.tar.gz");
    let notes = WeightFile::open(&path).unwrap().notes().join("\n");
    assert!(notes.contains("batch norms are folded"), "{notes}");
    let model = Model::open(&path).unwrap();
    assert_eq!(model.config().unwrap().norm, Norm::Separate);
    let result = logits(&model, &normalized(&expected["image.graph"]));
    let largest = difference(&result, &expected["graph"].data);
    assert!(largest <= TOLERANCE, "{largest}");
}
