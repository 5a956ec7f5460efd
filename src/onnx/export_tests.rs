//! The structure of exported models. That they compute the same is checked with other engines
//! (`tests/golden/onnx_check.py`).

use super::proto::{DimensionValue, ModelProto, TensorProto};
use super::{OnnxOptions, export};
use crate::geometry::Size;
use crate::models::{Backbone, Config, OutputActivation, PaperHead, random_weights};
use prost::Message;
use std::collections::HashSet;

fn model(config: &Config, options: OnnxOptions) -> ModelProto {
    let weights = random_weights(config, 1).unwrap();
    let bytes = export(config, &weights, &options, None).unwrap();
    ModelProto::decode(bytes.as_slice()).unwrap()
}

fn small() -> Config {
    Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.1").unwrap(), 5)
}

fn elements(tensor: &TensorProto) -> usize {
    tensor.dims.iter().map(|&n| n as usize).product()
}

/// Every value is written once, before it is read, and the constants have as many elements as their
/// dimensions say.
#[track_caller]
fn check(what: &str, model: &ModelProto) {
    let graph = model.graph.as_ref().unwrap();
    let mut known: HashSet<&str> = HashSet::from([""]);
    for info in &graph.input {
        assert!(known.insert(&info.name), "{what}: {}", info.name);
    }
    for tensor in &graph.initializer {
        assert!(known.insert(&tensor.name), "{what}: {} twice", tensor.name);
        let size = if tensor.data_type == super::proto::INT64 { 8 } else { 4 };
        assert_eq!(tensor.raw_data.len(), size * elements(tensor), "{what}: {}", tensor.name);
    }
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{what}: {} reads {input}", node.name);
        }
        for output in &node.output {
            assert!(known.insert(output), "{what}: {output} twice");
        }
    }
    for info in &graph.output {
        assert!(known.contains(info.name.as_str()), "{what}: {}", info.name);
    }
}

fn dimensions(model: &ModelProto, output: bool) -> (String, Vec<String>) {
    let graph = model.graph.as_ref().unwrap();
    let info = if output { &graph.output[0] } else { &graph.input[0] };
    let shape = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref();
    let text = |value: &Option<DimensionValue>| match value.as_ref().unwrap() {
        DimensionValue::Number(n) => n.to_string(),
        DimensionValue::Name(name) => name.clone(),
    };
    (info.name.clone(), shape.unwrap().dim.iter().map(|d| text(&d.value)).collect())
}

#[test]
fn models_of_all_families_are_consistent() {
    let fixed = OnnxOptions { batch: Some(2), size: Some(Size::new(97, 65)), ..Default::default() };
    for name in ["mobilenet_v2_0.1", "mobilenet_v3", "resnet18", "resnet50_beta", "xception41"] {
        let backbone = Backbone::named(name).unwrap();
        let config = Config::deeplab_v3plus(backbone.clone(), 5);
        check(name, &model(&config, fixed));
        check(name, &model(&config.clone().without_head(), fixed));
        for head in [PaperHead::NoDecoder, PaperHead::Separable] {
            check(name, &model(&Config::paper(backbone.clone(), head, 5).unwrap(), fixed));
        }
    }
}

#[test]
fn sizes_can_be_fixed_or_open() {
    let options = OnnxOptions::default();
    let open = model(&small(), options);
    check("open", &open);
    let [input, output] = [false, true].map(|output| dimensions(&open, output));
    assert_eq!(
        input,
        ("input".to_owned(), ["batch", "3", "height", "width"].map(String::from).into())
    );
    assert_eq!(
        output,
        ("logits".to_owned(), ["batch", "5", "height", "width"].map(String::from).into())
    );
    let options = OnnxOptions {
        batch: Some(1),
        size: Some(Size::new(64, 48)),
        argmax: true,
        preprocessing: true,
    };
    let fixed = model(&small(), options);
    check("fixed", &fixed);
    let [input, output] = [false, true].map(|output| dimensions(&fixed, output));
    assert_eq!(input, ("image".to_owned(), ["1", "48", "64", "3"].map(String::from).into()));
    assert_eq!(output, ("labels".to_owned(), ["1", "1", "48", "64"].map(String::from).into()));
}

#[test]
fn one_output_with_a_sigmoid_has_labels() {
    let mut config = small();
    config.head.as_mut().unwrap().classes = 1;
    config.head.as_mut().unwrap().set_activation(OutputActivation::Sigmoid).unwrap();
    for argmax in [false, true] {
        let model = model(&config, OnnxOptions { argmax, ..OnnxOptions::default() });
        check("binary", &model);
        assert_eq!(dimensions(&model, true).1[1], "1");
    }
}

#[test]
fn padding_that_depends_on_the_size_needs_a_fixed_one() {
    let backbone = Backbone::named("mobilenet_v2_0.1").unwrap();
    let config = Config::paper(backbone, PaperHead::Phone, 5).unwrap();
    let weights = random_weights(&config, 1).unwrap();
    let error = export(&config, &weights, &OnnxOptions::default(), None).unwrap_err().to_string();
    assert!(error.contains("depends on the size") && error.contains("fixed size"), "{error}");
}

#[test]
fn the_metadata_has_the_config() {
    let model = model(&small(), OnnxOptions::default());
    let config = model.metadata_props.iter().find(|p| p.key == crate::models::CONFIG_KEY).unwrap();
    assert_eq!(Config::from_json(&config.value).unwrap(), small());
}
