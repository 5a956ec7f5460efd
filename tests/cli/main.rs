//! The command line, run as a process. Each test uses a new directory.

mod bench;
mod cutout;
mod export;
mod general;
mod model;
mod objects;
mod places;
mod results;
mod segment;
mod statements;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use support::command::{atrous, directory, write_image as image};

/// Returns the width and height of an image.
fn size(path: impl AsRef<Path>) -> (u32, u32) {
    image::image_dimensions(path).expect("the image exists")
}
