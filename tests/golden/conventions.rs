//! Conventions of each code base, defined independently of the dialects: configs from the
//! descriptions in the golden files.

use crate::seeded::Golden;
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::mobilenet_v3::MobileNetV3;
use atrous::engine::models::resnet::{ResNet, Stem, Strided};
use atrous::engine::models::xception::{Xception, XceptionVariant};
use atrous::engine::models::{
    Aspp, Aux, Backbone, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm,
    OutputActivation, PaddingRule, PlusDecoder, Pooling, Preprocessing,
};
use atrous::engine::ops::Threshold;
use atrous::engine::weights::dialects::{
    KernelLayout, Loaded, ReadOptions, StoredWeights, Tensors, expected, find, load,
};

/// Returns the name of the dialect of a case.
pub fn dialect(golden: &Golden) -> &'static str {
    match (golden.text("dialect"), golden.text("head")) {
        ("mmseg", _) => "mmseg",
        ("timm", "none") if golden.text("backbone").starts_with("xception") => "timm",
        ("torchvision" | "timm", "none") => "imagenet",
        ("jfzhang95", _) => "jfzhang95",
        ("torchvision", _) => "torchvision",
        ("smp", _) => "smp",
        ("vainf", _) => "vainf",
        ("tf", _) => "tensorflow",
        ("hf", _) => "huggingface",
        other => panic!("no dialect for {other:?}"),
    }
}

/// Returns the tensors of a file that the network does not use: the ImageNet classifiers.
pub fn unused(golden: &Golden) -> Vec<(String, Vec<usize>)> {
    let (name, inputs) = match (golden.text("head"), golden.text("backbone")) {
        ("none", "mobilenet_v2") => ("classifier.1", 1280),
        ("none", "legacy_seresnet50") => ("last_linear", 2048),
        ("none", name) if name.contains("resne") => ("fc", 2048),
        ("none", "xception41" | "xception65") => ("head.fc", 2048),
        _ => return Vec::new(),
    };
    vec![(format!("{name}.weight"), vec![1000, inputs]), (format!("{name}.bias"), vec![1000])]
}

/// Loads the seeded weights of a case in its dialect, and sets the options that files do not
/// contain.
pub fn load_seeded(golden: &Golden) -> Result<Loaded, String> {
    let text = |e: atrous::Error| e.to_string();
    let config = config(golden);
    let dialect = find(dialect(golden)).map_err(text)?;
    let listed = expected(dialect, &config, KernelLayout::Oihw).map_err(text)?;
    let mut tensors: Vec<_> = listed.into_iter().map(|e| (e.name, e.dims)).collect();
    tensors.extend(unused(golden));
    let mut loaded = load(&golden.weights(tensors)?, ReadOptions::default()).map_err(text)?;
    set_options(&mut loaded.config, &config);
    Ok(loaded)
}

/// Returns the config of a case.
pub fn config(golden: &Golden) -> Config {
    let backbone = golden.text("backbone");
    let classes = golden.number("classes");
    let rates: Vec<usize> =
        serde_json::from_value(golden.config["rates"].clone()).unwrap_or_default();
    let plus = golden.text("head") == "v3+";
    let mut config = match dialect(golden) {
        "torchvision" => torchvision(backbone, classes, &rates),
        "smp" => smp(backbone, plus, golden.config["aspp_separable"] == true, classes, &rates),
        "vainf" => vainf(backbone, plus, classes, &rates),
        "mmseg" => mmseg(golden, plus, classes, &rates),
        "tensorflow" if plus => from_names("tensorflow", tensorflow(backbone, classes)),
        "tensorflow" => phone(golden, 1, false, classes),
        "jfzhang95" => from_names("jfzhang95", jfzhang95(backbone, classes)),
        "timm" => from_names(
            "timm",
            Config::deeplab_v3plus(xception(backbone, XceptionVariant::OutOfPlace), 1)
                .without_head(),
        ),
        "huggingface" => phone(golden, 8, true, classes),
        "imagenet" => imagenet(backbone),
        other => panic!("no conventions for {other}"),
    };
    config.output_stride = golden.number("output_stride");
    config.input_channels = golden.input_shape[1];
    if let Ok(grid) = serde_json::from_value(golden.config["multi_grid"].clone()) {
        config.multi_grid = grid;
    }
    if let (Some(head), true) = (&mut config.head, plus) {
        head.aspp.rates = rates;
    }
    config
}

/// Returns the config that a dialect infers from the names of an approximate config. The
/// conventions of its code are not repeated here: the comparison with PyTorch's values proves them.
fn from_names(dialect: &str, approximate: Config) -> Config {
    let dialect = find(dialect).unwrap();
    let listed = expected(dialect, &approximate, KernelLayout::Oihw).unwrap();
    let tensors = listed.into_iter().map(|e| (e.name, e.dims, Vec::new())).collect();
    dialect.infer(&Tensors::of(&StoredWeights { tensors, ..StoredWeights::default() })).unwrap()
}

fn xception(name: &str, variant: XceptionVariant) -> Backbone {
    let depth = name.trim_start_matches("xception").trim_start_matches('_').parse().unwrap();
    Backbone::Xception(Xception { depth, variant })
}

fn tensorflow(backbone: &str, classes: usize) -> Config {
    let net = match backbone.strip_prefix("resnet_v1_").and_then(|name| name.strip_suffix("_beta"))
    {
        Some(depth) => Backbone::ResNet(ResNet {
            stem: Stem::Beta,
            strided: Strided::Last,
            ..ResNet::new(depth.parse().unwrap()).unwrap()
        }),
        None => xception(backbone, XceptionVariant::OutOfPlace),
    };
    let aspp = Aspp { kind: ConvKind::SeparableNorm, pool_first: true, ..aspp(&[6, 12, 18], 0.1) };
    let Decoder::Plus(plus) = plus_decoder(ConvKind::SeparableNorm, false) else {
        unreachable!("`plus_decoder` returns a decoder")
    };
    let plus = PlusDecoder { low_level: LowLevel::InsideUnit, dropouts: vec![0.0; 2], ..plus };
    base(net, classes, aspp, Decoder::Plus(plus))
}

fn jfzhang95(backbone: &str, classes: usize) -> Config {
    let net = match backbone {
        "xception" => Backbone::Xception(Xception { depth: 65, variant: XceptionVariant::InPlace }),
        "mobilenet_v2" => Backbone::MobileNetV2(MobileNetV2::with_width(1.0, 8)),
        _ => resnet(backbone),
    };
    let Decoder::Plus(plus) = plus_decoder(ConvKind::Plain, false) else {
        unreachable!("`plus_decoder` returns a decoder")
    };
    let plus = PlusDecoder { dropouts: vec![0.5, 0.1], ..plus };
    base(net, classes, aspp(&[6, 12, 18], 0.5), Decoder::Plus(plus))
}

/// Copies the options that files do not contain.
pub fn set_options(config: &mut Config, expected: &Config) {
    config.output_stride = expected.output_stride;
    config.multi_grid.clone_from(&expected.multi_grid);
    if let (Some(head), Some(expected)) = (&mut config.head, &expected.head) {
        head.aspp.rates.clone_from(&expected.aspp.rates);
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
        project_kernel: 1,
    }
}

fn base(backbone: Backbone, classes: usize, aspp: Aspp, decoder: Decoder) -> Config {
    let is_binary = classes == 1;
    Config {
        head: Some(Head {
            classes: classes.max(2),
            activation: if is_binary {
                OutputActivation::Sigmoid
            } else {
                OutputActivation::Softmax
            },
            threshold: Threshold::HALF,
            class_names: Vec::new(),
            class_colors: Vec::new(),
            aspp,
            decoder,
            aux: None,
            align_corners: false,
        }),
        eps: Eps { backbone: 1e-5, head: 1e-5 },
        ..Config::deeplab_v3plus(backbone, classes)
    }
}

/// Returns the config of torchvision's DeepLabv3 with its auxiliary head.
pub fn torchvision(backbone: &str, classes: usize, rates: &[usize]) -> Config {
    let mobilenet = backbone == "mobilenet_v3_large";
    let net = if mobilenet { Backbone::MobileNetV3(MobileNetV3 {}) } else { resnet(backbone) };
    let mut config = base(net, classes, aspp(rates, 0.5), Decoder::Conv);
    config.head.as_mut().unwrap().aux = Some(Aux { dropout: 0.1 });
    config.output_stride = if mobilenet { 16 } else { 8 };
    // Evaluation resizes the shorter side (`references/segmentation/presets.py`).
    config.preprocess.short_side = Some(520);
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
        "tu-mobilenetv3_large_100" => Backbone::MobileNetV3(MobileNetV3 {}),
        _ => variant(backbone.trim_start_matches("tu-")),
    };
    let kind = if separable { ConvKind::Separable } else { ConvKind::Plain };
    let aspp = Aspp { kind, separable_after: plus, ..aspp(rates, 0.5) };
    let decoder = if plus { plus_decoder(ConvKind::Separable, false) } else { Decoder::Conv };
    let mut config = base(net, classes, aspp, decoder);
    config.head.as_mut().unwrap().align_corners = true;
    // timm's encoders (`tu-`) keep its own rule.
    if !backbone.starts_with("tu-") {
        config.dilation = DilationRule::WholeStage;
    }
    config
}

/// Returns a ResNet or one of its variants.
fn variant(name: &str) -> Backbone {
    match name {
        "resnet50c" => Backbone::named("resnet50_v1c").unwrap(),
        "legacy_seresnet50" => Backbone::named("se_resnet50").unwrap(),
        _ => Backbone::named(name).unwrap(),
    }
}

/// Returns the config of mmsegmentation.
fn mmseg(golden: &Golden, plus: bool, classes: usize, rates: &[usize]) -> Config {
    let Backbone::ResNet(net) = variant(golden.text("backbone")) else {
        unreachable!("mmsegmentation's backbones are ResNets")
    };
    let number = |key: &str, default: u64| golden.config[key].as_u64().unwrap_or(default) as usize;
    let channels = number("channels", 512);
    let aspp = Aspp {
        channels,
        kind: if plus { ConvKind::SeparableNorm } else { ConvKind::Plain },
        pool_first: true,
        project_kernel: 3,
        ..aspp(rates, if plus { 0.0 } else { 0.1 })
    };
    let Decoder::Plus(decoder) = plus_decoder(ConvKind::SeparableNorm, false) else {
        unreachable!("`plus_decoder` returns a decoder")
    };
    let low_level_channels = number("low_channels", 48);
    let decoder = PlusDecoder { low_level_channels, channels, dropouts: vec![0.0, 0.1], ..decoder };
    let decoder = if plus { Decoder::Plus(decoder) } else { Decoder::None };
    let net = ResNet { second_undilated: net.depth < 50, ..net };
    let mut config = base(Backbone::ResNet(net), classes, aspp, decoder);
    config.head.as_mut().unwrap().aux = Some(Aux { dropout: 0.1 });
    config.output_stride = 8;
    config
}

fn vainf(backbone: &str, plus: bool, classes: usize, rates: &[usize]) -> Config {
    let mobilenet = backbone == "mobilenet_v2";
    let net = if mobilenet {
        Backbone::MobileNetV2(MobileNetV2::with_width(1.0, 8))
    } else {
        resnet(backbone)
    };
    let decoder = if plus { plus_decoder(ConvKind::Plain, true) } else { Decoder::Conv };
    let mut config = base(net, classes, aspp(rates, 0.1), decoder);
    if mobilenet {
        config.padding = PaddingRule::BeforeExpansion { stem: 0 };
    }
    config
}

/// Returns the config of TensorFlow's mobile network, or of Hugging Face's port of it.
fn phone(golden: &Golden, divisor: usize, hugging_face: bool, classes: usize) -> Config {
    let width = golden.config["width"].as_f64().unwrap();
    let mut net = MobileNetV2::with_width(width, divisor);
    net.last = hugging_face.then_some(1280);
    let aspp = Aspp {
        kind: ConvKind::SeparableNorm,
        pool_first: true,
        ..aspp(&[], if hugging_face { 0.8 } else { 0.1 })
    };
    let mut config = base(Backbone::MobileNetV2(net), classes, aspp, Decoder::None);
    config.padding = PaddingRule::TfSame;
    config.eps = Eps { backbone: 1e-3, head: if hugging_face { 1e-5 } else { 1.001e-5 } };
    config.norm = if golden.text("batch_norm") == "folded" { Norm::Folded } else { Norm::Separate };
    config.head.as_mut().unwrap().align_corners = true;
    config.preprocess = Preprocessing::SYMMETRIC_513;
    config
}

fn imagenet(backbone: &str) -> Config {
    let net = match backbone {
        "mobilenet_v2" => {
            let net = MobileNetV2::with_width(1.0, 8);
            Backbone::MobileNetV2(MobileNetV2 { last: Some(1280), last_is_features: true, ..net })
        }
        _ => variant(backbone),
    };
    Config { output_stride: 32, ..Config::deeplab_v3plus(net, 1).without_head() }
}
