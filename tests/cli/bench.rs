//! `bench`: its report for inference and for training.

use crate::{atrous, directory, support};
use predicates::prelude::*;
use predicates::str::contains;

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
    assert_eq!(
        report["input"],
        serde_json::to_value(atrous::engine::Shape::new(2, 33, 65, 3)).unwrap()
    );
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
    assert!(nodes.iter().all(|n| n["kernel"].is_null()), "the CPU has no kernels");

    let text = [
        "-w",
        "tiny.safetensors",
        "--size",
        "33",
        "--runs",
        "1",
        "--nodes",
        "2",
        "--compute",
        "logits",
    ];
    let lines =
        bench(&text).success().stdout(contains("to `logits`").and(contains("The 2 slowest of")));
    lines.stderr(contains("device: CPU executor"));
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
    let increased = |path: &str| {
        again.pointer(path).and_then(serde_json::Value::as_u64)
            > report.pointer(path).and_then(serde_json::Value::as_u64)
    };
    assert!(
        increased("/multi_adds") && !increased("/need/activations") && again["recompute"] == true,
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
    let bytes = |category: &str| number(&format!("/need/{category}"));
    assert!(
        bytes("activations") > bytes("parameters")
            && bytes("gradients") > 0.0
            && bytes("optimizer") > 0.0,
        "{report}"
    );
    let sum = |list: &str, name: &str| {
        report[list].as_array().unwrap().iter().map(|x| x[name].as_f64().unwrap()).sum::<f64>()
    };
    assert!(
        (sum("operations", "ms") / sum("nodes", "ms") - 1.0).abs() < 1e-6
            && (sum("operations", "share") - 1.0).abs() < 1e-6
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
