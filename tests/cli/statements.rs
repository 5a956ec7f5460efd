//! Options and files that state what a weight file cannot.

use crate::support::models::random_weights;
use crate::{atrous, directory};
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::{Backbone, Config, ConvKind, Decoder, DilationRule, PlusDecoder};
use atrous::engine::weights::{FloatDType, dialects, write_safetensors};
use predicates::prelude::*;
use predicates::str::contains;
use std::path::Path;

/// Writes a small network of SMP with five classes, without metadata.
fn write_smp(path: &Path) {
    let narrow = MobileNetV2::with_width(0.25, 8);
    let net = MobileNetV2 { last: Some(64), last_is_features: true, ..narrow };
    let mut config = Config::deeplab_v3plus(Backbone::MobileNetV2(net), 5);
    config.dilation = DilationRule::WholeStage;
    let head = config.head.as_mut().unwrap();
    head.align_corners = true;
    (head.aspp.channels, head.aspp.separable_after) = (16, true);
    head.decoder = Decoder::Plus(PlusDecoder {
        kind: ConvKind::Separable,
        dropouts: vec![0.0],
        channels: 16,
        ..PlusDecoder::default()
    });
    let weights = random_weights(&config, 9);
    let stored = dialects::store(&config, &weights, dialects::find("smp").unwrap()).unwrap();
    write_safetensors(path, stored.tensors, &Default::default(), FloatDType::F32).unwrap();
}

const CONFIG: &str = r#"{"encoder_name": "mobilenet_v2", "encoder_output_stride": 8,
    "decoder_atrous_rates": [3, 6, 9], "classes": 5, "activation": "softmax2d"}"#;

#[test]
fn what_is_assumed_is_noted_once_and_options_silence_it() {
    let dir = directory();
    write_smp(&dir.path().join("smp.safetensors"));
    let segment = ["segment", "a.png", "-w", "smp.safetensors", "-o", "out.png", "--quiet"];
    let note = "note: assuming trained output stride 16 and atrous rates 12,24,36";
    atrous(dir.path()).args(segment).assert().success().stderr(contains(note).count(1));
    atrous(dir.path())
        .args(segment)
        .args(["--trained-stride", "8", "--rates", "12,24,36"])
        .assert()
        .success()
        .stderr("");
}

#[test]
fn import_stores_what_a_config_file_and_options_state() {
    let dir = directory();
    let file = |name: &str| dir.path().join(name);
    write_smp(&file("smp.safetensors"));
    std::fs::write(file("config.json"), CONFIG).unwrap();
    let inspect = |arguments: &[&str]| -> serde_json::Value {
        let out = atrous(dir.path()).arg("inspect").args(arguments).arg("--json").assert();
        serde_json::from_slice(&out.success().get_output().stdout).unwrap()
    };
    let report = inspect(&["smp.safetensors", "--align-corners", "false"]);
    let settings: Vec<[&str; 3]> = report["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| ["property", "value", "stated_by"].map(|key| s[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        settings,
        [
            ["trained_stride", "8", "config_file"],
            ["rates", "3,6,9", "config_file"],
            ["align_corners", "false", "option"],
            ["padding", "symmetric", "assumed"],
            ["preprocess", "imagenet", "assumed"],
            ["activation", "softmax", "config_file"],
        ]
    );
    assert!(report["notes"][0].as_str().unwrap().starts_with("config.json of segm"), "{report}");

    let args = ["import", "smp.safetensors", "own.safetensors", "--activation", "sigmoid"];
    let overrides = "note: --activation sigmoid overrides softmax of config.json";
    atrous(dir.path()).args(args).assert().success().stderr(contains(overrides));
    let report = inspect(&["own.safetensors"]);
    assert_eq!(report["config"]["output_stride"], 8);
    assert_eq!(report["config"]["head"]["aspp"]["rates"], serde_json::json!([3, 6, 9]));
    assert_eq!(report["config"]["head"]["classes"], 6);
    // It says so where the file beside it no longer holds.
    atrous(dir.path())
        .args(["inspect", "own.safetensors"])
        .assert()
        .success()
        .stderr(contains("config.json was not used: the weight file states its own config"));
    atrous(dir.path())
        .args(["inspect", "smp.safetensors"])
        .assert()
        .success()
        .stdout(contains("3,6,9 (config.json)").and(contains("imagenet (assumed)")));
}

#[test]
fn statements_without_weights_or_of_no_sense_are_wrong_usage() {
    let dir = directory();
    for (arguments, message) in [
        (&["inspect", "--network", "resnet50", "--rates", "1,2,3"][..], "cannot be used with"),
        (&["inspect", "tiny.safetensors", "--rates", "1,,3"], "expected positive integers"),
        (&["inspect", "tiny.safetensors", "--rates", "0"], "expected positive integers"),
        (&["inspect", "tiny.safetensors", "--trained-stride", "4"], "invalid value '4'"),
        (&["inspect", "tiny.safetensors", "--align-corners", "yes"], "invalid value 'yes'"),
        (&["inspect", "tiny.safetensors", "--preprocess", "103,116,123/1"], "by 255"),
        (
            &["train", "--data", "d", "-o", "r", "--trained-stride", "8"],
            "--trained-stride describes the weights of --init",
        ),
    ] {
        let assert = atrous(dir.path()).args(arguments).assert();
        assert.code(2).stderr(contains(message));
    }
    atrous(dir.path())
        .args(["inspect", "tiny.safetensors", "--rates", "6,12"])
        .assert()
        .code(1)
        .stderr(contains("has 3 dilated branches, got 2 atrous rates"));
    assert!(!dir.path().join("r").exists());
}

#[test]
fn the_help_has_the_options_in_a_group_of_their_own() {
    let dir = directory();
    for (command, expected) in [("segment", 7), ("import", 7), ("bench", 7), ("train", 5)] {
        let help = atrous(dir.path()).args([command, "-h"]).assert().success();
        let help = String::from_utf8(help.get_output().stdout.clone()).unwrap();
        let (_, group) = help.split_once("What a weight file cannot state").unwrap();
        let group = group.split("\n\n").next().unwrap();
        let options = group.lines().filter(|line| line.trim_start().starts_with("--"));
        let names: Vec<&str> = options.filter_map(|line| line.split_whitespace().next()).collect();
        // A line of help may begin with the name of another option.
        let names: Vec<&str> =
            names.into_iter().filter(|name| *name != "--output-stride").collect();
        assert_eq!(names.len(), expected, "{command}: {names:?}");
        assert_eq!(names[..2], ["--trained-stride", "--rates"], "{command}");
    }
}
