//! What each code base does, stated a second time and apart from the dialects: configs from the golden files' own description.

use crate::seeded::Golden;
use atrous::models::mobilenet_v2::MobileNetV2;
use atrous::models::mobilenet_v3::MobileNetV3;
use atrous::models::{
    Aspp, Aux, Backbone, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm, PaddingRule, PlusDecoder, Pooling,
    Preprocessing,
};

/// Our name of the dialect of a case.
pub fn dialect(golden: &Golden) -> &'static str {
    match (golden.text("dialect"), golden.text("head")) {
        ("torchvision" | "timm", "none") => "imagenet",
        ("torchvision", _) => "torchvision",
        ("smp", _) => "smp",
        ("vainf", _) => "vainf",
        ("tf", _) => "tensorflow",
        ("hf", _) => "huggingface",
        other => panic!("no dialect is known for {other:?}"),
    }
}

/// Tensors of a file that take no part: the classifiers of ImageNet.
pub fn unused(golden: &Golden) -> Vec<(String, Vec<usize>)> {
    let (name, inputs) = match (golden.text("head"), golden.text("backbone")) {
        ("none", "mobilenet_v2") => ("classifier.1", 1280),
        ("none", "resnet50") => ("fc", 2048),
        _ => return Vec::new(),
    };
    vec![(format!("{name}.weight"), vec![1000, inputs]), (format!("{name}.bias"), vec![1000])]
}

/// The config of a case.
pub fn config(golden: &Golden) -> Config {
    let backbone = golden.text("backbone");
    let classes = golden.number("classes");
    let rates: Vec<usize> = serde_json::from_value(golden.config["rates"].clone()).unwrap_or_default();
    let plus = golden.text("head") == "v3+";
    let mut config = match dialect(golden) {
        "torchvision" => torchvision(backbone, classes, &rates),
        "smp" => smp(backbone, plus, golden.config["aspp_separable"] == true, classes, &rates),
        "vainf" => vainf(backbone, plus, classes, &rates),
        "tensorflow" => phone(golden, 1, false, classes),
        "huggingface" => phone(golden, 8, true, classes),
        "imagenet" => imagenet(backbone),
        other => panic!("no conventions are stated for {other}"),
    };
    config.output_stride = golden.number("output_stride");
    config.input_channels = golden.input_shape[1];
    config
}

/// Takes over what no file tells.
pub fn set_options(config: &mut Config, wanted: &Config) {
    config.output_stride = wanted.output_stride;
    if let (Some(head), Some(wanted)) = (&mut config.head, &wanted.head) {
        head.aspp.rates.clone_from(&wanted.aspp.rates);
    }
}

fn resnet(name: &str) -> Backbone {
    Backbone::resnet(name.trim_start_matches("resnet").parse().unwrap()).unwrap()
}

fn aspp(rates: &[usize], dropout: f32) -> Aspp {
    Aspp {
        channels: 256,
        rates: rates.to_vec(),
        kind: ConvKind::Plain,
        pooling: Pooling::Global,
        pool_first: false,
        dropout,
        separable_after: false,
    }
}

fn base(backbone: Backbone, classes: usize, aspp: Aspp, decoder: Decoder) -> Config {
    Config {
        head: Some(Head { classes, class_names: Vec::new(), aspp, decoder, aux: None, align_corners: false }),
        eps: Eps { backbone: 1e-5, head: 1e-5 },
        ..Config::deeplab_v3plus(backbone, classes)
    }
}

/// torchvision's DeepLabv3 with its auxiliary head.
pub fn torchvision(backbone: &str, classes: usize, rates: &[usize]) -> Config {
    let mobilenet = backbone == "mobilenet_v3_large";
    let net = if mobilenet { Backbone::MobileNetV3(MobileNetV3 {}) } else { resnet(backbone) };
    let mut config = base(net, classes, aspp(rates, 0.5), Decoder::Conv);
    config.head.as_mut().unwrap().aux = Some(Aux { dropout: 0.1 });
    config.output_stride = if mobilenet { 16 } else { 8 };
    if mobilenet {
        config.eps.backbone = 1e-3;
        config.dilation = DilationRule::WholeStage;
    }
    config
}

fn plus_decoder(kind: ConvKind, low_level_first: bool) -> Decoder {
    Decoder::Plus(PlusDecoder {
        low_level: LowLevel::Stage,
        low_level_channels: 48,
        channels: 256,
        kind,
        dropouts: vec![0.0],
        low_level_first,
    })
}

fn smp(backbone: &str, plus: bool, separable: bool, classes: usize, rates: &[usize]) -> Config {
    let net = match backbone {
        "mobilenet_v2" => {
            let net = MobileNetV2::with_width(1.0, 8);
            Backbone::MobileNetV2(MobileNetV2 { last: Some(1280), last_is_features: true, ..net })
        }
        _ => resnet(backbone),
    };
    let kind = if separable { ConvKind::Separable } else { ConvKind::Plain };
    let aspp = Aspp { kind, separable_after: plus, ..aspp(rates, 0.5) };
    let decoder = if plus { plus_decoder(ConvKind::Separable, false) } else { Decoder::Conv };
    let mut config = base(net, classes, aspp, decoder);
    config.head.as_mut().unwrap().align_corners = true;
    config.dilation = DilationRule::WholeStage;
    config
}

fn vainf(backbone: &str, plus: bool, classes: usize, rates: &[usize]) -> Config {
    let mobilenet = backbone == "mobilenet_v2";
    let net = if mobilenet { Backbone::MobileNetV2(MobileNetV2::with_width(1.0, 8)) } else { resnet(backbone) };
    let decoder = if plus { plus_decoder(ConvKind::Plain, true) } else { Decoder::Conv };
    let mut config = base(net, classes, aspp(rates, 0.1), decoder);
    if mobilenet {
        config.padding = PaddingRule::BeforeExpansion { stem: 0 };
    }
    config
}

/// TensorFlow's network for phones, and Hugging Face's rendering of it.
fn phone(golden: &Golden, divisor: usize, hugging_face: bool, classes: usize) -> Config {
    let width = golden.config["width"].as_f64().unwrap();
    let mut net = MobileNetV2::with_width(width, divisor);
    net.last = hugging_face.then_some(1280);
    let aspp = Aspp { kind: ConvKind::SeparableNorm, pool_first: true, ..aspp(&[], if hugging_face { 0.8 } else { 0.1 }) };
    let mut config = base(Backbone::MobileNetV2(net), classes, aspp, Decoder::None);
    config.padding = PaddingRule::TfSame;
    config.eps = Eps { backbone: 1e-3, head: if hugging_face { 1e-5 } else { 1.001e-5 } };
    config.norm = if golden.text("batch_norm") == "folded" { Norm::Folded } else { Norm::Separate };
    config.head.as_mut().unwrap().align_corners = true;
    config.preprocess = Preprocessing::TENSORFLOW;
    config
}

fn imagenet(backbone: &str) -> Config {
    let net = match backbone {
        "mobilenet_v2" => {
            let net = MobileNetV2::with_width(1.0, 8);
            Backbone::MobileNetV2(MobileNetV2 { last: Some(1280), last_is_features: true, ..net })
        }
        _ => resnet(backbone),
    };
    Config { output_stride: 32, ..Config::deeplab_v3plus(net, 1).without_head() }
}
