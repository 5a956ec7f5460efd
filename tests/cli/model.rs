//! Commands on weight files: `infer`, `verify`, `inspect`, `import`, `export`.

use crate::support::models::{tiny_config, write_network};
use crate::{atrous, directory, support};
use predicates::prelude::*;
use predicates::str::contains;

#[test]
fn verify_finds_the_modified_node() {
    let dir = directory();
    let file = |name: &str| dir.path().join(name);
    let mut rng = support::Rng(3);
    let input: Vec<f32> = (0..3 * 33 * 41).map(|_| rng.unit()).collect();
    let none = std::collections::BTreeMap::new();
    let dtype = atrous::engine::weights::FloatDType::F32;
    let input = ("input".to_owned(), vec![1, 3, 33, 41], input);
    atrous::engine::weights::write_safetensors(
        file("x.safetensors"),
        [input.clone()],
        &none,
        dtype,
    )
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

    let out = atrous::engine::weights::WeightFile::open(file("y.safetensors")).unwrap();
    assert_eq!(out.dims("logits"), Some([1, 5, 9, 11].as_slice()));
    assert_eq!(out.dims("logits_full"), Some([1, 5, 33, 41].as_slice()));
    let names: Vec<String> = out.names().map(str::to_owned).collect();
    let read = |name: &String| {
        let (dims, data) = out.read_f32(name).unwrap();
        (name.clone(), dims, data)
    };
    let mut reference: Vec<_> = names.iter().map(read).chain([input]).collect();
    atrous::engine::weights::write_safetensors(
        file("ok.safetensors"),
        reference.clone(),
        &none,
        dtype,
    )
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
    atrous::engine::weights::write_safetensors(file("bad.safetensors"), reference, &none, dtype)
        .unwrap();
    verify("bad.safetensors")
        .code(1)
        .stderr(contains("node `aspp`: is the first that differs: 1 of"));
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
    let dtype = atrous::engine::weights::FloatDType::F32;
    for side in [1, 33] {
        let input: Vec<f32> = (0..3 * side * side).map(|i| (i % 7) as f32 / 3.0 - 1.0).collect();
        let input = ("input".to_owned(), vec![1, 3, side, side], input);
        atrous::engine::weights::write_safetensors(
            dir.path().join("x.safetensors"),
            [input],
            &none,
            dtype,
        )
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
        let out =
            atrous::engine::weights::WeightFile::open(dir.path().join("y.safetensors")).unwrap();
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
fn inspect_counts_the_auxiliary_head_separately() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny_config();
    let write = |config: &atrous::engine::models::Config| {
        write_network(&dir.path().join("a.safetensors"), config, 5);
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
    config.head.as_mut().unwrap().aux = Some(atrous::engine::models::Aux { dropout: 0.1 });
    write(&config);
    let with = json();
    let number = |report: &serde_json::Value, name: &str| report[name].as_u64().unwrap();
    let auxiliary = number(&with, "auxiliary_parameters");
    assert!(auxiliary > 0);
    assert_eq!(number(&with, "parameters") - auxiliary, number(&without, "parameters"));
    assert_eq!(with["multi_adds"], without["multi_adds"]);
    inspect(&[]).stdout(
        contains("of the parameters in the auxiliary head")
            .and(contains("at 65x65, without the auxiliary head")),
    );
}

#[test]
fn import_and_inspect_report_the_same_network() {
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
    // A network with one input channel cannot segment images.
    let args = ["segment", "a.png", "-w", "gray.safetensors", "-o", "gray.png"];
    atrous(dir.path()).args(args).assert().failure().stderr(contains("expects 1 input channels"));
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
        .stderr(contains("four.txt").and(contains("expected 5 class names, got 4")));
    atrous(dir.path()).args(named("five.txt")).assert().success();
    let table = atrous::Model::open(dir.path().join("named.safetensors")).unwrap().class_table();
    assert_eq!((table.name(4).as_str(), table.color(4)), ("thing4", [204, 2, 3]));
}

#[test]
fn inspect_describes_the_papers_networks_without_weights() {
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
    atrous(dir.path()).arg("inspect").assert().code(2).stderr(contains("<WEIGHTS"));
}

/// `short:N` needs an image; taken for a square, it measured something else without a word.
#[test]
fn a_size_that_needs_an_image_is_refused_where_there_is_none() {
    let dir = directory();
    for command in ["inspect", "bench"] {
        for (size, message) in [("short:64", "expected a size"), ("0x5", "use one side")] {
            atrous(dir.path())
                .args([command, "--network", "mobilenet_v2_0.35", "--size", size])
                .assert()
                .code(2)
                .stderr(contains(message));
        }
    }
}

/// A training checkpoint was reported as misshapen tensors, and a directory only as a directory.
#[test]
fn weights_that_are_a_checkpoint_or_a_directory_are_refused_with_the_file_to_pass() {
    let dir = directory();
    let run = dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let config = tiny_config();
    let metadata = [("atrous.config", config.to_json()), ("atrous.progress", "{}".to_owned())]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let tensors = [("weights.logits.bias".to_owned(), vec![1, 1, 1, 5], vec![0.0f32; 5])];
    let dtype = atrous::engine::weights::FloatDType::F32;
    let file = run.join("checkpoint.safetensors");
    atrous::engine::weights::write_safetensors(file, tensors, &metadata, dtype).unwrap();
    let refused = |args: &[&str], text: &str| {
        atrous(dir.path()).args(args).assert().failure().stderr(contains(text));
    };
    refused(
        &["inspect", "run/checkpoint.safetensors"],
        "run/checkpoint.safetensors: the file is a training checkpoint, for `atrous train --resume`; best.safetensors and last.safetensors",
    );
    let segment = |weights| ["segment", "a.png", "-o", "b.png", "-w", weights];
    refused(&segment("run/checkpoint.safetensors"), "is a training checkpoint");
    refused(&segment("run"), "run: is a directory; pass a weight file");
    for name in ["pytorch_model.bin", "model.safetensors", "best.safetensors"] {
        std::fs::write(run.join(name), "").unwrap();
        refused(&segment("run"), &format!("pass the weight file in it: run/{name}"));
    }
}

/// Files with their own config, and pickled ones, showed none of these lines.
#[test]
fn inspect_lists_what_every_file_states_with_its_source_and_the_single_output() {
    let dir = directory();
    let inspect = |file: &str| {
        let output = atrous(dir.path()).args(["inspect", file, "--size", "65"]).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let text = inspect("tiny.safetensors");
    for line in ["trained output stride", "aligned corners", "padding", "preprocessing"] {
        let line = text.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.ends_with("(the weight file)"), "{line}");
    }
    assert!(text.contains("softmax (the weight file)") && !text.contains("threshold"), "{text}");

    let mut config = tiny_config();
    let head = config.head.as_mut().unwrap();
    (head.classes, head.activation) = (2, atrous::engine::models::OutputActivation::Sigmoid);
    head.class_names.clear();
    head.class_colors.clear();
    write_network(&dir.path().join("binary.safetensors"), &config, 5);
    let text = inspect("binary.safetensors");
    assert!(text.contains("2 (one sigmoid output, threshold 0.5)"), "{text}");
    assert!(text.contains("sigmoid (the weight file)"), "{text}");
}
