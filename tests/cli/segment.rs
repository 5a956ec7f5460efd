//! `segment`: styles, sizes, many images, errors.

use crate::support::models::{tiny_config, write_network};
use crate::{atrous, directory, image, size};
use atrous::engine::models::OutputActivation;
use predicates::prelude::*;
use predicates::str::contains;

#[test]
fn every_style_is_written_at_the_images_own_size() {
    let dir = directory();
    for (style, expected) in [("mask", (61, 47)), ("overlay", (61, 47)), ("cutout", (61, 47))] {
        let out = format!("{style}.png");
        let args =
            ["segment", "a.png", "--weights", "tiny.safetensors", "--style", style, "-o", &out];
        atrous(dir.path())
            .args(args)
            .assert()
            .success()
            .stdout(contains("a.png (61x47,"))
            .stderr(contains("CPU executor"));
        assert_eq!(size(dir.path().join(out)), expected, "{style}");
    }
    let args =
        ["segment", "a.png", "-w", "tiny.safetensors", "-s", "side-by-side", "-o", "both.png"];
    atrous(dir.path()).args(args).assert().success();
    assert!(
        size(dir.path().join("both.png")).0 > 2 * 61,
        "the image and the overlay are side by side"
    );
}

#[test]
fn sizes_change_the_networks_input_but_not_the_result() {
    let dir = directory();
    for (text, network) in [("native", [61, 47]), ("33", [33, 33]), ("40x64", [40, 64])] {
        let args = [
            "segment",
            "a.png",
            "-w",
            "tiny.safetensors",
            "--size",
            text,
            "-s",
            "mask",
            "-o",
            "m.png",
            "--json",
        ];
        let output = atrous(dir.path()).args(args).assert().success().get_output().stdout.clone();
        let report: serde_json::Value =
            serde_json::from_slice(&output).expect("the report is JSON");
        assert_eq!(report["images"][0]["network_size"], serde_json::json!(network), "{text}");
        let shares: f64 = report["images"][0]["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["share"].as_f64().unwrap())
            .sum();
        assert!(
            (shares - 1.0).abs() < 1e-9,
            "the fractions of all classes must sum to 1, got {shares}"
        );
        assert_eq!(size(dir.path().join("m.png")), (61, 47));
    }
    let args = ["segment", "a.png", "-w", "tiny.safetensors", "--size", "0x5"];
    atrous(dir.path()).args(args).assert().code(2);
}

#[test]
fn directories_and_patterns_keep_their_names() {
    let dir = directory();
    std::fs::create_dir_all(dir.path().join("in/deep")).unwrap();
    image(&dir.path().join("in/one.png"), 30, 20);
    image(&dir.path().join("in/deep/two.bmp"), 20, 30);
    std::fs::write(dir.path().join("in/notes.txt"), "not an image").unwrap();
    atrous(dir.path())
        .args(["segment", "in", "-w", "tiny.safetensors", "-o", "out", "-s", "mask"])
        .assert()
        .success();
    assert_eq!(size(dir.path().join("out/one.png")), (30, 20));
    assert_eq!(size(dir.path().join("out/deep/two.png")), (20, 30));
    atrous(dir.path())
        .args(["segment", "in/*.png", "a.png", "-w", "tiny.safetensors", "-o", "flat/"])
        .assert()
        .success();
    assert!(dir.path().join("flat/one.png").exists() && dir.path().join("flat/a.png").exists());
    atrous(dir.path())
        .args(["segment", "in/*.gif", "-w", "tiny.safetensors"])
        .assert()
        .code(2)
        .stderr(contains("in/*.gif"));
}

#[test]
fn one_bad_image_is_reported_and_does_not_stop_the_others() {
    let dir = directory();
    std::fs::write(dir.path().join("bad.png"), b"not an image").unwrap();
    let args =
        ["segment", "bad.png", "a.png", "missing.jpg", "-w", "tiny.safetensors", "-o", "out/"];
    atrous(dir.path()).args(args).assert().code(1).stderr(
        contains("bad.png").and(contains("missing.jpg")).and(contains("2 of 3 images failed")),
    );
    assert!(dir.path().join("out/a.png").exists());
    assert!(!dir.path().join("out/bad.png").exists());
}

#[test]
fn results_never_replace_an_image_or_each_other() {
    let dir = directory();
    atrous(dir.path())
        .args(["segment", "a.png", "-w", "tiny.safetensors", "-o", "a.png"])
        .assert()
        .code(2)
        .stderr(contains("a.png"));
    image(&dir.path().join("a.bmp"), 9, 9);
    let args = ["segment", "a.png", "a.bmp", "-w", "tiny.safetensors", "-o", "out/"];
    atrous(dir.path()).args(args).assert().code(2).stderr(contains("would be written twice"));
}

#[test]
fn damaged_weights_are_rejected_by_name() {
    let dir = directory();
    let whole = std::fs::read(dir.path().join("tiny.safetensors")).unwrap();
    std::fs::write(dir.path().join("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let args = ["segment", "a.png", "-w", "cut.safetensors", "-o", "out.png"];
    atrous(dir.path()).args(args).assert().code(1).stderr(contains("cut.safetensors"));
    assert!(!dir.path().join("out.png").exists());
    let args = ["segment", "a.png", "-w", "tiny.safetensors", "--classes", "21"];
    atrous(dir.path()).args(args).assert().code(1).stderr(contains("expected 21 classes"));
}

#[test]
fn the_preset_size_is_reported_and_can_be_overridden() {
    let dir = directory();
    let mut config = tiny_config();
    config.preprocess.short_side = Some(40);
    write_network(&dir.path().join("p.safetensors"), &config, 5);
    let segment = |more: &[&str]| {
        let mut command = atrous(dir.path());
        command
            .args(["segment", "a.png", "-w", "p.safetensors", "-s", "mask", "-o", "m.png"])
            .args(more);
        command.assert().success()
    };
    segment(&[]).stderr(contains(
        "size: 40 on the short side (the preset in the weights); use --size native",
    ));
    segment(&["--size", "native"]).stderr(contains("short side").not());
    let report = |more: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&segment(&[more, &["--json"]].concat()).get_output().stdout).unwrap()
    };
    let (preset, native) = (report(&[]), report(&["--size", "native"]));
    // a.png has 61 x 47 pixels: int(40 * 61 / 47) is 51.
    assert_eq!(
        (&preset["size"], &preset["images"][0]["network_size"]),
        (&"short:40".into(), &serde_json::json!([51, 40]))
    );
    assert_eq!(
        (&native["size"], &native["images"][0]["network_size"]),
        (&"native".into(), &serde_json::json!([61, 47]))
    );
}

/// Writes the tiny network with `outputs` sigmoids.
fn write_sigmoids(path: &std::path::Path, outputs: usize, names: &[&str]) {
    let mut config = tiny_config();
    let head = config.head.as_mut().unwrap();
    (head.classes, head.activation) = (outputs + 1, OutputActivation::Sigmoid);
    head.class_names = names.iter().map(|&name| name.to_owned()).collect();
    write_network(path, &config, 7);
}

#[test]
fn one_output_is_a_foreground_with_a_threshold() {
    let dir = directory();
    write_sigmoids(&dir.path().join("b.safetensors"), 1, &[]);
    let share = |threshold: Option<&str>| {
        let mut args = vec!["segment", "a.png", "-w", "b.safetensors", "-s", "mask", "--json"];
        args.extend(["-o", "m.png"]);
        args.extend(threshold.iter().flat_map(|&t| ["--threshold", t]));
        let output = atrous(dir.path()).args(&args).assert().success().get_output().stdout.clone();
        let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
        let classes = report["images"][0]["classes"].as_array().unwrap().clone();
        assert!(classes.iter().all(|c| c["name"] == "background" || c["name"] == "foreground"));
        let of = classes.iter().find(|c| c["name"] == "foreground");
        of.map_or(0.0, |c| c["share"].as_f64().unwrap())
    };
    let [low, default, half, high] = [Some("0.01"), None, Some("0.5"), Some("0.99")].map(share);
    assert!(low > default && default == half && half > high, "{low} {default} {half} {high}");
    let args = ["segment", "a.png", "-w", "tiny.safetensors", "--threshold", "0.4"];
    atrous(dir.path())
        .args(args)
        .assert()
        .code(2)
        .stderr(contains("tiny.safetensors").and(contains("softmax over 5 classes")));
    let args = ["segment", "a.png", "-w", "b.safetensors", "--threshold", "1"];
    atrous(dir.path()).args(args).assert().code(2).stderr(contains("above 0 and below 1"));
}

/// `--threshold` changed the table but not one byte of a cut-out.
#[test]
fn a_cut_out_follows_the_threshold() {
    let dir = directory();
    write_sigmoids(&dir.path().join("b.safetensors"), 1, &[]);
    let gpu = crate::support::gpu()
        .map(|_| std::env::var("ATROUS_DEVICE").unwrap_or_else(|_| "gpu".to_owned()));
    for device in ["cpu".to_owned()].into_iter().chain(gpu) {
        let cut_out = |threshold: &str, more: &[&str]| {
            let args = ["segment", "a.png", "-w", "b.safetensors", "-s", "cutout", "--json"];
            let args = [&args[..], &["-o", "c.png", "--threshold", threshold], more].concat();
            let assert = atrous(dir.path()).args(args).env("ATROUS_DEVICE", &device).assert();
            let output = assert.success().get_output().stdout.clone();
            let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
            let classes = report["images"][0]["classes"].as_array().unwrap().clone();
            let pixels = classes.iter().find(|c| c["name"] == "foreground");
            let pixels = pixels.map_or(0, |c| c["pixels"].as_u64().unwrap());
            let image = ::image::open(dir.path().join("c.png")).unwrap().into_rgba8();
            let alpha: Vec<u8> = image.pixels().map(|p| p.0[3]).collect();
            (pixels, alpha)
        };
        let opaque = |alpha: &[u8]| alpha.iter().filter(|&&a| a >= 128).count() as u64;
        let [low, high] = ["0.3", "0.7"].map(|threshold| cut_out(threshold, &["--no-refine"]));
        assert!(low.0 > high.0 && low.1 != high.1, "{device}: {} {}", low.0, high.0);
        assert!(low.1.iter().zip(&high.1).all(|(low, high)| low >= high), "{device}");
        for (pixels, alpha) in [&low, &high] {
            // An alpha of one half is rounded up to 128, and the probability is rounded too.
            assert!(opaque(alpha).abs_diff(*pixels) <= 8, "{device}: {} {pixels}", opaque(alpha));
        }
        let (pixels, alpha) = cut_out("0.3", &["--hard-edge"]);
        assert!(alpha.iter().all(|a| [0, 255].contains(a)), "{device}");
        assert_eq!((opaque(&alpha), pixels), (low.0, low.0), "{device}");
    }
}

/// The messages were "lists 1 classes, the network has 2" and a list of two classes.
#[test]
fn a_network_of_one_output_explains_its_two_classes() {
    let dir = directory();
    write_sigmoids(&dir.path().join("b.safetensors"), 1, &[]);
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("one.txt", "0 person\n");
    write("both.txt", "0 background\n1 person\n");
    let segment = |more: &[&str]| {
        let args = ["segment", "a.png", "-w", "b.safetensors", "-s", "cutout", "-o", "c.png"];
        atrous(dir.path()).args(args).args(more).assert()
    };
    segment(&["--class-table", "one.txt"])
        .code(2)
        .stderr(contains("one.txt: lists 1 class, the network has 2"))
        .stderr(contains("one output has two classes").and(contains("`0 background`")));
    segment(&["--keep", "person"])
        .code(2)
        .stderr(contains("no class `person`").and(contains("--class-table")))
        .stderr(contains("its only class besides the background is `foreground`"));
    // Neither needs colors.
    segment(&["--keep", "person", "--class-table", "both.txt"])
        .success()
        .stdout(contains("person").and(contains("foreground").not()));
}

#[test]
fn classes_that_overlap_have_a_mask_each() {
    let dir = directory();
    let names = ["background", "road", "person/rider"];
    write_sigmoids(&dir.path().join("m.safetensors"), 2, &names);
    let args = ["segment", "a.png", "-w", "m.safetensors", "-s", "mask", "-o", "out.png", "--json"];
    let output = atrous(dir.path()).args(args).assert().success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let image = &report["images"][0];
    let masks = image["masks"].as_array().unwrap();
    assert_eq!(masks.len(), 2);
    let mut some = false;
    for (mask, file) in masks.iter().zip(["out.road.png", "out.person_rider.png"]) {
        assert_eq!(mask["file"], file);
        let gray = ::image::open(dir.path().join(file)).unwrap().into_luma8();
        assert_eq!(gray.dimensions(), (61, 47));
        assert!(gray.pixels().all(|p| p.0[0] == 0 || p.0[0] == 255));
        let share = gray.pixels().filter(|p| p.0[0] == 255).count() as f64 / (61.0 * 47.0);
        assert!((mask["share"].as_f64().unwrap() - share).abs() < 1e-9);
        some |= share > 0.0;
    }
    assert!(some, "all masks are empty");
    assert!(image["notes"][0].as_str().unwrap().contains("classes can overlap"), "{image}");
    assert_eq!(size(dir.path().join("out.png")), (61, 47));
}

#[test]
fn the_mask_of_a_class_never_replaces_an_input() {
    let dir = directory();
    write_sigmoids(&dir.path().join("m.safetensors"), 2, &["background", "road", "rider"]);
    std::fs::copy(dir.path().join("a.png"), dir.path().join("out.road.png")).unwrap();
    let before = std::fs::read(dir.path().join("out.road.png")).unwrap();
    let args = ["-w", "m.safetensors", "-s", "mask", "-o", "out.png"];
    atrous(dir.path())
        .args(["segment", "out.road.png"])
        .args(args)
        .assert()
        .code(2)
        .stderr(contains("out.road.png").and(contains("the mask of the class road")));
    assert_eq!(std::fs::read(dir.path().join("out.road.png")).unwrap(), before);
    assert!(!dir.path().join("out.png").exists());
    // A class name may be longer than a file name.
    write_sigmoids(
        &dir.path().join("m.safetensors"),
        1 + 1,
        &["background", &"é".repeat(155), "b"],
    );
    atrous(dir.path()).args(["segment", "a.png"]).args(args).assert().success();
}
