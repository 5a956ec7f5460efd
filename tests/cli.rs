//! The command line as a process, each test in a fresh directory.

mod support;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use std::path::Path;
use support::models::write_tiny;

fn atrous(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command
}

/// An image of a few colored areas.
fn image(path: &Path, w: u32, h: u32) {
    let area =
        |x: u32, y: u32| [(x * 255 / w) as u8, (y * 255 / h) as u8, if x > y { 200 } else { 30 }];
    image::RgbImage::from_fn(w, h, |x, y| image::Rgb(area(x, y)))
        .save(path)
        .expect("the directory can be written");
}

/// A fresh directory with `tiny.safetensors` and `a.png`, 61 x 47.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    write_tiny(&directory.path().join("tiny.safetensors"));
    image(&directory.path().join("a.png"), 61, 47);
    directory
}

fn size(path: impl AsRef<Path>) -> (u32, u32) {
    image::image_dimensions(path).expect("an image was written")
}

#[test]
fn help_names_every_command_and_shows_examples() {
    let dir = tempfile::tempdir().unwrap();
    let mut check =
        atrous(dir.path()).arg("--help").assert().success().stdout(contains("Examples:"));
    for command in [
        "segment",
        "train",
        "devices",
        "inspect",
        "import",
        "export",
        "infer",
        "verify",
        "bench",
        "eval",
        "doctor",
        "completions",
        "man",
    ] {
        check = check.stdout(contains(command));
    }
    atrous(dir.path()).assert().code(2).stderr(contains("Usage"));
}

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
        "photo and overlay stand beside each other"
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
            "the shares of all classes are the whole image, not {shares}"
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
    std::fs::write(dir.path().join("in/notes.txt"), "no image").unwrap();
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
fn one_bad_image_does_not_stop_the_others_and_is_named() {
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
fn damaged_weights_are_refused_by_name() {
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
fn infer_and_verify_find_the_node_that_was_changed() {
    let dir = directory();
    let file = |name: &str| dir.path().join(name);
    let mut rng = support::Rng(3);
    let input: Vec<f32> = (0..3 * 33 * 41).map(|_| rng.unit()).collect();
    let none = std::collections::BTreeMap::new();
    let dtype = atrous::weights::FloatDType::F32;
    let given = ("input".to_owned(), vec![1, 3, 33, 41], input);
    atrous::weights::write_safetensors(file("x.safetensors"), [given.clone()], &none, dtype)
        .unwrap();
    let args = [
        "infer",
        "-w",
        "tiny.safetensors",
        "-i",
        "x.safetensors",
        "-o",
        "y.safetensors",
        "--keep",
        "stem,aspp,decoder",
    ];
    atrous(dir.path()).args(args).assert().success();

    let out = atrous::weights::WeightFile::open(file("y.safetensors")).unwrap();
    assert_eq!(out.dims("logits"), Some([1, 5, 9, 11].as_slice()));
    assert_eq!(out.dims("logits_full"), Some([1, 5, 33, 41].as_slice()));
    let names: Vec<String> = out.names().map(str::to_owned).collect();
    let read = |name: &String| {
        let (dims, data) = out.read_f32(name).unwrap();
        (name.clone(), dims, data)
    };
    let mut reference: Vec<_> = names.iter().map(read).chain([given]).collect();
    atrous::weights::write_safetensors(file("ok.safetensors"), reference.clone(), &none, dtype)
        .unwrap();
    let verify = |reference: &str| {
        let mut command = atrous(dir.path());
        command.args(["verify", "-w", "tiny.safetensors", "--reference", reference]);
        command.assert()
    };
    verify("ok.safetensors").success().stdout(contains("aspp").and(contains("DIFFERS").not()));

    for (name, _, data) in &mut reference {
        if name == "aspp" || name == "logits" {
            data[5] += 1.0;
        }
    }
    atrous::weights::write_safetensors(file("bad.safetensors"), reference, &none, dtype).unwrap();
    verify("bad.safetensors").code(1).stderr(contains("node `aspp`: the first that differs: 1 of"));
    let args = [
        "infer",
        "-w",
        "tiny.safetensors",
        "-i",
        "x.safetensors",
        "-o",
        "z.safetensors",
        "--keep",
        "asp",
    ];
    atrous(dir.path()).args(args).assert().code(2).stderr(contains("names like it"));
}

#[test]
fn infer_keeps_labels_and_the_logits_of_a_single_pixel() {
    let dir = directory();
    let none = std::collections::BTreeMap::new();
    let dtype = atrous::weights::FloatDType::F32;
    for side in [1, 33] {
        let input: Vec<f32> = (0..3 * side * side).map(|i| (i % 7) as f32 / 3.0 - 1.0).collect();
        let given = ("input".to_owned(), vec![1, 3, side, side], input);
        atrous::weights::write_safetensors(dir.path().join("x.safetensors"), [given], &none, dtype)
            .unwrap();
        let keep = "logits_full,labels,confidence";
        let args = [
            "infer",
            "-w",
            "tiny.safetensors",
            "-i",
            "x.safetensors",
            "-o",
            "y.safetensors",
            "--keep",
            keep,
        ];
        atrous(dir.path()).args(args).assert().success();
        let out = atrous::weights::WeightFile::open(dir.path().join("y.safetensors")).unwrap();
        assert_eq!(out.dims("logits_full"), Some([1, 5, side, side].as_slice()));
        assert_eq!(out.dims("confidence"), Some([1, 1, side, side].as_slice()));
        let (scores, labels) =
            (out.read_f32("logits_full").unwrap().1, out.read_f32("labels").unwrap().1);
        assert_eq!(labels.len(), side * side);
        // The label of the first pixel is its largest score.
        let score = |class: usize| scores[class * side * side];
        assert!((0..5).all(|class| score(class) <= score(labels[0] as usize)), "side {side}");
    }
}

#[test]
fn inspect_says_where_the_auxiliary_head_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = support::models::tiny_config();
    let write = |config: &atrous::models::Config| {
        let weights = support::models::random_weights(config, 5);
        let stored = atrous::weights::dialects::store(config, &weights, "atrous").unwrap();
        let dtype = atrous::weights::FloatDType::F32;
        atrous::weights::write_safetensors(
            dir.path().join("a.safetensors"),
            stored.tensors,
            &stored.metadata,
            dtype,
        )
        .unwrap();
    };
    let inspect = |more: &[&str]| {
        atrous(dir.path())
            .args(["inspect", "a.safetensors", "--size", "65"])
            .args(more)
            .assert()
            .success()
    };
    let json = || -> serde_json::Value {
        serde_json::from_slice(&inspect(&["--json"]).get_output().stdout).unwrap()
    };
    write(&config);
    let without = json();
    inspect(&[]).stdout(contains("auxiliary").not());
    config.head.as_mut().unwrap().aux = Some(atrous::models::Aux { dropout: 0.1 });
    write(&config);
    let with = json();
    let number = |report: &serde_json::Value, name: &str| report[name].as_u64().unwrap();
    let auxiliary = number(&with, "auxiliary_parameters");
    assert!(auxiliary > 0);
    assert_eq!(number(&with, "parameters") - auxiliary, number(&without, "parameters"));
    assert_eq!(with["multi_adds"], without["multi_adds"]);
    let said = inspect(&[]);
    said.stdout(
        contains("of the parameters are the auxiliary head's")
            .and(contains("at 65x65, without the auxiliary head")),
    );
}

#[test]
fn a_preset_size_is_named_and_another_can_be_asked_for() {
    let dir = directory();
    let mut config = support::models::tiny_config();
    config.preprocess.short_side = Some(40);
    let stored = atrous::weights::dialects::store(
        &config,
        &support::models::random_weights(&config, 5),
        "atrous",
    )
    .unwrap();
    let dtype = atrous::weights::FloatDType::F32;
    atrous::weights::write_safetensors(
        dir.path().join("p.safetensors"),
        stored.tensors,
        &stored.metadata,
        dtype,
    )
    .unwrap();
    let segment = |more: &[&str]| {
        let mut command = atrous(dir.path());
        command
            .args(["segment", "a.png", "-w", "p.safetensors", "-s", "mask", "-o", "m.png"])
            .args(more);
        command.assert().success()
    };
    segment(&[]).stderr(contains(
        "size 40 on the short side, the preset in the weights; --size native for the image's own",
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

#[test]
fn import_and_inspect_tell_the_same_network() {
    let dir = directory();
    atrous(dir.path())
        .args(["import", "tiny.safetensors", "half.safetensors", "--dtype", "f16"])
        .assert()
        .success();
    for file in ["tiny.safetensors", "half.safetensors"] {
        let output = atrous(dir.path())
            .args(["inspect", file, "--size", "65", "--json"])
            .assert()
            .success()
            .get_output()
            .stdout
            .clone();
        let report: serde_json::Value =
            serde_json::from_slice(&output).expect("the report is JSON");
        assert_eq!(report["config"]["head"]["classes"], 5);
        assert!(report["multi_adds"].as_u64().unwrap() > 100_000);
    }
    atrous(dir.path())
        .args(["inspect", "tiny.safetensors", "--ops", "--plan", "--size", "65"])
        .assert()
        .success()
        .stdout(
            contains("backbone.stem").and(contains("upsample_argmax")).and(contains("buffers,")),
        );
    let args = ["import", "tiny.safetensors", "gray.safetensors", "--input-channels", "1"];
    atrous(dir.path()).args(args).assert().success();
    atrous(dir.path())
        .args(["inspect", "gray.safetensors", "--ops", "--size", "65"])
        .assert()
        .success()
        .stdout(contains("[1, 33, 33, 8]"));
    // What takes one channel is no network for images, and says so.
    let args = ["segment", "a.png", "-w", "gray.safetensors", "-o", "gray.png"];
    atrous(dir.path()).args(args).assert().failure().stderr(contains("takes 1 channels"));
    atrous(dir.path())
        .args(["export", "tiny.safetensors", "tiny.pth", "--dialect", "atrous"])
        .assert()
        .success();
    atrous(dir.path())
        .args(["inspect", "tiny.pth", "--size", "65"])
        .assert()
        .success()
        .stdout(contains("atrous"));
    atrous(dir.path())
        .args(["import", "tiny.safetensors", "out.txt"])
        .assert()
        .code(2)
        .stderr(contains("out.txt"));
    for (classes, file) in [(5, "five.txt"), (4, "four.txt")] {
        let lines: Vec<String> =
            (0..classes).map(|i| format!("{i} thing{i} {} 2 3", 200 + i)).collect();
        std::fs::write(dir.path().join(file), lines.join("\n")).unwrap();
    }
    let named = |file| ["import", "tiny.safetensors", "named.safetensors", "--class-table", file];
    atrous(dir.path())
        .args(named("four.txt"))
        .assert()
        .failure()
        .stderr(contains("four.txt").and(contains("5 classes but 4 names")));
    atrous(dir.path()).args(named("five.txt")).assert().success();
    let table = atrous::Model::open(dir.path().join("named.safetensors")).unwrap().class_table();
    assert_eq!((table.name(4).as_str(), table.color(4)), ("thing4", [204, 2, 3]));
}

#[test]
fn inspect_tells_of_the_papers_networks_without_weights() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["inspect", "--network", "xception65", "--head", "plus-separable", "--output-stride", "8"];
    let expected =
        contains("176.85 B at 513x513").and(contains("Xception-65")).and(contains("separable"));
    atrous(dir.path()).args(args).assert().success().stdout(expected);
    let args = ["inspect", "--network", "mobilenet_v2", "--head", "phone", "--json"];
    let output = atrous(dir.path()).args(args).assert().success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).expect("the report is JSON");
    assert_eq!(report["config"]["head"]["decoder"], "none");
    assert!(report.get("file").is_none());
    atrous(dir.path())
        .args(["inspect", "--network", "vgg16"])
        .assert()
        .code(2)
        .stderr(contains("resnet101"));
    atrous(dir.path()).arg("inspect").assert().code(2).stderr(contains("<FILE"));
}

#[test]
fn devices_say_what_auto_takes() {
    let dir = tempfile::tempdir().unwrap();
    atrous(dir.path())
        .arg("devices")
        .assert()
        .success()
        .stdout(contains("CPU executor").and(contains("--device auto")));
    let output = atrous(dir.path())
        .args(["devices", "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let report: serde_json::Value = serde_json::from_slice(&output).expect("the list is JSON");
    assert!(report["adapters"].is_array());
    // With an image and weights that are there, so that nothing but the device can be refused.
    let dir = directory();
    let segment = |device: &str| {
        let args = [
            "segment",
            "a.png",
            "-w",
            "tiny.safetensors",
            "--size",
            "33",
            "-s",
            "mask",
            "-o",
            "m.png",
            "--device",
            device,
        ];
        atrous(dir.path()).args(args).assert()
    };
    segment("97").code(1).stderr(contains("97").and(contains("atrous devices")));
    assert!(!dir.path().join("m.png").exists());
    segment("cpu").success();
}

#[test]
fn completions_and_man_pages_come_from_the_definitions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        atrous(dir.path())
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(contains("segment"));
    }
    atrous(dir.path()).args(["man", "pages"]).assert().success();
    let page = std::fs::read_to_string(dir.path().join("pages/atrous-segment.1")).unwrap();
    assert!(page.contains("cutout"));
}

#[test]
fn tuning_is_remembered_in_the_cache_directory_and_needs_a_gpu() {
    let dir = directory();
    let cache = dir.path().join("cache");
    let segment = |device: &str, tune: &str, out: &str| {
        let mut command = atrous(dir.path());
        command.env("ATROUS_CACHE", &cache).env("ATROUS_DEVICE", device).args([
            "segment",
            "a.png",
            "-w",
            "tiny.safetensors",
        ]);
        command.args(["--size", "33", "-s", "mask", "-q", "--tune", tune, "-o", out]);
        command.assert()
    };
    segment("cpu", "on", "cpu.png").success();
    assert!(!cache.exists(), "the processor has nothing to tune");
    segment("cpu", "always", "cpu.png").code(2).stderr(contains("cached"));
    if support::gpu().is_none() {
        return;
    }
    segment("gpu", "cached", "cached.png").success();
    assert!(!cache.exists(), "nothing was measured");
    segment("gpu", "on", "on.png").success();
    let tables = |directory: &Path| -> Vec<_> {
        std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect()
    };
    let table = tables(&cache)
        .into_iter()
        .find(|f| f.extension().is_some_and(|e| e == "json"))
        .expect("a table was written");
    let written = std::fs::read_to_string(&table).unwrap();
    assert!(written.contains("conv2d"), "{written}");
    segment("gpu", "on", "again.png").success();
    assert_eq!(std::fs::read_to_string(&table).unwrap(), written, "nothing is measured twice");
    let mask = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert_eq!(mask("on.png"), mask("again.png"));
}

#[test]
fn bench_measures_a_file_and_a_named_network() {
    let dir = directory();
    let bench = |args: &[&str]| {
        let mut command = atrous(dir.path());
        command.arg("bench").args(args);
        command.assert()
    };
    let json = |args: &[&str]| -> serde_json::Value {
        let output = bench(args).success().get_output().stdout.clone();
        serde_json::from_slice(&output).expect("the report is JSON")
    };
    let args = [
        "-w",
        "tiny.safetensors",
        "--size",
        "65x33",
        "--batch",
        "2",
        "--runs",
        "3",
        "--nodes",
        "--json",
    ];
    let report = json(&args);
    assert_eq!(report["input"], serde_json::to_value(atrous::Shape::new(2, 33, 65, 3)).unwrap());
    assert_eq!((&report["output"], &report["warm"]["runs"]), (&"labels".into(), &3.into()));
    let number = |path: &str| {
        report
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_else(|| panic!("no {path}"))
    };
    let (p10, median, p90) =
        (number("/warm/p10_ms"), number("/warm/median_ms"), number("/warm/p90_ms"));
    assert!(0.0 < p10 && p10 <= median && median <= p90);
    let first = number("/first/graph_ms") + number("/first/ready_ms") + number("/first/run_ms");
    assert!((number("/first/total_ms") - first).abs() < 1e-6);
    assert!((number("/images_per_second") * median / 2e3 - 1.0).abs() < 1e-6, "two images a run");
    let gflops = 2.0 * number("/multi_adds") / median / 1e6;
    assert!(gflops > 0.0 && (number("/gflops") / gflops - 1.0).abs() < 1e-6);
    assert!((number("/share_of_limit") * number("/limit_gflops") / gflops - 1.0).abs() < 1e-6);
    assert!(number("/activation_bytes") > 1e4 && number("/parameter_bytes") > 1e4);
    let nodes = report["nodes"].as_array().unwrap();
    let shares: f64 = nodes.iter().map(|n| n["share"].as_f64().unwrap()).sum();
    assert!(nodes.len() > 20 && (shares - 1.0).abs() < 1e-6, "{} nodes, {shares}", nodes.len());
    assert!(nodes.iter().all(|n| n["kernel"].is_null()), "the processor has no kernels");

    let text = [
        "-w",
        "tiny.safetensors",
        "--size",
        "33",
        "--runs",
        "1",
        "--nodes",
        "2",
        "--output",
        "logits",
    ];
    let lines =
        bench(&text).success().stdout(contains("to `logits`").and(contains("The 2 slowest of")));
    lines.stderr(contains("measuring on CPU executor"));
    let named = json(&[
        "--network",
        "resnet18",
        "--size",
        "17",
        "--runs",
        "1",
        "--json",
        "--output",
        "logits-full",
    ]);
    assert_eq!((&named["network"], &named["output"]), (&"ResNet-18".into(), &"logits_full".into()));
    bench(&["--network", "resnet19"]).code(2).stderr(contains("resnet18"));
    bench(&["--size", "65"]).code(2).stderr(contains("--weights"));
    bench(&["-w", "tiny.safetensors", "--size", "native"]).code(2);
    if support::gpu().is_some() {
        let args = [
            "-w",
            "tiny.safetensors",
            "--size",
            "33",
            "--runs",
            "1",
            "--nodes",
            "--json",
            "--device",
            "gpu",
        ];
        let report = json(&args);
        let nodes = report["nodes"].as_array().unwrap();
        assert!(
            nodes.iter().all(|n| n["kernel"].is_string() && n["ms"].as_f64().unwrap() > 0.0),
            "{nodes:?}"
        );
    }
}

#[test]
fn bench_times_steps_of_training() {
    let dir = directory();
    let bench = |args: &[&str]| {
        atrous(dir.path()).args(["bench", "--train", "-w", "tiny.safetensors"]).args(args).assert()
    };
    let json = |args: &[&str]| -> serde_json::Value {
        let output = bench(args).success().get_output().stdout.clone();
        serde_json::from_slice(&output).expect("the report is JSON")
    };
    let report = json(&["--size", "33", "--batch", "2", "--runs", "2", "--nodes", "--json"]);
    let again = json(&["--size", "33", "--batch", "2", "--runs", "1", "--recompute", "--json"]);
    let more = |of: &str| {
        again.pointer(of).and_then(serde_json::Value::as_u64)
            > report.pointer(of).and_then(serde_json::Value::as_u64)
    };
    assert!(
        more("/multi_adds") && !more("/need/activations") && again["recompute"] == true,
        "{again}"
    );
    let number = |path: &str| {
        report
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_else(|| panic!("no {path}"))
    };
    assert!(
        (number("/images_per_second") * number("/warm/median_ms") / 2e3 - 1.0).abs() < 1e-6,
        "two images a step"
    );
    let bytes = |part: &str| number(&format!("/need/{part}"));
    assert!(
        bytes("activations") > bytes("parameters")
            && bytes("gradients") > 0.0
            && bytes("optimizer") > 0.0,
        "{report}"
    );
    let of = |list: &str, name: &str| {
        report[list].as_array().unwrap().iter().map(|x| x[name].as_f64().unwrap()).sum::<f64>()
    };
    assert!(
        (of("operations", "ms") / of("nodes", "ms") - 1.0).abs() < 1e-6
            && (of("operations", "share") - 1.0).abs() < 1e-6
    );
    let operations: Vec<&str> = report["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["op"].as_str().unwrap())
        .collect();
    for op in
        ["conv2d", "conv2d_weight_grad", "batch_norm_train", "batch_norm_grad", "segmentation_loss"]
    {
        assert!(operations.contains(&op), "{operations:?}");
    }
    bench(&["--size", "17", "--runs", "1", "--nodes", "1"])
        .success()
        .stdout(contains("By operation").and(contains("optimizer")));
    bench(&["--output", "labels"]).code(2).stderr(contains("cannot be used with"));
}
