//! Thresholds of sigmoid outputs: stored, printed, and compared with each other; and which images
//! are scored.

use super::command::{atrous, data_set, json};
use crate::support::models::{tiny_config, write_network};
use atrous::engine::models::OutputActivation;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::Path;

/// Turns `tiny.safetensors` and the masks of a [`data_set`] into those of one class besides the
/// background.
fn binary_data_set() -> tempfile::TempDir {
    let directory = data_set();
    let mut config = tiny_config();
    let head = config.head.as_mut().unwrap();
    (head.classes, head.activation) = (2, OutputActivation::Sigmoid);
    head.class_names.clear();
    write_network(&directory.path().join("tiny.safetensors"), &config, 7);
    for i in 0..3 {
        let mask = directory.path().join(format!("set/masks/{i}.png"));
        let mut gray = ::image::open(&mask).unwrap().into_rgb8();
        let column = |x: u32| ::image::Rgb([u8::from(x > 30); 3]);
        gray.enumerate_pixels_mut().for_each(|(x, _, pixel)| *pixel = column(x));
        ::image::DynamicImage::from(gray).into_luma8().save(&mask).unwrap();
    }
    directory
}

#[test]
fn several_thresholds_are_scored_in_one_pass_as_one_by_one() {
    let directory = binary_data_set();
    let report = json(directory.path(), &["--thresholds", "0.2,0.5,0.8"]);
    let rows = report["thresholds"].as_array().unwrap();
    let iou = |row: &Value| row["scores"]["classes"][1]["iou"].as_f64().unwrap();
    for (row, threshold) in rows.iter().zip([0.2, 0.5, 0.8]) {
        let single = json(directory.path(), &["--threshold", &threshold.to_string()]);
        assert_eq!(row["threshold"], threshold);
        assert_eq!(single["threshold"], threshold);
        // A pixel at the threshold may be rounded to either side.
        let difference = (iou(row) - iou(&single)).abs();
        assert!(difference < 1e-3, "{threshold}: {difference}");
    }
    assert!(iou(&rows[0]) != iou(&rows[2]), "{rows:?}");
    let best = rows.iter().max_by(|a, b| iou(a).total_cmp(&iou(b))).unwrap();
    assert_eq!(report["best"], best["threshold"]);
    let run = |more: &[&str]| {
        let mut command = atrous(directory.path());
        command.args(super::command::EVAL).args(more).assert()
    };
    run(&["--thresholds", "0.2,0.8"])
        .success()
        .stdout(contains("foreground: IoU %").and(contains("--threshold 0.")));
    run(&["--thresholds", "0.2,1"]).code(2).stderr(contains("above 0 and below 1"));
    run(&["--thresholds", "0.2", "--threshold", "0.3"]).code(2);
    run(&[]).success().stdout(contains("settings").and(contains(", threshold 0.5")));
    let softmax = data_set();
    atrous(softmax.path())
        .args(super::command::EVAL)
        .args(["--thresholds", "0.2"])
        .assert()
        .code(2)
        .stderr(contains("tiny.safetensors").and(contains("softmax")));
}

/// Help mentions the network's own threshold, but nothing could store one.
#[test]
fn import_stores_a_threshold_in_the_network() {
    let directory = binary_data_set();
    let import = |input: &str, output: &str, threshold: &str| {
        let args = ["import", input, output, "--threshold", threshold];
        atrous(directory.path()).args(args).assert()
    };
    import("tiny.safetensors", "own.safetensors", "0.35").success();
    import("own.safetensors", "other.safetensors", "0.7").success();
    for (weights, threshold) in [("own.safetensors", 0.35), ("other.safetensors", 0.7)] {
        let args = ["segment", "set/images/0.png", "--json", "-s", "mask", "-w", weights];
        let output = atrous(directory.path()).args(args).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["threshold"], threshold);
    }
    let softmax = data_set();
    let args = ["import", "tiny.safetensors", "o.safetensors", "--threshold", "0.4"];
    atrous(softmax.path())
        .args(args)
        .assert()
        .code(2)
        .stderr(contains("tiny.safetensors").and(contains("softmax over 5 classes")));
    assert!(!softmax.path().join("o.safetensors").exists());
}

fn move_into(directory: &Path, split: &str) {
    for kind in ["images", "masks"] {
        let from = directory.join("set").join(kind);
        let to = from.join(split);
        std::fs::create_dir(&to).unwrap();
        std::fs::rename(from.join("0.png"), to.join("0.png")).unwrap();
        for i in 1..3 {
            std::fs::remove_file(from.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// All images were scored, those of the training among them, without a word about it.
#[test]
fn eval_states_which_images_it_scores_and_that_none_were_held_out() {
    let directory = data_set();
    let run = |more: &[&str]| {
        atrous(directory.path()).args(super::command::EVAL).args(more).assert().success()
    };
    run(&[]).stderr(contains("all 3 images of set").and(contains("none were held out")));
    run(&["--json"]).stderr(contains("held out").not());
    run(&["--quiet"]).stderr(contains("held out").not());
    move_into(directory.path(), "val");
    run(&[]).stderr(contains("data: the 1 image of the split `val`"));
}
