//! The program as a process, in a directory of its own.

use super::models::write_tiny;
use assert_cmd::Command;
use std::path::Path;

/// Returns a command that runs the program in `directory`, on the CPU and without colors.
pub fn atrous(directory: &Path) -> Command {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command
}

/// Writes an image of a few colored areas.
pub fn write_image(path: &Path, w: u32, h: u32) {
    let area =
        |x: u32, y: u32| [(x * 255 / w) as u8, (y * 255 / h) as u8, if x > y { 200 } else { 30 }];
    image::RgbImage::from_fn(w, h, |x, y| image::Rgb(area(x, y)))
        .save(path)
        .expect("the directory is writable");
}

/// Creates a directory with `tiny.safetensors` and `a.png`, 61 x 47.
pub fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_tiny(&directory.path().join("tiny.safetensors"));
    write_image(&directory.path().join("a.png"), 61, 47);
    directory
}
