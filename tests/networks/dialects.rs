//! Loading and writing weights in each dialect: detection, errors, and lossless round trips.

use crate::support;
use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::graph::{ParamRef, Part, Weights};
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::mobilenet_v3::MobileNetV3;
use atrous::engine::models::resnet::{ResNet, Stem};
use atrous::engine::models::xception::{Xception, XceptionVariant};
use atrous::engine::models::{
    Aux, Backbone, Config, ConvKind, Decoder, DilationRule, Head, LowLevel, Norm, PadRule,
    PaddingRule, PlusDecoder, Pooling, build, parameters,
};
use atrous::engine::weights::WeightFile;
use atrous::engine::weights::dialects::{
    DIALECTS, Dialect, KernelLayout, NATIVE, ReadOptions, Source, StoredWeights, Tensors, expected,
    find, identify, load, store,
};
use atrous::engine::{Shape, Tensor};
use atrous::{ErrorKind, Model};

/// Returns weights that differ between elements, parameters and seeds, with positive variances.
pub fn seeded_weights(config: &Config, seed: usize) -> Weights {
    let parameters = parameters(config).unwrap().into_iter().enumerate();
    let weights = parameters.map(|(k, (info, shape))| {
        let min = if info.role.part == Part::RunningVar { 1.0 } else { -500.0 };
        let value = |i: usize| ((i * 7 + k * 131 + seed * 17) % 1009) as f32 + min;
        let data = (0..shape.len()).map(value).collect();
        (info.name, ParamRef::new(Tensor::new(shape, data).unwrap()))
    });
    weights.collect()
}

fn weights(config: &Config) -> Weights {
    seeded_weights(config, 0)
}

/// Returns the dialect with a name.
fn named(name: &str) -> &'static dyn Dialect {
    find(name).unwrap()
}

/// Returns a small network with the conventions of `dialect`: the config that the dialect infers
/// from the names and dimensions of an approximate config.
pub fn network(dialect: &str) -> Config {
    let narrow = |divisor| MobileNetV2::with_width(0.25, divisor);
    let mobilenet = Backbone::MobileNetV2(narrow(8));
    let approximate = match dialect {
        "atrous" => Config::deeplab_v3plus(Backbone::resnet(18).unwrap(), 5),
        "tensorflow" => {
            with_decoder(Config::deeplab_v3plus(Backbone::MobileNetV2(narrow(1)), 5), |plus| {
                plus.low_level = LowLevel::InsideUnit;
                plus.kind = ConvKind::SeparableNorm;
            })
        }
        "torchvision" => {
            with_head(Config::deeplab_v3plus(Backbone::MobileNetV3(MobileNetV3 {}), 5), |head| {
                head.decoder = Decoder::Conv;
                head.aux = Some(Aux { dropout: 0.1 });
            })
        }
        "smp" => {
            let net = MobileNetV2 { last: Some(64), last_is_features: true, ..narrow(8) };
            let config =
                with_decoder(Config::deeplab_v3plus(Backbone::MobileNetV2(net), 5), |plus| {
                    plus.kind = ConvKind::Separable;
                    plus.dropouts = vec![0.0];
                });
            with_head(config, |head| head.aspp.separable_after = true)
        }
        "vainf" => {
            with_decoder(Config::deeplab_v3plus(mobilenet, 5), |plus| plus.dropouts = vec![0.0])
        }
        "huggingface" => with_head(Config::deeplab_v3plus(mobilenet, 5), |head| {
            head.aspp.rates.clear();
            head.decoder = Decoder::None;
        }),
        "jfzhang95" => with_decoder(Config::deeplab_v3plus(mobilenet, 5), |plus| {
            plus.dropouts = vec![0.5, 0.1]
        }),
        "mmseg" => {
            let net =
                ResNet { stem: Stem::V1c, second_undilated: true, ..ResNet::new(18).unwrap() };
            let config = with_decoder(Config::deeplab_v3plus(Backbone::ResNet(net), 5), |plus| {
                plus.kind = ConvKind::SeparableNorm;
            });
            with_head(config, |head| {
                head.aspp.kind = ConvKind::SeparableNorm;
                head.aspp.channels = 128;
                head.aspp.project_kernel = 3;
                head.aux = Some(Aux { dropout: 0.1 });
            })
        }
        "timm" => Config::deeplab_v3plus(Backbone::MobileNetV3(MobileNetV3 {}), 5).without_head(),
        "imagenet" => Config::deeplab_v3plus(mobilenet, 5).without_head(),
        other => panic!("define a small network of dialect `{other}` here"),
    };
    if dialect == "atrous" {
        return approximate;
    }
    let config = infer(dialect, &approximate);
    config.validate().unwrap();
    config
}

/// Returns a small network of SMP with SMP's own encoder, which dilates whole stages: that of
/// [`network`] is timm's.
pub fn smp_with_its_own_encoder() -> Config {
    infer("smp", &Config { dilation: DilationRule::WholeStage, ..network("smp") })
}

/// Returns the config that a dialect infers from the names and dimensions of another config.
fn infer(dialect: &str, approximate: &Config) -> Config {
    let dialect = named(dialect);
    let listed = expected(dialect, approximate, KernelLayout::Oihw).unwrap();
    let tensors = listed.into_iter().map(|e| (e.name, e.dims, Vec::new())).collect();
    dialect.infer(&Tensors::of(&StoredWeights { tensors, ..StoredWeights::default() })).unwrap()
}

fn with_head(mut config: Config, change: impl FnOnce(&mut Head)) -> Config {
    change(config.head.as_mut().unwrap());
    config
}

fn with_decoder(config: Config, change: impl FnOnce(&mut PlusDecoder)) -> Config {
    with_head(config, |head| match &mut head.decoder {
        Decoder::Plus(plus) => change(plus),
        _ => unreachable!("`deeplab_v3plus` has a decoder"),
    })
}

fn same(a: &Weights, b: &Weights) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((n, a), (m, b))| n == m && a.tensor() == b.tensor())
}

fn error(source: &dyn Source, options: ReadOptions) -> String {
    let error = load(source, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights, "{error}");
    error.to_string()
}

#[test]
fn every_dialect_reads_back_what_it_writes() {
    for dialect in DIALECTS {
        let config = network(dialect.name());
        let weights = weights(&config);
        let mut stored = store(&config, &weights, *dialect).unwrap();
        for with_metadata in [true, false] {
            if !with_metadata && dialect.name() != "atrous" {
                stored.metadata.clear();
            }
            let loaded = load(&stored, ReadOptions::default())
                .unwrap_or_else(|e| panic!("{}: {e}", dialect.name()));
            assert_eq!(loaded.dialect, *dialect);
            assert_eq!(loaded.config, config, "{}", dialect.name());
            assert!(same(&loaded.weights, &weights), "{}", dialect.name());
        }
    }
}

#[test]
fn options_that_names_do_not_determine_survive_in_the_metadata() {
    let mut config = network("smp").with_output_stride(8).unwrap();
    let head = config.head.as_mut().unwrap();
    head.class_names = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
    head.class_colors = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]].to_vec();
    head.aspp.rates = vec![6, 12, 18];
    config.preprocess.size = Some(513);
    config.preprocess.pad = PadRule::Square;
    let loaded =
        load(&store(&config, &weights(&config), named("smp")).unwrap(), ReadOptions::default())
            .unwrap();
    assert_eq!(loaded.config, config);
}

#[test]
fn missing_misshapen_and_unexpected_tensors_are_reported_together() {
    let config = network("vainf");
    let mut stored = store(&config, &weights(&config), named("vainf")).unwrap();
    stored.metadata.clear();
    stored.tensors.retain(|(name, ..)| name != "classifier.project.1.running_var");
    for (name, dims, data) in &mut stored.tensors {
        if name == "classifier.aspp.project.1.bias" {
            *dims = vec![data.len() - 1];
            data.pop();
        }
    }
    stored.tensors.push(("surprise".into(), vec![1], vec![0.0]));
    stored.tensors.push(("classifier.project.1.num_batches_tracked".into(), vec![], vec![0.0]));
    let text = error(&stored, ReadOptions::default());
    for part in [
        "1 missing: classifier.project.1.running_var",
        "1 misshapen: classifier.aspp.project.1.bias (expected [256], got [255])",
        "1 unexpected: surprise",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("num_batches_tracked"), "{text}");
}

#[test]
fn a_negative_running_variance_is_refused_with_its_tensor_in_every_dialect() {
    for dialect in DIALECTS {
        let config = network(dialect.name());
        let mut stored = store(&config, &weights(&config), *dialect).unwrap();
        let is_variance =
            |name: &str| ["running_var", "moving_variance"].iter().any(|part| name.ends_with(part));
        // The error names whichever is read first.
        for (name, _, data) in &mut stored.tensors {
            if is_variance(name) {
                data[1] = -0.25;
            }
        }
        let text = error(&stored, ReadOptions::default());
        let named = text.split('`').nth(1).unwrap_or_default();
        assert!(is_variance(named) && text.contains("down to -0.25"), "{}: {text}", dialect.name());
    }
}

#[test]
fn the_default_size_is_the_preset_of_the_code_base() {
    for (dialect, size) in [
        ("torchvision", "short:520"),
        ("jfzhang95", "short:513"),
        ("tensorflow", "513"),
        ("huggingface", "513"),
        ("smp", "native"),
        ("vainf", "native"),
        ("atrous", "native"),
    ] {
        let config = network(dialect);
        let model = Model {
            dialect: Some(named(dialect)),
            ..Model::new(config, Weights::new(), "a.safetensors")
        };
        assert_eq!(model.default_size().to_string(), size, "{dialect}");
        // `import` preserves it.
        let config = Config::from_json(&model.config().unwrap().to_json()).unwrap();
        assert_eq!(
            Model { network: config.into(), ..model }.default_size().to_string(),
            size,
            "{dialect}, imported"
        );
    }
}

#[test]
fn a_wrong_number_of_classes_is_an_error_before_reading() {
    let config = network("huggingface");
    let mut stored = store(&config, &weights(&config), named("huggingface")).unwrap();
    for (.., data) in &mut stored.tensors {
        // Reading any of them would fail.
        data.clear();
    }
    let text = error(&stored, ReadOptions { classes: Some(21), ..ReadOptions::default() });
    assert!(text.contains("expected 21 classes, the weights have 5"), "{text}");
}

#[test]
fn names_of_no_dialect_are_an_error() {
    let stored = StoredWeights {
        tensors: vec![("some.weight".into(), vec![1], vec![1.0])],
        ..StoredWeights::default()
    };
    assert!(error(&stored, ReadOptions::default()).contains("no known dialect: `some.weight`"));
}

#[test]
fn names_with_common_prefixes_are_read() {
    let config = network("smp");
    let weights = weights(&config);
    let mut stored = store(&config, &weights, named("smp")).unwrap();
    for (name, ..) in &mut stored.tensors {
        *name = format!("model.module.{name}");
    }
    let loaded = load(&stored, ReadOptions::default()).unwrap();
    assert_eq!((loaded.dialect.name(), &loaded.config), ("smp", &config));
    assert!(same(&loaded.weights, &weights));
}

#[test]
fn native_names_without_metadata_are_an_error() {
    let config = network("atrous");
    let mut stored = store(&config, &weights(&config), NATIVE).unwrap();
    stored.metadata.clear();
    assert!(error(&stored, ReadOptions::default()).contains("atrous.config"));
}

#[test]
fn a_dialect_rejects_weights_that_its_code_would_run_differently() {
    let config = network("vainf");
    let weights = weights(&config);
    let mut other = config.clone();
    other.dilation = DilationRule::WholeStage;
    other.eps.backbone = 1e-3;
    let text = store(&other, &weights, named("vainf")).unwrap_err().to_string();
    let difference = "dilation (\"whole_stage\" here, \"after_stride\" in the dialect)";
    assert!(text.contains(difference), "{text}");
    assert!(text.contains("eps.backbone"), "{text}");
    let text = store(&config, &weights, named("torchvision")).unwrap_err().to_string();
    assert!(text.contains("`torchvision` has no name for"), "{text}");
}

#[test]
fn jfzhang95s_second_copy_of_mobilenet_is_written_and_ignored() {
    let config = network("jfzhang95");
    assert_eq!(config.padding, PaddingRule::BeforeExpansion { stem: 1 });
    let weights = weights(&config);
    let mut stored = store(&config, &weights, named("jfzhang95")).unwrap();
    stored.metadata.clear();
    let data =
        |name: &str| stored.tensors.iter().find(|(n, ..)| n == name).map(|(.., data)| data.clone());
    let backbone = config.clone().without_head();
    let copies =
        stored.tensors.iter().filter(|(name, ..)| name.starts_with("backbone.features.")).count();
    assert_eq!(copies, parameters(&backbone).unwrap().len());
    assert_eq!(
        data("backbone.features.17.conv.6.weight"),
        data("backbone.high_level_features.17.conv.6.weight")
    );
    for (name, _, data) in &mut stored.tensors {
        if name.starts_with("backbone.features.") {
            data.fill(f32::NAN);
        }
    }
    assert!(same(&load(&stored, ReadOptions::default()).unwrap().weights, &weights));
}

#[test]
fn a_large_tensorflow_network_is_written_with_its_flags() {
    let net = Xception::new(41).unwrap();
    let approximate = with_decoder(Config::deeplab_v3plus(Backbone::Xception(net), 5), |plus| {
        plus.low_level = LowLevel::InsideUnit;
        plus.kind = ConvKind::SeparableNorm;
    });
    let inferred = infer("tensorflow", &approximate);
    assert_eq!(inferred.backbone, approximate.backbone);
    let window = Pooling::Window { crop: Size::square(513), stride: Spacing::ONE };
    let config = with_head(Config { multi_grid: vec![1, 2, 4], ..inferred }, |head| {
        head.aspp.pooling = window
    });
    let weights = weights(&config);
    let stored = store(&config, &weights, named("tensorflow")).unwrap();
    let loaded = load(&stored, ReadOptions::default()).unwrap();
    assert_eq!(loaded.config, config);
    assert!(same(&loaded.weights, &weights));
    // TensorFlow does not have this variant under these names.
    let in_place = Backbone::Xception(Xception { variant: XceptionVariant::InPlace, ..net });
    let text = store(&Config { backbone: in_place, ..config }, &weights, named("tensorflow"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("backbone.xception.variant"), "{text}");
}

#[test]
fn variants_of_known_backbones_are_rejected_by_name() {
    // EfficientNet-B0 has timm's names with other numbers of blocks; jfzhang95's DRN has layer1 to
    // layer8 of basic blocks.
    let blocks = |stages: [usize; 7]| {
        let names = stages
            .into_iter()
            .enumerate()
            .flat_map(|(i, n)| (0..n).map(move |j| format!("blocks.{i}.{j}.conv_dw.weight")));
        names.chain(["conv_stem.weight".to_owned()])
    };
    let drn = [
        "aspp.aspp1.atrous_conv.weight",
        "backbone.layer1.0.conv1.weight",
        "backbone.layer8.0.conv1.weight",
    ];
    for (names, message) in [
        (blocks([1, 2, 2, 3, 3, 4, 1]).collect::<Vec<_>>(), "[1, 2, 2, 3, 3, 4, 1] blocks"),
        (drn.map(String::from).to_vec(), "DRN is not"),
        (
            vec![
                "blocks.0.stack.conv1.conv_dw.weight".to_owned(),
                "blocks.19.stack.conv1.conv_dw.weight".to_owned(),
            ],
            "unsupported Xception with 20 units",
        ),
    ] {
        let tensors = names.into_iter().map(|name| (name, vec![1], vec![0.0])).collect();
        let text =
            error(&StoredWeights { tensors, ..StoredWeights::default() }, ReadOptions::default());
        assert!(text.contains(message), "{text}");
    }
}

#[test]
fn tensorflow_checkpoints_are_read_in_their_own_order_with_averages_first() {
    let config = network("tensorflow");
    let weights = weights(&config);
    let listed = expected(find("tensorflow").unwrap(), &config, KernelLayout::Hwio).unwrap();
    let mut tensors = vec![("global_step".to_owned(), vec![], vec![30000.0])];
    for e in listed {
        let data = KernelLayout::Hwio.write(weights[&e.native_name].tensor(), e.part).unwrap();
        let invalid = vec![-1.0; data.len()];
        if e.name.contains("/BatchNorm/moving_") {
            tensors.push((e.name, e.dims, data));
            continue;
        }
        for suffix in ["", "/Momentum"] {
            tensors.push((format!("{}{suffix}", e.name), e.dims.clone(), invalid.clone()));
        }
        tensors.push((format!("{}/ExponentialMovingAverage", e.name), e.dims, data));
    }
    let loaded =
        load(&StoredWeights { tensors, ..StoredWeights::default() }, ReadOptions::default())
            .unwrap();
    assert_eq!(loaded.config, config);
    assert!(same(&loaded.weights, &weights));
}

#[test]
fn smps_old_names_of_deeplabv3_are_read() {
    let config = network("smp");
    let config = with_head(config, |head| {
        head.decoder = Decoder::Conv;
        head.aspp.separable_after = false;
    })
    .with_output_stride(8)
    .unwrap();
    let config = with_head(config, |head| head.aspp.rates = vec![12, 24, 36]);
    let weights = weights(&config);
    let mut stored = store(&config, &weights, named("smp")).unwrap();
    stored.metadata.clear();
    for (name, ..) in &mut stored.tensors {
        for (new, old) in [
            ("decoder.aspp.", "decoder.0."),
            ("decoder.conv.", "decoder.1."),
            ("decoder.bn.", "decoder.2."),
        ] {
            if let Some(rest) = name.strip_prefix(new) {
                *name = format!("{old}{rest}");
                break;
            }
        }
    }
    assert!(stored.tensors.iter().any(|(name, ..)| name.starts_with("decoder.2.")));
    let loaded = load(&stored, ReadOptions::default()).unwrap();
    assert_eq!(loaded.config, config);
    assert!(same(&loaded.weights, &weights));
}

#[test]
#[cfg_attr(not(has_data), ignore = "needs the data directory (ATROUS_DATA)")]
fn the_weights_directory_is_read() {
    let data = support::data();
    for (name, dialect, classes, count, norm) in [
        ("deeplabv3_mnv2_dm05_voc21", "tensorflow", Some(21), 688_357, Norm::Folded),
        ("deeplabv3_mnv2_voc21", "tensorflow", Some(21), 2_097_013, Norm::Folded),
        ("deeplabv3_mnv2_dm05_portrait2", "tensorflow", Some(2), 709_442, Norm::Separate),
        // Without the classifier of 1280 x 1000 + 1000.
        ("mobilenetv2_imagenet1k", "imagenet", None, 3_538_984 - 1_281_000, Norm::Separate),
    ] {
        let file =
            WeightFile::open(data.join("weights").join(format!("{name}.safetensors"))).unwrap();
        let loaded = load(&file, ReadOptions { classes, ..ReadOptions::default() }).unwrap();
        assert_eq!(
            (loaded.dialect.name(), loaded.config.classes(), loaded.config.norm),
            (dialect, classes, norm)
        );
        assert_eq!(
            loaded.weights.values().map(|w| w.shape().len()).sum::<usize>(),
            count,
            "{name}"
        );
        let mut graph = build(&loaded.config, Shape::new(1, 65, 65, 3)).unwrap();
        graph.bind(&loaded.weights).unwrap();
        if dialect == "tensorflow" {
            assert_eq!(loaded.config.padding, PaddingRule::TfSame);
            let tensors = Tensors::of(&file);
            assert!(
                identify(&tensors, &ReadOptions { classes: Some(3), ..ReadOptions::default() })
                    .is_err()
            );
        }
    }
}
