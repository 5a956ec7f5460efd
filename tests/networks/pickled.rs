//! Pickled modules (`torch.save(model)`): what they state about a network, and what the caller
//! states otherwise.

use crate::support::models::random_weights;
use atrous::engine::models::{Config, OutputActivation, PaddingRule};
use atrous::engine::weights::LayerAttributes;
use atrous::engine::weights::dialects::{
    Dialect, Loaded, ReadOptions, Source, StoredWeights, find, load, store,
};
use atrous::engine::weights::statements::{Property, StatedBy, Statements};
use std::collections::BTreeMap;

fn smp() -> &'static dyn Dialect {
    find("smp").unwrap()
}

fn config() -> Config {
    crate::dialects::smp_with_its_own_encoder()
}

/// Returns the network's tensors below `model.`.
fn network() -> StoredWeights {
    let config = config();
    let mut stored = store(&config, &random_weights(&config, 1), smp()).unwrap();
    stored.tensors.iter_mut().for_each(|(name, ..)| *name = format!("model.{name}"));
    stored.metadata.clear();
    stored
}

fn with(statements: Statements) -> ReadOptions {
    ReadOptions { statements, ..ReadOptions::default() }
}

fn setting(loaded: &Loaded, property: Property) -> (&str, StatedBy) {
    let setting = loaded.settings.iter().find(|setting| setting.property == property).unwrap();
    (&setting.value, setting.stated_by)
}

/// A network that was pickled with its modules.
struct Pickled {
    tensors: StoredWeights,
    layers: BTreeMap<String, LayerAttributes>,
}

impl Source for Pickled {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        Source::tensors(&self.tensors)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn read(&self, name: &str) -> atrous::Result<Vec<f32>> {
        self.tensors.read(name)
    }

    fn label(&self) -> String {
        "modules in memory".to_owned()
    }

    fn layers(&self) -> Option<&BTreeMap<String, LayerAttributes>> {
        Some(&self.layers)
    }
}

/// Returns the network below `model.` with some of its modules.
fn pickled<const N: usize>(layers: [(&str, LayerAttributes); N]) -> Pickled {
    let layers = layers.map(|(path, layer)| (path.to_owned(), layer)).into();
    Pickled { tensors: network(), layers }
}

fn conv(stride: u64, dilation: u64) -> LayerAttributes {
    let [stride, dilation, padding] = [stride, dilation, dilation].map(|n| Some([n, n]));
    LayerAttributes { class: "Conv2d".into(), stride, dilation, padding, eps: None }
}

fn class(name: &str) -> LayerAttributes {
    LayerAttributes { class: name.into(), ..LayerAttributes::default() }
}

/// Depthwise convolutions of the blocks whose strides lead to output strides 16 and 32.
const BLOCKS: [&str; 2] =
    ["model.encoder.features.7.conv.1.0", "model.encoder.features.14.conv.1.0"];

#[test]
fn pickled_modules_state_the_output_stride_the_rates_and_eps() {
    let defaults = pickled([(BLOCKS[0], conv(2, 1)), (BLOCKS[1], conv(1, 2))]);
    let loaded = load(&defaults, ReadOptions::default()).unwrap();
    assert_eq!(loaded.prefix, "model.");
    assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);

    let norm = LayerAttributes { eps: Some(1e-3), ..class("BatchNorm2d") };
    let stated = pickled([
        (BLOCKS[0], conv(1, 2)),
        (BLOCKS[1], conv(1, 4)),
        ("model.encoder.features.0.1", norm),
        ("model.decoder.aspp.0.convs.1.0.0", conv(1, 6)),
    ]);
    let loaded = load(&stated, ReadOptions::default()).unwrap();
    let mut expected = config();
    expected.output_stride = 8;
    expected.eps.backbone = 1e-3;
    expected.head.as_mut().unwrap().aspp.rates[0] = 6;
    assert_eq!(loaded.config, expected);
    assert!(
        loaded.notes[0].contains("output stride 8, atrous rates 6 24 36"),
        "{:?}",
        loaded.notes
    );
}

#[test]
fn pickled_modules_that_compute_something_else_are_refused() {
    for (path, layer, problem) in [
        (BLOCKS[1], conv(1, 3), "conv.1.0` has dilation 3, the network of its names 2"),
        ("model.encoder.features.0.0", conv(1, 1), "features.0.0` has stride 1"),
        (
            "model.encoder.features.0.0",
            LayerAttributes { padding: Some([0, 0]), ..conv(2, 1) },
            "features.0.0` has padding 0",
        ),
        ("model.encoder.features.0.2", class("ReLU"), "is a ReLU, which MobileNetV2"),
        ("model.encoder.layer2.0.aa", class("BlurPool2d"), "is a BlurPool2d"),
    ] {
        let text = load(&pickled([(path, layer)]), ReadOptions::default()).unwrap_err().to_string();
        assert!(text.contains(problem), "{text}");
    }
    // Modules of another network in the file do not matter.
    let beside = pickled([("teacher.features.0.2", class("ReLU"))]);
    assert_eq!(load(&beside, ReadOptions::default()).unwrap().config, config());
}

/// The modules of SMP's head with an activation.
fn with_activation(name: &str) -> Pickled {
    pickled([
        (BLOCKS[0], conv(2, 1)),
        ("model.segmentation_head.0", conv(1, 1)),
        ("model.segmentation_head.1", class("UpsamplingBilinear2d")),
        ("model.segmentation_head.2", class("Activation")),
        ("model.segmentation_head.2.activation", class(name)),
    ])
}

/// They were ignored without a word, and `inspect` listed them as if they held.
#[test]
fn options_override_what_pickled_modules_state_with_a_note() {
    let file = pickled([
        (BLOCKS[0], conv(2, 1)),
        (BLOCKS[1], conv(1, 2)),
        ("model.decoder.aspp.0.convs.1.0.0", conv(1, 12)),
        ("model.decoder.aspp.0.convs.2.0.0", conv(1, 24)),
        ("model.decoder.aspp.0.convs.3.0.0", conv(1, 36)),
    ]);
    let statements = Statements {
        trained_stride: Some(8),
        rates: Some(vec![6, 12, 18]),
        padding: Some(PaddingRule::TfSame),
        ..Statements::default()
    };
    let loaded = load(&file, with(statements)).unwrap();
    let config = &loaded.config;
    assert_eq!((config.output_stride, config.padding), (8, PaddingRule::TfSame));
    assert_eq!(config.head.as_ref().unwrap().aspp.rates, [6, 12, 18]);
    assert_eq!(
        loaded.notes,
        [
            "--trained-stride 8 overrides 16 of the pickled modules",
            "--rates 6,12,18 overrides 12,24,36 of the pickled modules",
            "--padding same overrides symmetric of the pickled modules",
        ]
    );
    assert_eq!(setting(&loaded, Property::TrainedStride), ("8", StatedBy::Option));
    assert_eq!(setting(&loaded, Property::Rates), ("6,12,18", StatedBy::Option));
    // What agrees needs no note.
    let agrees = Statements { trained_stride: Some(16), ..Statements::default() };
    assert!(load(&file, with(agrees)).unwrap().notes.is_empty());
}

#[test]
fn settings_name_the_pickled_modules_as_their_source() {
    let file = pickled([(BLOCKS[0], conv(1, 2)), (BLOCKS[1], conv(1, 4))]);
    let loaded = load(&file, ReadOptions::default()).unwrap();
    assert_eq!(setting(&loaded, Property::TrainedStride), ("8", StatedBy::Modules));
    assert_eq!(setting(&loaded, Property::Rates), ("12,24,36", StatedBy::Modules));
    assert_eq!(setting(&loaded, Property::Padding), ("symmetric", StatedBy::Modules));
    assert_eq!(setting(&loaded, Property::AlignCorners).1, StatedBy::Assumed);
    assert_eq!(setting(&loaded, Property::Activation), ("softmax", StatedBy::Assumed));
    assert!(!loaded.notes.iter().any(|note| note.contains("assuming")), "{:?}", loaded.notes);
}

/// A network of several classes with a sigmoid was read as one with a softmax.
#[test]
fn the_activation_is_that_of_the_pickled_modules() {
    let activation = |loaded: &Loaded| loaded.config.head.as_ref().unwrap().activation;
    let sigmoid = load(&with_activation("Sigmoid"), ReadOptions::default()).unwrap();
    assert_eq!(activation(&sigmoid), OutputActivation::Sigmoid);
    assert_eq!(sigmoid.config.classes(), Some(6), "the outputs and the background");
    assert_eq!(setting(&sigmoid, Property::Activation), ("sigmoid", StatedBy::Modules));
    assert_eq!(sigmoid.notes, ["read from the pickled modules: activation sigmoid"]);
    for name in ["Identity", "Softmax"] {
        let loaded = load(&with_activation(name), ReadOptions::default()).unwrap();
        assert_eq!(activation(&loaded), OutputActivation::Softmax, "{name}");
        assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
    }
    let softmax =
        Statements { activation: Some(OutputActivation::Softmax), ..Statements::default() };
    let loaded = load(&with_activation("Sigmoid"), with(softmax.clone())).unwrap();
    assert_eq!(activation(&loaded), OutputActivation::Softmax);
    assert_eq!(loaded.notes, ["--activation softmax overrides sigmoid of the pickled modules"]);

    let refused = load(&with_activation("Clamp"), ReadOptions::default()).unwrap_err().to_string();
    assert!(
        refused.contains("`model.segmentation_head.2.activation` is a Clamp")
            && refused.contains("--activation softmax or sigmoid"),
        "{refused}"
    );
    let loaded = load(&with_activation("Clamp"), with(softmax)).unwrap();
    assert!(loaded.notes[0].contains("is a Clamp"), "{:?}", loaded.notes);
}
