//! Names with terminal control sequences, lines of megabytes, and special files on the command
//! line. Tested as a process, because its actual output matters.

mod support;

use assert_cmd::Command;
use atrous::engine::weights::{FloatDType, dialects, write_safetensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::models::{random_weights, tiny_config, write_tiny};

/// A window's title, a cleared screen, a forged line, C1's CSI, and a right-to-left override.
const HOSTILE: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[2J\r\nerror: forged\u{9b}31m\u{202e}";
/// [`HOSTILE`] as it should be printed.
const SHOWN: &str =
    "\u{fffd}]0;PWNED\u{fffd}\u{fffd}[2J\u{fffd}\u{fffd}error: forged\u{fffd}31m\u{fffd}";

/// With colors forced, as on a terminal: into a pipe, escape sequences would be stripped and the
/// test would not see them.
fn atrous(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR");
    command.env_remove("ATROUS_LOG").env_remove("WGPU_BACKEND").timeout(Duration::from_secs(60));
    command
}

fn image(path: &Path) {
    image::RgbImage::from_fn(41, 33, |x, y| image::Rgb([x as u8 * 6, y as u8 * 7, 90]))
        .save(path)
        .unwrap();
}

/// Runs a command and returns its standard output and standard error.
#[track_caller]
fn output_of(command: &mut Command, arguments: &[&str], code: i32) -> String {
    let output = command.args(arguments).output().unwrap();
    let text = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[track_caller]
fn harmless(text: &str) {
    for bad in ["\u{1b}]", "\u{1b}[2J", "\r", "\u{7}", "\u{9b}", "\u{202e}", "\nerror: forged"] {
        assert!(!text.contains(bad), "{bad:?} is in {text:?}");
    }
}

#[test]
fn escape_sequences_in_class_names_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny_config();
    for (i, name) in config.head.as_mut().unwrap().class_names.iter_mut().enumerate() {
        *name = format!("{i}{HOSTILE}");
    }
    let stored = dialects::store(&config, &random_weights(&config, 7), dialects::NATIVE).unwrap();
    let path = dir.path().join("esc.safetensors");
    write_safetensors(&path, stored.tensors, &stored.metadata, FloatDType::F32).unwrap();
    image(&dir.path().join("a.png"));
    for arguments in
        [&["inspect", "esc.safetensors"][..], &["segment", "a.png", "-w", "esc.safetensors"]]
    {
        let text = output_of(&mut atrous(dir.path()), arguments, 0);
        harmless(&text);
        assert!(text.contains(SHOWN), "{text}");
    }
    let text = output_of(&mut atrous(dir.path()), &["inspect", "esc.safetensors", "--json"], 0);
    harmless(&text);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json["config"]["head"]["class_names"][1],
        format!("1{HOSTILE}"),
        "JSON has the exact name"
    );
}

#[test]
fn escape_sequences_in_tensor_names_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tn.safetensors");
    write_safetensors(&path, [(HOSTILE, [1], [0.5f32])], &BTreeMap::new(), FloatDType::F32)
        .unwrap();
    for arguments in [
        &["inspect", "tn.safetensors"][..],
        &["import", "tn.safetensors", "out.safetensors"],
        &["inspect", "tn.safetensors", "--dialect", "smp"],
        &["inspect", "tn.safetensors", "--dialect", HOSTILE],
    ] {
        let text = output_of(
            &mut atrous(dir.path()),
            arguments,
            if arguments.contains(&HOSTILE) { 2 } else { 1 },
        );
        harmless(&text);
    }
    let text = output_of(&mut atrous(dir.path()), &["inspect", "tn.safetensors"], 1);
    assert!(text.contains("PWNED"), "the name is shown, as text: {text}");
}

#[cfg(unix)]
#[test]
fn escape_sequences_in_names_of_files_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    let name = format!("pic{HOSTILE}.png");
    image(&dir.path().join(&name));
    fs::write(dir.path().join("bad\u{1b}[2J.png"), "no image").unwrap();
    let text = output_of(
        &mut atrous(dir.path()),
        &["segment", &name, "bad\u{1b}[2J.png", "-w", "tiny.safetensors"],
        1,
    );
    harmless(&text);
    assert!(
        text.contains(&format!("pic{SHOWN}.png")) && text.contains("bad\u{fffd}[2J.png"),
        "{text}"
    );
    // Notes contain file names too.
    harmless(&output_of(
        &mut atrous(dir.path()),
        &["segment", &name, "-w", "tiny.safetensors", "--probabilities", "-o", "p.png"],
        0,
    ));
    let trained = [
        "train",
        "--data",
        &format!("data{HOSTILE}"),
        "--init",
        &format!("weights{HOSTILE}.safetensors"),
        "--out",
        &name,
    ];
    harmless(&output_of(&mut atrous(dir.path()), &trained, 1));
    // As with `atrous segment *` in a directory with a file named like an option.
    harmless(&output_of(&mut atrous(dir.path()), &["segment", &format!("--x{HOSTILE}")], 2));
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_unicode_does_not_lose_a_report_in_json() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"w\xff.safetensors");
    write_tiny(&dir.path().join(name));
    let set = dir.path().join(std::ffi::OsStr::from_bytes(b"set\xff"));
    for directory in ["images", "masks"] {
        fs::create_dir_all(set.join(directory)).unwrap();
    }
    image(&set.join("images/a.png"));
    image::GrayImage::from_fn(41, 33, |x, _| image::Luma([(x % 2) as u8]))
        .save(set.join("masks/a.png"))
        .unwrap();
    let json = |command: &mut Command| {
        let output = command.arg("--json").output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {output:?}"))
    };
    assert_eq!(json(atrous(dir.path()).arg("inspect").arg(name))["file"], "w\u{fffd}.safetensors");
    let report = json(atrous(dir.path()).args(["doctor", "data"]).arg(&set));
    // A readable text next to the exact bytes.
    for path in [&report["root"], &report["findings"][0]["file"]] {
        assert!(path["lossy"].as_str().unwrap().contains("set\u{fffd}"), "{report}");
        let bytes = path["bytes"].as_array().unwrap();
        assert!(bytes.iter().any(|b| b == 255), "{report}");
    }
}

#[cfg(unix)]
#[test]
fn fifos_devices_directories_and_empty_files_are_refused_at_once_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    assert!(
        std::process::Command::new("mkfifo")
            .arg(dir.path().join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir(dir.path().join("directory")).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    for (name, words) in [
        ("fifo", "fifo: is a FIFO, not a regular file; pass a weight file on disk"),
        ("/dev/zero", "/dev/zero: is a device, not a regular file"),
        ("directory", "directory: is a directory; pass a weight file"),
        ("empty", "empty: the file is empty"),
    ] {
        for arguments in [
            &["inspect", name][..],
            &["verify", "-w", "tiny.safetensors", "--reference", name],
            &["import", name, "out.safetensors"],
            &["export", name, "out.pth", "--dialect", "smp"],
            &["infer", "-w", "tiny.safetensors", "--input", name, "-o", "out.safetensors"],
        ] {
            let text = output_of(&mut atrous(dir.path()), arguments, 1);
            assert!(text.contains(words), "{arguments:?}: {text}");
        }
    }
    let table = ["import", "tiny.safetensors", "out.safetensors", "--class-table"];
    for (name, words) in
        [("fifo", "fifo: is a FIFO"), ("/dev/zero", "is a device"), ("empty", "no classes listed")]
    {
        let text = output_of(&mut atrous(dir.path()), &[&table[..], &[name]].concat(), 1);
        assert!(text.contains(words), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_data_set_with_a_fifo_in_it_is_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    for directory in ["set/images", "set/masks"] {
        fs::create_dir_all(dir.path().join(directory)).unwrap();
    }
    image::GrayImage::new(41, 33).save(dir.path().join("set/masks/a.png")).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(dir.path().join("set/images/a.png"))
            .status()
            .unwrap()
            .success()
    );
    let words = "a.png: is a FIFO, not a regular file";
    let text =
        output_of(&mut atrous(dir.path()), &["eval", "-w", "tiny.safetensors", "--data", "set"], 1);
    assert!(text.contains(words), "{text}");
    let text = output_of(&mut atrous(dir.path()), &["doctor", "data", "set"], 1);
    assert!(text.contains("unreadable files (1)") && text.contains("is a FIFO"), "{text}");
}

#[test]
fn a_long_line_is_not_repeated_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    for directory in ["set/images", "set/masks"] {
        fs::create_dir_all(dir.path().join(directory)).unwrap();
    }
    image(&dir.path().join("set/images/a.png"));
    // Half a megabyte, because the limit of recipes is one.
    let long = "x".repeat(1 << 19);
    fs::write(dir.path().join("classes.txt"), format!("0 sky 1 2 3\n{long}\n")).unwrap();
    fs::write(dir.path().join("recipe.toml"), format!("steps = 1\n{long} = 1\n")).unwrap();
    fs::write(dir.path().join("value.toml"), format!("steps = \"{long}\"\n")).unwrap();
    fs::write(dir.path().join("set/train.txt"), format!("{long}/../x\n")).unwrap();
    let import = ["import", "tiny.safetensors", "out.safetensors", "--class-table", "classes.txt"];
    for (arguments, words) in [
        (
            &import[..],
            "classes.txt: line 2: expected `NUMBER NAME [R G B]` with colors 0 to 255, found `xxx",
        ),
        (
            &["train", "--data", "set", "--out", "run", "--recipe", "recipe.toml"],
            "recipe.toml: invalid recipe: line 2: unknown field",
        ),
        (
            &["train", "--data", "set", "--out", "run", "--recipe", "value.toml"],
            "value.toml: invalid recipe: line 1: ",
        ),
        (&["doctor", "data", "set"], "train.txt: line 1: `xxx"),
    ] {
        let text = output_of(&mut atrous(dir.path()), arguments, 1);
        assert!(
            text.contains(words) && text.len() < 3000,
            "{arguments:?}: {} bytes: {:.300}",
            text.len(),
            text
        );
    }
}

/// Deeply nested names, very long names, and very many names: none may take long or flood the
/// terminal.
#[test]
fn a_hundred_thousand_tensors_and_names_full_of_points_take_no_time_and_no_screen() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, names: Vec<String>| {
        let tensors = names.into_iter().map(|name| (name, [1], [0.5f32]));
        write_safetensors(dir.path().join(name), tensors, &BTreeMap::new(), FloatDType::F32)
            .unwrap();
    };
    file("many.safetensors", (0..100_000).map(|i| format!("{i}{HOSTILE}")).collect());
    file("deep.safetensors", (0..8_000).map(|i| format!("{}{i:04}", "a.".repeat(500))).collect());
    file(
        "long.safetensors",
        (0..8_000).map(|i| format!("{i:04}{}", "\u{1b}[2J".repeat(200))).collect(),
    );
    for name in ["many.safetensors", "deep.safetensors", "long.safetensors"] {
        for arguments in [
            &["inspect", name][..],
            &["inspect", name, "--dialect", "smp"],
            &["inspect", name, "--dialect", "torchvision"],
        ] {
            let mut command = atrous(dir.path());
            let text = output_of(command.timeout(Duration::from_secs(20)), arguments, 1);
            harmless(&text);
            assert!(text.len() < 4000, "{} bytes: {:.500}", text.len(), text);
        }
    }
}

#[test]
fn nan_in_an_input_is_said_of_the_input() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    // F16 by hand, because the writer refuses NaN.
    let header = r#"{"input":{"dtype":"F16","shape":[1,3,2,2],"data_offsets":[0,24]}}"#;
    let mut data = vec![0u8; 24];
    data[..2].copy_from_slice(&[0x00, 0x7e]);
    fs::write(
        dir.path().join("in.safetensors"),
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat(),
    )
    .unwrap();
    let text = output_of(
        &mut atrous(dir.path()),
        &["infer", "-w", "tiny.safetensors", "--input", "in.safetensors", "-o", "out.safetensors"],
        1,
    );
    assert!(
        text.contains(
            "in.safetensors: tensor `input`: contains NaN (first at [0, 0, 0, 0]); inputs"
        ),
        "{text}"
    );
    assert!(!text.contains("training") && !text.contains("weights hold"), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_called_by_its_name_and_what_hides_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny(&dir.path().join("tiny.safetensors"));
    image(&dir.path().join("a.png"));
    let segment = |device: &str, variable: Option<&str>, code: i32| {
        let mut command = atrous(dir.path());
        variable.map(|value| command.env("WGPU_BACKEND", value));
        output_of(
            &mut command,
            &["segment", "a.png", "-w", "tiny.safetensors", "--device", device],
            code,
        )
    };
    let text = segment("rubbish", None, 1);
    assert!(
        text.contains("`rubbish` is not auto, cpu, gpu, an index or part of an adapter's name"),
        "{text}"
    );
    let text = segment("", None, 2);
    assert!(text.contains("no device given; use auto, cpu, gpu"), "{text}");
    // A backend that does not exist on any system.
    let text = segment("vulkan:llvmpipe", Some("rubbish"), 1);
    assert!(
        text.contains(
            "with `llvmpipe` in its name; WGPU_BACKEND=rubbish excludes all adapters: unset it"
        ),
        "{text}"
    );
    let text = segment("auto", Some("rubbish"), 0);
    assert!(
        text.contains("WGPU_BACKEND=rubbish excludes all adapters from `--device auto`"),
        "{text}"
    );
    let text = output_of(atrous(dir.path()).env("WGPU_BACKEND", "rubbish"), &["devices"], 0);
    assert!(text.contains("WGPU_BACKEND=rubbish hides all adapters"), "{text}");
}
