//! Outputs in places where they would destroy an input, or cannot be written.
#![cfg(unix)]

use crate::{atrous, directory};
use predicates::prelude::*;
use predicates::str::contains;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a shell script in `directory`, in which `$0` is the program.
fn shell(directory: &Path, script: &str) -> assert_cmd::assert::Assert {
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", script]).arg(assert_cmd::cargo::cargo_bin("atrous"));
    command.current_dir(directory).env("ATROUS_DEVICE", "cpu").env("NO_COLOR", "1");
    command.assert()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn standard_output_that_is_the_input_is_refused() {
    let dir = directory();
    let mut video = b"YUV4MPEG2 W8 H8 F25:1 C444\nFRAME\n".to_vec();
    video.extend([90; 3 * 64]);
    fs::write(dir.path().join("a.y4m"), &video).unwrap();
    for redirection in [">>a.y4m", "1<>a.y4m"] {
        let script =
            format!("\"$0\" segment a.y4m -w tiny.safetensors --size 33 -o - {redirection}");
        shell(dir.path(), &script).code(2).stderr(contains("is an input (a.y4m)"));
        assert_eq!(fs::read(dir.path().join("a.y4m")).unwrap(), video, "{redirection}");
    }
}

#[test]
fn a_playlist_is_not_read_as_a_video() {
    let dir = directory();
    fs::write(dir.path().join("list.mkv"), "ffconcat version 1.0\nfile a.mp4\n").unwrap();
    let mut command = atrous(dir.path());
    command.args(["segment", "list.mkv", "-w", "tiny.safetensors", "-o", "a.mp4"]);
    command.assert().code(2).stderr(contains("list.mkv: is a playlist"));
}

#[test]
fn a_run_does_not_replace_its_own_inputs() {
    let dir = directory();
    fs::create_dir(dir.path().join("run")).unwrap();
    for (name, option) in [("report.html", "--class-table"), ("recipe.toml", "--recipe")] {
        let path = format!("run/{name}");
        let content = if option == "--recipe" { "steps = 1\n" } else { "0 sky 1 2 3\n" };
        fs::write(dir.path().join(&path), content).unwrap();
        let mut command = atrous(dir.path());
        command.args(["train", "--data", "none", option, &path, "-o", "run"]);
        command.assert().code(2).stderr(contains("would be replaced by the run's"));
        assert_eq!(fs::read_to_string(dir.path().join(&path)).unwrap(), content);
    }
}

/// The signal of a file size limit would end the program and leave a temporary file behind; the
/// writer of zip archives would print its own error in addition.
#[test]
fn a_file_size_limit_is_one_error_and_leaves_nothing_behind() {
    let dir = directory();
    let before = names(dir.path());
    for output in ["o.safetensors", "o.pth"] {
        let script = format!("ulimit -f 8; \"$0\" import tiny.safetensors {output}");
        shell(dir.path(), &script)
            .code(1)
            .stderr(contains("could not be written").and(contains("\n").count(1)));
        assert_eq!(names(dir.path()), before);
    }
}

#[test]
fn a_fifo_without_a_reader_does_not_delay_the_exit() {
    let dir = directory();
    let made = Command::new("mkfifo").arg(dir.path().join("f.png")).status().unwrap();
    assert!(made.success());
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("atrous"))
        .args(["segment", "a.png", "-w", "tiny.safetensors", "-q", "-o", "f.png"])
        .current_dir(dir.path())
        .env("ATROUS_DEVICE", "cpu")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "it waits for a reader");
    let signaled = Instant::now();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    while child.try_wait().unwrap().is_none() {
        if signaled.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("still running 20 s after the signal");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
