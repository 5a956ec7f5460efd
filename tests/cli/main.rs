//! The command line, run as a process. Each test uses a new directory.

mod bench;
mod general;
mod model;
mod segment;
#[path = "../support/mod.rs"]
mod support;

use assert_cmd::Command;
use std::path::Path;
use support::models::write_tiny;

/// Returns a command that runs the program in `directory` on the CPU.
fn atrous(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command
}

/// Writes an image of a few colored areas.
fn image(path: &Path, w: u32, h: u32) {
    let area =
        |x: u32, y: u32| [(x * 255 / w) as u8, (y * 255 / h) as u8, if x > y { 200 } else { 30 }];
    image::RgbImage::from_fn(w, h, |x, y| image::Rgb(area(x, y)))
        .save(path)
        .expect("the directory is writable");
}

/// Creates a directory with `tiny.safetensors` and `a.png`, 61 x 47.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_tiny(&directory.path().join("tiny.safetensors"));
    image(&directory.path().join("a.png"), 61, 47);
    directory
}

/// Returns the width and height of an image.
fn size(path: impl AsRef<Path>) -> (u32, u32) {
    image::image_dimensions(path).expect("the image exists")
}
