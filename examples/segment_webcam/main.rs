//! Segments what a camera sees, in a window. `cargo run --release --example segment_webcam --
//! --weights deeplab.safetensors`; `--help` tells the rest, and H in the window shows the keys.
//!
//! Three threads. One captures and keeps only the newest frame (`capture`). One runs the network,
//! slice by slice (`worker`). The window's own (`window`, with what it shows in `stage`) uploads
//! each frame, paints it with the newest scores there are, and presents it; it waits for neither of
//! the others. Frame, scores and painted frame lie in buffers of one device (`atrous::live`); the
//! window's shader reads the painted one (`draw`).

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

use atrous::image::SizeRule;
use atrous::text::printable;
use atrous::{Model, Result};
use clap::Parser;
use options::Options;
use std::process::ExitCode;

/// Without `--size`, networks that were made for more get this long side: live images are to be
/// quick.
const USUAL_SIDE: usize = 513;

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
            println!("no camera was found; --source synthetic shows a drawn scene");
        }
        return Ok(());
    }
    let weights =
        options.weights.as_ref().expect("invariant: required where no cameras are listed");
    let model = Model::open(weights)?;
    let source = capture::open(&options)?;
    let (w, h) = source.size();
    println!("{}: {w} x {h}", printable(&source.name()));
    match options.frames {
        Some(frames) => headless::run(&options, &model, source, frames),
        None => window::run(options, model, source),
    }
}

/// The size of the network's input to begin with.
fn first_size(options: &Options, model: &Model, frame: (usize, usize)) -> SizeRule {
    options.size.unwrap_or_else(|| match model.usual_size() {
        SizeRule::LongSide(n) => SizeRule::LongSide(n.min(USUAL_SIDE)),
        _ => SizeRule::LongSide(frame.0.max(frame.1).min(USUAL_SIDE)),
    })
}
