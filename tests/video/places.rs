//! Inputs and outputs of `atrous segment`: no output replaces an input, and all kinds of names
//! work.

use super::command::{atrous, directory, segment};
use super::*;
use predicates::prelude::*;
use predicates::str::contains;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Returns all files below a directory with their content.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    files
}

/// Checks that the arguments are refused as a usage error and no file is changed or created.
fn refused(directory: &Path, arguments: &[&str], reason: &str) {
    let before = contents(directory);
    segment(directory, arguments).write_stdin("").assert().code(2).stderr(contains(reason));
    assert!(contents(directory) == before, "{arguments:?} changed a file");
}

#[test]
fn a_result_never_replaces_another_input_of_the_call() {
    let dir = directory();
    for (name, number) in [("a.png", 1), ("a-overlay.png", 2), ("b.png", 3)] {
        numbered(45, 35, number).save(dir.path().join(name)).unwrap();
    }
    let reason = "a-overlay.png: is an input and would be replaced by the overlay of a.png; name another output with -o";
    refused(dir.path(), &["a.png", "a-overlay.png"], reason);
    refused(dir.path(), &["*.png"], reason);
    refused(dir.path(), &["."], "a-overlay.png: is an input");
    refused(dir.path(), &[".", "-o", "."], "is an input and would be replaced");
    refused(dir.path(), &["a.png", "b.png", "-o", "./"], "a.png: is an input");
    refused(dir.path(), &["a.png", "a-later.png", "-s", "mask", "-o", "."], "is an input");
    segment(dir.path(), &["a.png"]).arg("-o").arg("out.png").assert().success();
    segment(dir.path(), &["a.png"])
        .arg("-o")
        .arg("out.png")
        .assert()
        .success()
        .stderr(contains("error").not());
}

#[test]
fn files_beside_the_results_replace_no_input_either() {
    let dir = directory();
    numbered(45, 35, 1).save(dir.path().join("a.png")).unwrap();
    std::fs::copy(
        dir.path().join("tiny.safetensors"),
        dir.path().join("x.probabilities.safetensors"),
    )
    .unwrap();
    let before = contents(dir.path());
    let mut command = atrous(dir.path());
    command.args([
        "segment",
        "a.png",
        "-w",
        "x.probabilities.safetensors",
        "--probabilities",
        "-o",
        "x.png",
    ]);
    command
        .assert()
        .code(2)
        .stderr(contains("is the weight file and would be replaced by the probabilities of a.png"));
    std::fs::write(dir.path().join("t.png"), "0 a\n1 b\n2 c\n3 d\n4 e\n").unwrap();
    segment(dir.path(), &["a.png", "--class-table", "t.png", "-o", "t.png"])
        .assert()
        .code(2)
        .stderr(contains("is the class table"));
    std::fs::remove_file(dir.path().join("t.png")).unwrap();
    assert!(contents(dir.path()) == before);
    segment(dir.path(), &["a.png", "--probabilities", "-o", "y.png"]).assert().success();
    assert!(dir.path().join("y.probabilities.safetensors").exists(), "where the check expects it");
}

#[test]
fn numbered_frames_are_never_replaced_by_their_own_masks() {
    let dir = directory();
    for directory in ["fz", "shots"] {
        std::fs::create_dir(dir.path().join(directory)).unwrap();
    }
    for number in 3..7 {
        numbered(45, 35, number).save(dir.path().join(format!("fz/{number:06}.png"))).unwrap();
        numbered(45, 35, number).save(dir.path().join(format!("shots/s{number}.png"))).unwrap();
    }
    for input in ["fz/%06d.png", "fz"] {
        refused(
            dir.path(),
            &[input, "--fps", "5", "-o", "fz/", "-s", "mask"],
            "fz/: already contains frames, such as 000003.png",
        );
    }
    refused(dir.path(), &["fz/*.png", "-o", "fz/", "-s", "mask"], "is an input");
    refused(dir.path(), &["shots/s%d.png", "-o", "shots/"], "which is an input");
    refused(dir.path(), &["shots/s%d.png", "-o", "fz/"], "already contains frames");
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 2).unwrap();
    refused(dir.path(), &["video.y4m", "-o", "./video.y4m"], "video.y4m: is an input");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("video.y4m", dir.path().join("link.y4m")).unwrap();
        std::fs::hard_link(dir.path().join("video.y4m"), dir.path().join("hard.y4m")).unwrap();
        refused(dir.path(), &["video.y4m", "-o", "link.y4m"], "is an input (video.y4m)");
        refused(dir.path(), &["hard.y4m", "-o", "video.y4m"], "is an input (hard.y4m)");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_atrous"));
        command
            .args(["segment", "-", "-w", "tiny.safetensors", "-o", "video.y4m"])
            .current_dir(dir.path());
        let done = command
            .stdin(std::fs::File::open(dir.path().join("video.y4m")).unwrap())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(2) && stderr.contains("is the input"), "{stderr}");
    }
    segment(dir.path(), &["fz/%06d.png", "-o", "masks/", "-s", "side-by-side"]).assert().success();
    assert_eq!(
        numbers(&read_all(&dir.path().join("masks"), &VideoOptions::default()).1),
        [3, 4, 5, 6]
    );
}

#[test]
fn other_commands_keep_their_inputs_too() {
    let dir = directory();
    let before = contents(dir.path());
    let run = |arguments: &[&str]| atrous(dir.path()).args(arguments).assert().code(2);
    let w = "tiny.safetensors";
    run(&["import", w, "./tiny.safetensors", "--dtype", "f16"]).stderr(contains("is the input"));
    run(&["export", w, w, "--dialect", "vainf"]).stderr(contains("is the input"));
    run(&["infer", "-w", w, "-i", "x.safetensors", "-o", w]).stderr(contains("is the weight file"));
    run(&["infer", "-w", w, "-i", "x.safetensors", "-o", "x.safetensors"])
        .stderr(contains("is the input"));
    for directory in ["images", "masks"] {
        std::fs::create_dir_all(dir.path().join("data").join(directory)).unwrap();
        let gray = image::GrayImage::from_pixel(45, 35, image::Luma([1]));
        gray.save(dir.path().join("data").join(directory).join("a.png")).unwrap();
    }
    let data = contents(dir.path());
    let eval = ["eval", "-w", w, "--data", "data"];
    run(&[&eval[..], &["--confusion", "data/masks/a.png"]].concat())
        .stderr(contains("is a mask of the data set"));
    run(&[&eval[..], &["--confusion", "c.png", "--trimap", "1", "--trimap-plot", "./c.png"]]
        .concat())
    .stderr(contains("would be written twice"));
    run(&["doctor", "data", "data", "-o", "data/images/a.png"])
        .stderr(contains("is a file of the data set"));
    assert!(contents(dir.path()) == data && before.len() + 2 == data.len());
}

#[cfg(unix)]
#[test]
fn fifos_in_directories_are_passed_over_and_named_ones_refused() {
    let dir = directory();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    numbered(45, 35, 1).save(dir.path().join("in/b.png")).unwrap();
    for name in ["in/a.png", "f.png", "f.mkv"] {
        assert!(
            std::process::Command::new("mkfifo")
                .arg(dir.path().join(name))
                .status()
                .unwrap()
                .success()
        );
    }
    let limit = std::time::Duration::from_secs(60);
    segment(dir.path(), &["in", "-o", "out"])
        .timeout(limit)
        .assert()
        .success()
        .stderr(contains("in/a.png: is a FIFO, skipped"));
    segment(dir.path(), &["in/*.png", "-o", "o.gif"])
        .timeout(limit)
        .assert()
        .success()
        .stdout(contains("note: in/a.png: is a FIFO, skipped"));
    segment(dir.path(), &["f.png", "in/b.png", "-o", "out2"])
        .timeout(limit)
        .assert()
        .code(1)
        .stderr(
            contains("f.png: is a FIFO, not a regular file").and(contains("1 of 2 images failed")),
        );
    assert!(dir.path().join("out2/b.png").exists());
    segment(dir.path(), &["f.mkv"])
        .timeout(limit)
        .assert()
        .code(1)
        .stderr(contains("f.mkv: is a FIFO"));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8_are_read_written_and_reported() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = directory();
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    let sub = dir.path().join(name(b"d\xfe"));
    std::fs::create_dir(&sub).unwrap();
    for number in 1..4 {
        numbered(45, 35, number).save(sub.join(format!("s{number:03}.png"))).unwrap();
    }
    numbered(45, 35, 1).save(dir.path().join(name(b"a\xff.png"))).unwrap();
    let run = |arguments: &[&OsStr]| {
        let mut command = segment(dir.path(), &[]);
        let output =
            command.args(arguments).arg("--json").assert().success().get_output().stdout.clone();
        serde_json::from_slice::<serde_json::Value>(&output).expect("the report is JSON")
    };
    let report = run(&[name(b"a\xff.png")]);
    let path = |bytes: &[u8], lossy: &str| serde_json::json!({ "lossy": lossy, "bytes": bytes });
    assert_eq!(report["images"][0]["input"], path(b"a\xff.png", "a\u{fffd}.png"));
    assert_eq!(report["images"][0]["output"], path(b"a\xff-overlay.png", "a\u{fffd}-overlay.png"));
    assert_eq!(report["weights"], "tiny.safetensors");
    assert!(dir.path().join(name(b"a\xff-overlay.png")).exists());
    run(&[name(b"a\xff*.png"), name(b"-o"), name(b"o\xff/")]);
    assert!(dir.path().join(name(b"o\xff/a\xff-overlay.png")).exists());
    let report = run(&[name(b"d\xfe/s%03d.png"), name(b"-o"), name(b"v\xff.y4m")]);
    assert_eq!(
        (&report["video"]["frames"], &report["video"]["output"]),
        (&3.into(), &path(b"v\xff.y4m", "v\u{fffd}.y4m"))
    );
    let report = run(&[name(b"v\xff.y4m"), name(b"-s"), name(b"mask")]);
    assert_eq!(report["video"]["output"]["bytes"], serde_json::json!(b"v\xff-mask.y4m"));
}

#[test]
fn every_error_is_printed_once() {
    let dir = directory();
    std::fs::write(dir.path().join("bad.png"), "no image").unwrap();
    for extra in [&[][..], &["-q"], &["--json"]] {
        let mut command = segment(dir.path(), &["bad.png"]);
        let output = command.args(extra).assert().code(1).get_output().stderr.clone();
        let stderr = String::from_utf8(output).unwrap();
        assert_eq!(stderr.matches("bad.png").count(), 1, "{stderr}");
    }
    segment(dir.path(), &[""])
        .assert()
        .code(2)
        .stderr(contains("the name is empty; name an image"));
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let dir = directory();
    numbered(45, 35, 1).save(dir.path().join("a.png")).unwrap();
    numbered(45, 35, 1).save(dir.path().join("b.png")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 2).unwrap();
    refused(
        dir.path(),
        &["a.png", "b.png", "-o", "file"],
        "file: is a file, but there are several results",
    );
    segment(dir.path(), &["video.y4m", "-o", "file/out.y4m"])
        .assert()
        .code(1)
        .stderr(contains("file: could not create the directory"));
    segment(dir.path(), &["video.y4m", "-o", "file/frames/"])
        .assert()
        .code(1)
        .stderr(contains("file/frames"));
}

/// An output that cannot be written does not hide other errors.
#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_output_is_an_error_that_hides_no_other() {
    use std::process::{Command, Stdio};
    let dir = directory();
    std::fs::write(dir.path().join("bad.png"), "no image").unwrap();
    numbered(45, 35, 1).save(dir.path().join("a.png")).unwrap();
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 5).unwrap();
    let run = |arguments: &[&str], stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atrous"));
        command
            .args(["segment", "-w", "tiny.safetensors", "--device", "cpu"])
            .args(arguments)
            .current_dir(dir.path());
        let done = command.stdout(stdout).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    // A pipe without a reader.
    let closed = || {
        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = child.stdin.take().unwrap();
        child.wait().unwrap();
        Stdio::from(pipe)
    };
    for (arguments, name) in [
        (&["video.y4m", "-o", "-"][..], "standard output"),
        (&["a.png", "-o", "o.png"], "standard output"),
    ] {
        let (code, stderr) = run(arguments, full());
        assert!(
            code == Some(1) && stderr.contains(name) && stderr.contains("No space left"),
            "{code:?}, {stderr}"
        );
    }
    assert_eq!(
        run(&["video.y4m", "-o", "-"], closed()).0,
        Some(0),
        "a reader that went away is no failure"
    );
    for extra in [&[][..], &["--json"]] {
        let (code, stderr) = run(&[&["bad.png", "a.png", "-o", "out"], extra].concat(), closed());
        assert!(code == Some(1) && stderr.contains("1 of 2 images failed"), "{code:?}, {stderr}");
    }
    let whole = std::fs::read(dir.path().join("video.y4m")).unwrap();
    std::fs::write(dir.path().join("cut.y4m"), &whole[..whole.len() - 9]).unwrap();
    let (code, stderr) = run(&["cut.y4m", "-o", "cut-out.y4m"], closed());
    assert!(
        code == Some(1) && stderr.contains("after 4 frames, which were written to cut-out.y4m"),
        "{code:?}, {stderr}"
    );
}
