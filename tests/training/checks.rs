//! What a training checks before its first step.

use crate::run::{begin, data_set, train};
use assert_cmd::Command;
use std::fs;
use std::path::Path;

fn with(mut args: Vec<String>, extra: &[&str]) -> Vec<String> {
    args.extend(extra.iter().map(|&s| s.to_owned()));
    args
}

fn stderr(done: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&done.get_output().stderr).into_owned()
}

/// Replaces the masks of both splits.
fn masks(root: &Path, mask: impl Fn(u32, u32) -> image::DynamicImage) {
    for split in ["trainannot", "valannot"] {
        for path in fs::read_dir(root.join(split)).unwrap().map(|e| e.unwrap().path()) {
            let (width, height) = image::image_dimensions(&path).unwrap();
            mask(width, height).save(&path).unwrap();
        }
    }
}

fn gray(value: impl Fn(u32, u32) -> u8) -> impl Fn(u32, u32) -> image::DynamicImage {
    move |w, h| image::GrayImage::from_fn(w, h, |x, y| image::Luma([value(x, y)])).into()
}

#[test]
fn broken_masks_are_refused_before_the_first_step_and_trained_on_request() {
    let root = data_set();
    let out = root.path().join("run");
    masks(root.path(), gray(|x, _| if x < 20 { 0 } else { 7 }));
    let text = stderr(&train(&begin(root.path(), &out)).failure());
    for part in
        ["7 of 7 checked training masks", "not a class", "p00.png: 7 (", "and 4 more", "--no-check"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("step 1"), "{text}");
    masks(root.path(), gray(|x, _| if x < 20 { 1 } else { 7 }));
    train(&with(begin(root.path(), &out), &["--no-check", "--steps", "1"])).success();
}

#[test]
fn sizes_that_differ_from_the_image_are_refused() {
    let root = data_set();
    masks(root.path(), |w, h| image::GrayImage::from_pixel(w + 1, h, image::Luma([1])).into());
    let text = stderr(&train(&begin(root.path(), &root.path().join("run"))).failure());
    assert!(text.contains("a different size than their image") && text.contains("49x40"), "{text}");
}

/// They trained to a mIoU of 0.99, because the foreground was ignored.
#[test]
fn masks_of_0_and_255_have_two_classes_in_training_and_evaluation() {
    let root = data_set();
    let out = root.path().join("run");
    fs::remove_file(root.path().join("classes.txt")).unwrap();
    masks(root.path(), gray(|x, _| if x < 20 { 0 } else { 255 }));
    // A validation split without any foreground means the same by its values.
    for path in fs::read_dir(root.path().join("valannot")).unwrap().map(|e| e.unwrap().path()) {
        image::GrayImage::new(48, 40).save(path).unwrap();
    }
    let text = stderr(&train(&with(begin(root.path(), &out), &["--steps", "1"])).success());
    assert!(text.contains("255 is read as class 1"), "{text}");
    assert!(text.contains("mIoU") && text.contains("over 1 of 2 classes"), "{text}");
    let weights = out.join("last.safetensors");
    let mut eval = Command::new(assert_cmd::cargo::cargo_bin("atrous"));
    eval.args(["eval", "--device", "cpu", "--json", "--split", "train", "--data"]);
    let run = eval.arg(root.path()).arg("--weights").arg(&weights).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let truth = |class: usize| report["scores"]["classes"][class]["truth_pixels"].as_u64();
    assert_eq!((truth(0), truth(1)), (Some(7 * 20 * 40), Some(7 * 28 * 40)), "{report}");
}

#[test]
fn masks_of_colors_that_nothing_names_are_refused_with_the_colors() {
    let root = data_set();
    fs::remove_file(root.path().join("classes.txt")).unwrap();
    let color = |x: u32, _: u32| image::Rgb(if x < 12 { [200, 30, 40] } else { [0, 0, 0] });
    masks(root.path(), |w, h| image::RgbImage::from_fn(w, h, color).into());
    let text = stderr(&train(&begin(root.path(), &root.path().join("run"))).failure());
    for part in ["2 colors", "0 NAME 0 0 0", "1 NAME 200 30 40", "classes.txt"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
