//! Names of networks: what happens where there is no connection, no such name, no image.

use super::command::{VOC, hub, program};
use super::server::{Hub, Request};
use predicates::prelude::*;
use predicates::str::contains;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Everything that can be done instead of a download.
const ALTERNATIVES: [&str; 4] = ["a file", "hf:OWNER/NAME", "`atrous models`", VOC];

/// A port of this machine that refuses connections.
fn unreachable() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{free}")
}

/// Runs `segment` on a terminal and answers its question. Returns the exit code and what was printed.
fn on_a_terminal(hub: &Hub, directory: &Path, arguments: &str, answer: &str) -> (i32, String) {
    use std::io::Write;
    let program = env!("CARGO_BIN_EXE_atrous");
    let mut child = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &format!("'{program}' {arguments}"),
            "/dev/null",
        ])
        .current_dir(directory)
        .env("HF_ENDPOINT", &hub.url)
        .env("HF_HOME", directory.join("home"))
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("ATROUS_DEVICE", "cpu")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}");
    (output.status.code().unwrap(), printed)
}

/// The message was about the connection alone, useless with an empty cache.
#[test]
fn without_a_connection_the_alternatives_are_listed() {
    let (mut hub, directory) = hub();
    hub.url = unreachable();
    let failed = program(&hub, directory.path())
        .args(["segment", "a.png", "--yes"])
        .assert()
        .code(2)
        .stderr(contains("no --weights").and(contains("no connection to")))
        // What is known without the hub comes first.
        .stderr(contains("size     about 10 MB").and(contains("license  other")));
    let failed = ALTERNATIVES.iter().fold(failed, |failed, text| failed.stderr(contains(*text)));
    #[cfg(not(is_package))]
    let failed = failed.stderr(contains("`street`, which is on this machine"));
    drop(failed);
    // A network that was named is no matter of usage.
    let failed = program(&hub, directory.path())
        .args(["segment", "a.png", "--weights", "person"])
        .assert()
        .code(1)
        .stderr(contains("the network `person` is not in the cache"));
    ALTERNATIVES[..3].iter().fold(failed, |failed, text| failed.stderr(contains(*text)));
}

#[cfg_attr(not(has_script), ignore = "needs `script` of util-linux")]
#[test]
fn without_a_connection_the_alternatives_are_listed_on_a_terminal_too() {
    let (mut hub, directory) = hub();
    hub.url = unreachable();
    let (code, printed) = on_a_terminal(&hub, directory.path(), "segment a.png", "y\n");
    assert_eq!(code, 2);
    for text in ALTERNATIVES.into_iter().chain(["size     about 10 MB", "license  other"]) {
        assert!(printed.contains(text), "no `{text}`");
    }
    assert!(!printed.contains("Download it?"), "there is nothing to download from");
}

/// The shipped network needs no settings of a hub.
#[cfg_attr(is_package, ignore = "the package has no weights")]
#[test]
fn the_shipped_network_is_used_whatever_the_hub() {
    let (mut hub, directory) = hub();
    hub.url = "no address".to_owned();
    program(&hub, directory.path()).args(["inspect", "street"]).assert().success();
}

/// `--weights voc` contacted the hub without the question that plain `segment` asks.
#[cfg_attr(not(has_script), ignore = "needs `script` of util-linux")]
#[test]
fn a_short_name_is_asked_about_on_a_terminal() {
    for arguments in ["segment a.png --weights voc", "segment a.png", "inspect voc"] {
        let (hub, directory) = hub();
        let run = |more: &str, answer: &str| {
            on_a_terminal(&hub, directory.path(), &format!("{arguments}{more}"), answer)
        };
        let (code, printed) = run("", "n\n");
        assert!(code != 0 && printed.contains("Download it?"), "{arguments}: {code}");
        assert!(printed.contains("the download was declined"), "{arguments}");
        assert!(!hub.seen().iter().any(Request::is_content), "{arguments}");
        let (code, printed) = run(" --yes", "");
        assert!(code == 0 && !printed.contains("Download it?"), "{arguments}: {code}");
        assert!(hub.seen().iter().any(Request::is_content), "{arguments}");
        let (code, printed) = run("", "");
        assert!(code == 0 && !printed.contains("Download it?"), "{arguments}: {code}");
    }
}

/// `--weights person --yes` was a usage error.
#[test]
fn yes_is_accepted_wherever_a_name_may_be_downloaded() {
    let (hub, directory) = hub();
    let run = || program(&hub, directory.path());
    run()
        .args(["segment", "a.png", "--weights", "voc", "--yes", "-o", "out.png"])
        .assert()
        .success();
    run().args(["inspect", "hf:own/net", "--yes"]).assert().success();
    run().args(["import", "voc", "imported.safetensors", "-y"]).assert().success();
    for command in ["train", "eval", "export", "infer", "verify", "bench"] {
        run().args([command, "--help"]).assert().success().stdout(contains("-y, --yes"));
    }
    let own = predicates::str::starts_with("Segment images and videos");
    run().args(["segment", "--help"]).assert().success().stdout(own);
}

/// The error was that no such file could be opened, and did not mention the names.
#[test]
fn a_name_that_is_neither_a_file_nor_a_network_lists_the_names() {
    let (hub, directory) = hub();
    let run = |name: &str| {
        program(&hub, directory.path()).args(["segment", "a.png", "--weights", name]).assert()
    };
    for (name, meant) in [("stret", "street"), ("VOC", "voc"), ("persons", "person")] {
        run(name)
            .code(2)
            .stderr(contains(format!("`{name}` is neither a file nor the short name")))
            .stderr(contains(format!("did you mean `{meant}`?")))
            .stderr(contains("voc, person, street").and(contains("`atrous models`")));
    }
    run("camvid").code(2).stderr(contains("voc, person, street").and(contains("mean").not()));
    // What looks like a file is one.
    for name in ["stret.pth", "./stret"] {
        run(name).code(1).stderr(contains(name).and(contains("could not be opened")));
    }
    // The prefix of TensorFlow's checkpoints is no file of that name.
    fs::write(directory.path().join("stret.index"), "").unwrap();
    run("stret").code(1);
    assert!(hub.seen().is_empty());
}

/// Without weights, the first message was about a download.
#[test]
fn a_missing_image_is_reported_before_a_download() {
    let (hub, directory) = hub();
    for inputs in [&["nothere.jpg"][..], &["nothere.jpg", "norhere.png"]] {
        program(&hub, directory.path())
            .arg("segment")
            .args(inputs)
            .assert()
            .code(1)
            .stderr(contains("nothere.jpg: could not be opened").and(contains("--weights").not()));
    }
    assert!(hub.seen().is_empty());
}

/// `segment --weights street` did not mention that the license excludes commercial use.
#[test]
fn a_network_by_name_comes_with_its_license() {
    let (hub, directory) = hub();
    let run = |more: &[&str]| {
        let mut command = program(&hub, directory.path());
        command.args(["segment", "a.png", "-w", "voc", "-o", "out.png"]).args(more);
        command.assert().success()
    };
    run(&["--quiet"]);
    run(&[]).stderr(contains(format!("weights: voc (hf:{VOC}), license: other")));
    run(&["--quiet"]).stdout("").stderr("");
    let output = run(&["--json"]).stderr("").get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["license"], "other (see the source)");
    #[cfg(not(is_package))]
    for arguments in [&["segment", "a.png", "-w", "street"][..], &["inspect", "street"]] {
        program(&hub, directory.path())
            .args(arguments)
            .assert()
            .success()
            .stderr(contains("license: CC BY-NC 4.0, not for commercial use"));
    }
    let args = ["segment", "a.png", "-w", "tiny.safetensors", "--json"];
    let output = program(&hub, directory.path()).args(args).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.get("license").is_none() && report.get("threshold").is_none(), "{report}");
}

/// The same warning came once for each network.
#[test]
fn a_hub_out_of_reach_is_reported_once() {
    let (mut hub, directory) = hub();
    hub.url = unreachable();
    let run = |offline: &str| {
        let mut command = program(&hub, directory.path());
        let output = command.args(["models", "--online"]).env("HF_HUB_OFFLINE", offline).output();
        let output = output.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (offline, text) in [("0", "no connection to"), ("1", "HF_HUB_OFFLINE is set")] {
        let warnings = run(offline);
        assert!(
            warnings.contains(text) && warnings.matches("warning: ").count() == 1,
            "{warnings}"
        );
    }
}
