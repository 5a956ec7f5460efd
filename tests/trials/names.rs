//! Hostile names and layouts: inputs are never changed, whatever the inputs and outputs are.

use super::process::{run, tail};
use super::{content, image, nothing_hidden, nothing_lost, process, trials, weights};
use crate::support::Rng;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

const STEMS: &[&[u8]] = &[
    b"a",
    b"a-overlay",
    b"a-mask",
    b"000001",
    b"000003",
    b"-q",
    b"--json",
    b" ",
    b"x y",
    b"*",
    b"[a]",
    b"?",
    b"a\nb",
    b"a\rb",
    b"\x1b[2J",
    b"\x1b]0;P\x07",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xc2\x9b31m",
    b"%06d",
    b"%d",
    b"\xe2\x80\xae",
    b"$(id)",
    b"'",
    b"\"",
    b"A",
    b"a.png",
    b".hidden",
    b"NUL",
    b"\xc3\xa9",
    b"e\xcc\x81",
];
const EXTENSIONS: &[&[u8]] = &[b".png", b".PNG", b".jpg", b".bmp", b".tiff"];

fn name(rng: &mut Rng) -> OsString {
    let mut bytes = rng.pick(STEMS).to_vec();
    if rng.range(0, 9) == 0 {
        bytes = bytes.repeat(200 / bytes.len());
    }
    bytes.extend(rng.pick(EXTENSIONS));
    OsString::from_vec(bytes)
}

/// Creates an input: an image, a symbolic or hard link, a FIFO, a directory of images, a text file,
/// or nothing.
fn input(rng: &mut Rng, dir: &Path, earlier: &[PathBuf]) -> PathBuf {
    let path = dir.join(name(rng));
    if path.symlink_metadata().is_ok() {
        return path;
    }
    let draw = |rng: &mut Rng, path: &Path| {
        let (width, height) = (rng.range(1, 40) as u32, rng.range(1, 40) as u32);
        let format = image::ImageFormat::from_path(path).unwrap_or(image::ImageFormat::Png);
        image(rng, width, height).save_with_format(path, format).expect("an image of the trial");
    };
    match rng.range(0, 13) {
        0 if !earlier.is_empty() => drop(symlink(
            rng.pick(&earlier.iter().map(PathBuf::as_path).collect::<Vec<_>>()),
            &path,
        )),
        1 if !earlier.is_empty() => drop(fs::hard_link(
            rng.pick(&earlier.iter().map(PathBuf::as_path).collect::<Vec<_>>()),
            &path,
        )),
        2 => drop(std::process::Command::new("mkfifo").arg("--").arg(&path).status()),
        3 => {
            fs::create_dir(&path).expect("a directory of the trial");
            for _ in 0..rng.range(0, 3) {
                let inside = path.join(name(rng));
                if !inside.exists() {
                    draw(rng, &inside);
                }
            }
        }
        4 => fs::write(&path, "no image").expect("a file of the trial"),
        5 => {}
        _ => draw(rng, &path),
    }
    path
}

fn trial(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    let weights = weights(dir);
    let (work, out) = (dir.join("work"), dir.join("out"));
    fs::create_dir(&work).and_then(|()| fs::create_dir(&out)).expect("directories of the trial");
    let mut inputs: Vec<PathBuf> = Vec::new();
    for _ in 0..rng.range(1, 5) {
        inputs.push(input(rng, &work, &inputs));
    }
    let before = content(dir);
    let mut command = process::atrous(&work);
    command.arg("segment").arg("--weights").arg(&weights);
    let style = rng.pick(&["mask", "overlay", "side-by-side", "cutout"]);
    command.args(["--style", style, "--size", "33"]);
    if rng.range(0, 3) == 0 {
        command.arg(rng.pick(&["--json", "--quiet", "--probabilities", "--first-frame"]));
    }
    match rng.range(0, 7) {
        0 => drop(command.arg("-o").arg(&work)),
        1 => drop(command.arg("-o").arg(&out)),
        2 => drop(command.arg("-o").arg(work.join(name(rng)))),
        3 => drop(command.arg("-o").arg(out.join(name(rng)))),
        4 => drop(command.arg("-o").arg(rng.pick(&[
            "",
            "/dev/full",
            "/dev/null",
            "/",
            "/proc/x.png",
            "no/such/dir/",
            ".",
        ]))),
        _ => {}
    }
    command.arg("--");
    match rng.range(0, 5) {
        0 => drop(command.arg(&work)),
        1 => drop(command.arg(work.join("*"))),
        2 => drop(command.arg(work.join(rng.pick(&["%06d.png", "%d.png", "*.png", "**", ""])))),
        3 => drop(command.arg(rng.pick(&[
            "",
            "-",
            ".",
            "/dev/zero",
            "/dev/null",
            "/proc/self/mem",
            "nosuch.png",
        ]))),
        _ => drop(command.args(&inputs)),
    }
    let exit =
        run(&mut command, Duration::from_secs(60)).map_err(|e| format!("{e}: {command:?}"))?;
    // Every trial begins with inputs only, so all files must be unchanged.
    nothing_lost(&before, dir, &[])
        .and_then(|()| nothing_hidden(dir))
        .map_err(|e| format!("{e}: {command:?}"))?;
    for bytes in [&exit.stdout, &exit.stderr] {
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().find(|line| line.chars().any(char::is_control)) {
            return Err(format!("control characters in the output {line:?}: {command:?}"));
        }
    }
    match exit.code() {
        0..=2 => Ok(format!("rc {}", exit.code())),
        code => Err(format!("rc {code}: {command:?}: {}", tail(&exit.stderr_text()))),
    }
}

#[test]
#[ignore = "slow: random trials, see tests/trials/main.rs"]
fn names() {
    trials("names", 120, trial);
}
