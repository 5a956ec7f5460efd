//! Randomized tests of the program: hostile names, signals, memory limits, concurrent processes.
//! Slow, so ignored by default:
//!
//! ```text
//! cargo test --release --test trials -- --ignored --nocapture
//! ATROUS_TRIALS=20 ATROUS_TRIALS_SEED=7 cargo test --release --test trials signals -- --ignored --nocapture
//! ```
//!
//! Each trial is a function of its seed. All trials run before the test fails with the seeds and
//! problems. Invariants of every trial: the program exits in time, normally or by the signal that
//! was sent, but never by an abort; no existing file is lost or changed except the requested
//! outputs; no hidden or partial file is left.
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod memory;
mod names;
mod pairs;
mod process;
mod signals;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use support::Rng;
use support::models::write_tiny;

/// Runs `trial` with `ATROUS_TRIALS` seeds, each in an empty directory, and fails with a list of
/// all problems.
fn trials(name: &str, default: u64, trial: impl Fn(&mut Rng, &Path) -> Result<String, String>) {
    let number = |variable: &str, default| {
        std::env::var(variable).map_or(default, |v| v.parse().expect("a whole number"))
    };
    let (count, first) = (number("ATROUS_TRIALS", default), number("ATROUS_TRIALS_SEED", 1));
    let mut failures = Vec::new();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for seed in first..first + count {
        let dir = tempfile::tempdir().expect("a temporary directory");
        match trial(&mut Rng(seed), dir.path()) {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(e) => {
                println!("{name}, seed {seed}: {e}");
                failures.push(format!("seed {seed}: {e}"));
            }
        }
    }
    println!("{name}: {count} trials, {} failed; outcomes {outcomes:?}", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {count} trials failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Writes a small network to `dir`.
fn weights(dir: &Path) -> PathBuf {
    let path = dir.join("tiny.safetensors");
    write_tiny(&path);
    path
}

/// Creates a gradient image with a random shade.
fn image(rng: &mut Rng, width: u32, height: u32) -> image::RgbImage {
    let shade = rng.range(0, 255) as u32;
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 5 + shade) as u8, (y * 3) as u8, (x + y) as u8])
    })
}

/// Returns all regular files below `dir` with their content, without links and special files.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the trial") {
            let entry = entry.expect("an entry of the trial's directory");
            let kind = entry.file_type().expect("the kind of an entry");
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
    files
}

/// Returns an error if a temporary file was left below `dir`.
fn nothing_hidden(dir: &Path) -> Result<(), String> {
    let is_hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|n| {
            n.as_bytes().starts_with(b".atrous-") || n.as_bytes().ends_with(b".tmp")
        })
    };
    match content(dir).into_keys().find(is_hidden) {
        Some(path) => Err(format!("{} was left", path.display())),
        None => Ok(()),
    }
}

/// Returns an error if a file of `before` is missing or changed, unless it is one of `outputs`.
fn nothing_lost(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    dir: &Path,
    outputs: &[PathBuf],
) -> Result<(), String> {
    let after = content(dir);
    let lost = before
        .iter()
        .find(|(path, bytes)| !outputs.contains(path) && after.get(*path) != Some(bytes));
    lost.map_or(Ok(()), |(path, _)| Err(format!("{} was lost or changed", path.display())))
}
