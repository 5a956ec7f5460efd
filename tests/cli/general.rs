//! Help, completions, man pages, devices and the tuning cache.

use crate::{atrous, directory};
use predicates::prelude::*;
use predicates::str::contains;
use std::path::Path;

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
fn devices_reports_the_choice_of_auto() {
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
    // The image and the weights exist, so that only the device can cause an error.
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

/// Segments `a.png` in `dir` with a cache of kernel choices.
fn segment_tuned(dir: &Path, device: &str, tune: &str, out: &str) -> assert_cmd::assert::Assert {
    let mut command = atrous(dir);
    command.env("ATROUS_CACHE", dir.join("cache")).env("ATROUS_DEVICE", device);
    command.args(["segment", "a.png", "-w", "tiny.safetensors", "--size", "33", "-s", "mask"]);
    command.args(["-q", "--tune", tune, "-o", out]).assert()
}

#[test]
fn on_the_cpu_nothing_is_tuned() {
    let dir = directory();
    let segment = |tune: &str| segment_tuned(dir.path(), "cpu", tune, "cpu.png");
    segment("on").success();
    assert!(!dir.path().join("cache").exists());
    segment("always").code(2).stderr(contains("cached"));
}

/// On a software adapter the kernels take a minute or two to compile.
#[test]
#[cfg_attr(not(has_gpu), ignore = "needs a GPU adapter")]
#[cfg_attr(has_gpu, ignore = "slow: compiles every kernel of a network")]
fn tuning_is_remembered_in_the_cache_directory() {
    let dir = directory();
    let cache = dir.path().join("cache");
    let segment = |tune: &str, out: &str| segment_tuned(dir.path(), "gpu", tune, out);
    segment("cached", "cached.png").success();
    assert!(!cache.exists(), "nothing was measured");
    segment("on", "on.png").success();
    let tables = |directory: &Path| -> Vec<_> {
        std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect()
    };
    let table = tables(&cache)
        .into_iter()
        .find(|f| f.extension().is_some_and(|e| e == "json"))
        .expect("a table was written");
    let written = std::fs::read_to_string(&table).unwrap();
    assert!(written.contains("conv2d"), "{written}");
    segment("on", "again.png").success();
    assert_eq!(std::fs::read_to_string(&table).unwrap(), written, "nothing is measured twice");
    let mask = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert_eq!(mask("on.png"), mask("again.png"));
}
