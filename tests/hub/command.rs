//! Weights by name on the command line.

use super::server::{Body, FIRST, Hub, Reply, Request, SECOND, sha256};
use super::support::command::{atrous, directory};
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

pub const VOC: &str = "google/deeplabv3_mobilenet_v2_1.0_513";

/// A hub with the tiny network as `own/net` and as the network for general photos, and a directory
/// with an image and `tiny.safetensors`.
pub fn hub() -> (Hub, TempDir) {
    let directory = directory();
    let content = fs::read(directory.path().join("tiny.safetensors")).unwrap();
    let hub = Hub::start();
    for repository in [VOC, "own/net"] {
        hub.commit(repository, "main", FIRST, &[("model.safetensors", &content)]);
    }
    (hub, directory)
}

/// The program with the hub, and a cache in the directory.
pub fn program(hub: &Hub, directory: &Path) -> Command {
    let mut command = atrous(directory);
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"]
        .into_iter()
        .chain(["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE", "SSL_CERT_FILE"])
    {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &hub.url).env("HF_HOME", directory.join("home"));
    command.env("NO_PROXY", "127.0.0.1,localhost");
    command
}

#[test]
fn a_short_name_is_a_network_of_the_list() {
    let (hub, directory) = hub();
    let run = || program(&hub, directory.path());
    run()
        .args(["segment", "a.png", "--weights", "voc", "-o", "out.png"])
        .assert()
        .success()
        .stderr(contains(format!("source   {}/{VOC}, third-party", hub.url)))
        .stderr(contains("license  other").and(contains("file     model.safetensors, ")))
        .stderr(contains("downloading model.safetensors ("));
    assert!(directory.path().join("out.png").exists());
    // From now on neither a question nor a connection is needed.
    hub.seen();
    run()
        .args(["segment", "a.png", "--weights", "voc", "-o", "out.png"])
        .assert()
        .success()
        .stderr(contains("downloading").not());
    run()
        .args(["segment", "a.png", "-o", "out.png"])
        .assert()
        .success()
        .stderr(contains(format!("weights: voc (hf:{VOC})")));
    assert!(hub.seen().is_empty());
}

#[test]
fn a_file_with_the_name_of_a_network_is_meant() {
    let (hub, directory) = hub();
    fs::copy(directory.path().join("tiny.safetensors"), directory.path().join("voc")).unwrap();
    program(&hub, directory.path())
        .args(["segment", "a.png", "--weights", "voc", "-o", "out.png"])
        .assert()
        .success()
        .stderr(contains(format!(
            "note: `voc` is a file here; for the network of that name pass hf:{VOC}"
        )));
    assert!(hub.seen().is_empty());
    // A data set of that name is no weight file.
    fs::remove_file(directory.path().join("voc")).unwrap();
    fs::create_dir(directory.path().join("voc")).unwrap();
    program(&hub, directory.path()).args(["inspect", "voc"]).assert().success();
}

#[test]
fn without_weights_nothing_is_downloaded_unasked() {
    let (hub, directory) = hub();
    let run = || program(&hub, directory.path());
    run()
        .args(["segment", "a.png"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(contains("no --weights").and(contains("there is no terminal to ask on")))
        .stderr(contains("--yes").and(contains(VOC)).and(contains("atrous models")));
    run()
        .args(["segment", "a.png", "--yes"])
        .env("HF_HUB_OFFLINE", "1")
        .assert()
        .code(2)
        .stderr(contains("HF_HUB_OFFLINE is set").and(contains("hf:OWNER/NAME")));
    assert!(hub.seen().is_empty() && !directory.path().join("home").exists());
    run()
        .args(["segment", "a.png", "--yes"])
        .assert()
        .success()
        .stderr(contains("license  other").and(contains("model.safetensors, ")));
    assert!(directory.path().join("a-overlay.png").exists());
    run().args(["segment", "a.png"]).env("HF_HUB_OFFLINE", "1").assert().success();
}

#[test]
fn every_command_takes_a_name() {
    let (hub, directory) = hub();
    let name = "hf:own/net";
    let cases: [&[&str]; 5] = [
        &["inspect", name],
        &["import", name, "imported.safetensors"],
        &["export", name, "exported.safetensors", "--dialect", "atrous"],
        &["bench", "-w", name, "--size", "33", "--runs", "1"],
        &["inspect", "hf:own/net@main/model.safetensors"],
    ];
    for args in cases {
        program(&hub, directory.path()).args(args).assert().success();
    }
    program(&hub, directory.path())
        .args(["infer", "-w", name, "-i", "none.safetensors", "-o", "out.safetensors"])
        .assert()
        .failure()
        .stderr(contains("none.safetensors"));
    let missing = "hf:own/nothing";
    for args in [
        &["eval", "-w", missing, "--data", "."][..],
        &["verify", "-w", missing, "-r", "x"],
        &["train", "--data", ".", "--init", missing, "-o", "run"],
        &["infer", "-w", missing, "-i", "x", "-o", "y"],
    ] {
        program(&hub, directory.path())
            .args(args)
            .assert()
            .code(1)
            .stderr(contains("has no repository `own/nothing`"));
    }
    program(&hub, directory.path())
        .args(["inspect", "hf:own"])
        .assert()
        .code(2)
        .stderr(contains("hf:OWNER/NAME@REVISION/FILE"));
}

#[test]
fn the_token_file_is_read_and_the_token_is_never_printed() {
    let (hub, directory) = hub();
    fs::create_dir(directory.path().join("home")).unwrap();
    fs::write(directory.path().join("home/token"), "hf_secret\n").unwrap();
    let run = || program(&hub, directory.path());
    let output = run().args(["-vvv", "inspect", "hf:own/net"]).output().unwrap();
    assert!(output.status.success());
    let printed = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&printed).contains("hf_secret"));
    let token = |r: &Request| r.header("authorization").map(str::to_owned);
    let seen = hub.seen();
    assert!(seen.iter().any(|r| token(r).as_deref() == Some("Bearer hf_secret")));
    assert!(seen.iter().filter(|r| r.at_storage).all(|r| token(r).is_none()));
    // The variable comes first, and both can be switched off.
    fs::remove_dir_all(directory.path().join("home/hub")).unwrap();
    run().args(["inspect", "hf:own/net"]).env("HF_TOKEN", "hf_other").assert().success();
    assert_eq!(token(&hub.seen()[0]).as_deref(), Some("Bearer hf_other"));
    run()
        .args(["inspect", "hf:own/net"])
        .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        .assert()
        .success();
    assert_eq!(token(&hub.seen()[0]), None);
}

#[test]
fn the_list_names_what_is_here_and_what_is_third_party() {
    let (hub, directory) = hub();
    let run = || program(&hub, directory.path());
    run()
        .arg("models")
        .assert()
        .success()
        .stdout(contains("third-party").and(contains("not downloaded")).and(contains("street")));
    assert!(hub.seen().is_empty(), "a list is no reason for a connection");
    run().args(["inspect", "voc"]).assert().success();
    let output = run().args(["models", "--json"]).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| {
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["weights"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let size = fs::metadata(directory.path().join("tiny.safetensors")).unwrap().len();
    assert_eq!(row("voc")["bytes"], size);
    assert_eq!(row("voc")["third_party"], true);
    assert_eq!(row("voc")["default"], true);
    assert_eq!(row("street")["third_party"], false);
    assert_eq!(row("hf:timm/xception65.tf_in1k")["bytes"], serde_json::Value::Null);
    // The others are not on this hub, which is a warning and no failure.
    run().args(["models", "--online"]).assert().success().stderr(contains("has no repository"));
}

#[cfg_attr(is_package, ignore = "the package has no weights")]
#[test]
fn the_shipped_network_needs_no_hub() {
    let (hub, directory) = hub();
    program(&hub, directory.path())
        .args(["inspect", "street"])
        .assert()
        .success()
        .stdout(contains("camvid-mobilenetv2.safetensors"));
    assert!(hub.seen().is_empty());
}

#[test]
fn two_processes_download_a_file_once() {
    let (hub, directory) = hub();
    hub.hook(|r| {
        if r.is_content() {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        None
    });
    let run = || program(&hub, directory.path()).args(["inspect", "hf:own/net"]).output().unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().unwrap())
    });
    assert!(one.status.success() && other.status.success());
    let waited = [&one, &other].map(|output| {
        String::from_utf8_lossy(&output.stderr).contains("waiting for another process")
    });
    assert!(waited[0] != waited[1], "{one:?} {other:?}");
    assert_eq!(hub.seen().iter().filter(|r| r.is_content()).count(), 1);
}

/// The size of a file that appears, once it has at least that many bytes.
#[cfg(unix)]
fn grows_to(path: &Path, least: u64) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::metadata(path).is_ok_and(|meta| meta.len() >= least)
    })
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_has_arrived() {
    let (hub, directory) = hub();
    let content = fs::read(directory.path().join("tiny.safetensors")).unwrap();
    let (part, length) = (content[..50_000].to_vec(), content.len());
    hub.hook(move |r| {
        let stalled = Body::Stall(part.clone(), length);
        r.is_content().then(|| Reply { body: stalled, ..Reply::new(200) })
    });
    let partial = directory
        .path()
        .join(format!("home/hub/models--own--net/blobs/{}.incomplete", sha256(&content)));
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_atrous"))
        .args(["inspect", "hf:own/net"])
        .current_dir(directory.path())
        .env("HF_ENDPOINT", &hub.url)
        .env("HF_HOME", directory.path().join("home"))
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(grows_to(&partial, 50_000));
    let kill =
        std::process::Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert_eq!(fs::metadata(&partial).unwrap().len(), 50_000);
    hub.unhook();
    hub.seen();
    program(&hub, directory.path())
        .args(["inspect", "hf:own/net"])
        .assert()
        .success()
        .stderr(contains("resumed after 49 KiB"));
    let ranges: Vec<_> = hub.seen().into_iter().filter(Request::is_content).collect();
    assert_eq!(ranges[0].header("range"), Some("bytes=50000-"));
}

#[test]
fn an_outdated_file_is_used_with_a_warning_where_the_hub_is_out_of_order() {
    let (hub, directory) = hub();
    let run = || program(&hub, directory.path());
    run().args(["inspect", "hf:own/net"]).assert().success();
    hub.commit("own/net", "main", SECOND, &[("model.safetensors", b"newer")]);
    hub.hook(|_| Some(Reply::new(500)));
    run()
        .args(["inspect", "hf:own/net"])
        .assert()
        .success()
        .stderr(contains("warning: ").and(contains("there may be a newer version")));
}
