//! Segments camera frames live in a window. `cargo run --release --features window --example
//! segment_webcam -- --weights deeplab.safetensors`; `--help` lists all options, and H in the window
//! shows the keys.
//!
//! There are three threads. The capture thread keeps only the latest frame (`capture`). The worker
//! thread runs the network, slice by slice (`worker`). The window thread (`window`, with its state
//! in `stage`) uploads each frame, paints it with the latest scores, and presents it, without
//! waiting for the other two. Frame, scores and painted frame are buffers of one device
//! (`atrous::live`); the window's shader reads the painted frame (`draw`).

mod capture;
mod draw;
mod figures;
mod headless;
mod keys;
mod options;
mod panel;
mod signals;
mod stage;
mod view;
mod window;
mod worker;

use atrous::Size;
use atrous::image::SizeRule;
use atrous::text::printable;
use atrous::{Model, Result};
use clap::Parser;
use options::Options;
use std::process::ExitCode;

/// Without `--size`, the long side of the network's input is at most this, for speed.
const MAX_DEFAULT_SIDE: usize = 513;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    if options.list_cameras {
        let cameras = capture::list()?;
        cameras
            .iter()
            .enumerate()
            .for_each(|(i, name)| println!("camera:{i}  {}", printable(name)));
        if cameras.is_empty() {
            println!("no camera found; --source synthetic shows a synthetic scene");
        }
        return Ok(());
    }
    let weights = options.weights.as_ref().expect("invariant: required unless cameras are listed");
    let model = Model::open(weights)?;
    let source = capture::open(&options)?;
    let Size { width: w, height: h } = source.size();
    println!("{}: {w} x {h}", printable(&source.name()));
    match options.frames {
        Some(frames) => headless::run(&options, &model, source, frames),
        None => window::run(options, model, source),
    }
}

/// Returns the initial size of the network's input.
fn first_size(options: &Options, model: &Model, frame: Size) -> SizeRule {
    options.size.unwrap_or_else(|| match model.default_size() {
        SizeRule::LongSide(n) => SizeRule::LongSide(n.min(MAX_DEFAULT_SIDE)),
        _ => SizeRule::LongSide(frame.width.max(frame.height).min(MAX_DEFAULT_SIDE)),
    })
}
