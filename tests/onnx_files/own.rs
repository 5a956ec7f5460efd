//! Networks that this crate exported and reads again.

use crate::{difference, largest, scores};
use atrous::engine::models::{Backbone, Config, ModelCard, PaperHead, random_weights};
use atrous::engine::onnx::{OnnxOptions, export};
use atrous::engine::{Shape, Tensor};
use atrous::image::SizeRule;
use atrous::{Model, Size};

/// Relative to the largest score. The operations are the same, but batch norms may be folded in
/// another order.
const TOLERANCE: f32 = 1e-5;

fn image(size: Size) -> Tensor {
    Tensor::from_fn(Shape::images(1, size, 3), |_, y, x, c| {
        ((7 * y + 13 * x + 5 * c) % 31) as f32 / 16.0 - 1.0
    })
}

/// A small network with padding that does not depend on the size of the image.
fn small(classes: usize) -> Config {
    Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.25").unwrap(), classes)
}

#[test]
fn every_backbone_and_head_comes_back() {
    let plus = |name: &str| Config::deeplab_v3plus(Backbone::named(name).unwrap(), 4);
    let paper = |name, head| Config::paper(Backbone::named(name).unwrap(), head, 4).unwrap();
    // The last ones have TensorFlow's padding, which depends on the size.
    for (name, mut config, is_fixed) in [
        ("MobileNetV2", small(4), false),
        ("MobileNetV3", plus("mobilenet_v3"), false),
        ("ResNet", plus("resnet18"), false),
        ("no decoder", paper("mobilenet_v2_0.25", PaperHead::NoDecoder), true),
        ("separable", paper("mobilenet_v2_0.25", PaperHead::Separable), true),
        ("phone", paper("mobilenet_v2_0.25", PaperHead::Phone), true),
        ("Xception", paper("xception41", PaperHead::Decoder), true),
    ] {
        config.name_classes(&["a", "b", "c", "d"].map(str::to_owned), &[[1; 3]; 4]).unwrap();
        let weights = random_weights(&config, 3).unwrap();
        let size = Size::new(96, 80);
        let own = Model::new(config.clone(), weights.clone(), "own");
        let sizes: &[Option<Size>] = if is_fixed { &[Some(size)] } else { &[None, Some(size)] };
        for &fixed in sizes {
            let options = OnnxOptions { size: fixed, ..OnnxOptions::default() };
            let bytes =
                export(&config, &weights, &options, None).unwrap_or_else(|e| panic!("{name}: {e}"));
            let model =
                Model::from_bytes(bytes, "net.onnx").unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(model.class_table().names[3], "d");
            assert_eq!(model.network.preprocess(), own.network.preprocess());
            let rule = fixed.map_or(SizeRule::Native, SizeRule::Exact);
            assert_eq!(model.default_size(), rule, "{name}");
            let image = image(fixed.unwrap_or(Size::new(97, 65)));
            let ((_, got), (_, want)) = (scores(&model, &image), scores(&own, &image));
            let error = difference(&got, &want) / largest(&want);
            assert!(error < TOLERANCE, "{name}, {fixed:?}: {error:e}");
        }
    }
}

#[test]
fn an_exported_network_can_run_and_nothing_else() {
    let config = small(2);
    let license = Some("MIT".to_owned());
    let card = ModelCard { data: "photos".to_owned(), license, ..ModelCard::default() };
    let weights = random_weights(&config, 3).unwrap();
    let bytes = export(&config, &weights, &OnnxOptions::default(), Some(&card)).unwrap();
    let model = Model::from_bytes(bytes.clone(), "net.onnx").unwrap();
    assert_eq!((model.dialect_name(), model.network.config()), ("onnx", None));
    assert_eq!(model.card, Some(card));
    let error = model.config().unwrap_err().to_string();
    assert!(error.contains("net.onnx") && error.contains("not trained or converted"), "{error}");
    assert!(model.clone().with_output_stride(8).is_err());
    let mut options = atrous::engine::weights::dialects::ReadOptions::default();
    options.statements.rates = Some(vec![1, 2, 3]);
    let error = Model::from_bytes_with(bytes, "net.onnx", options).unwrap_err().to_string();
    assert!(error.contains("`--rates` has no effect"), "{error}");
}

#[test]
fn labels_and_bytes_inside_are_understood() {
    let config = small(3);
    let weights = random_weights(&config, 3).unwrap();
    let own = Model::new(config.clone(), weights.clone(), "own");
    let options = OnnxOptions { argmax: true, preprocessing: true, ..OnnxOptions::default() };
    let bytes = export(&config, &weights, &options, None).unwrap();
    let model = Model::from_bytes(bytes, "net.onnx").unwrap();
    let rgb = (0..64 * 48 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let photo = atrous::image::Image::new(Size::new(64, 48), rgb).unwrap();
    let labels = |model: &Model| {
        let segmenter = atrous::Segmenter::new(model.clone(), &atrous::DeviceChoice::Cpu).unwrap();
        segmenter.segment(&photo, SizeRule::Native).unwrap().labels
    };
    assert_eq!(labels(&model), labels(&own));
}
