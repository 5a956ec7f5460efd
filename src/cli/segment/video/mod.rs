//! Videos: frames through the network in order, to a video of the same rate.

mod plan;
mod writer;

pub(super) use plan::plan;

use super::work::interruptible;
use super::write::{frame, frame_size};
use super::{Args, Tools};
use crate::cli::args::{json, print, say};
use crate::cli::interrupt::{on_interrupt, unless_stopped};
use crate::error::{Error, Result, error};
use crate::files::json_path;
use crate::image::{LegendEntry, Tally, legend_table};
use crate::text;
use crate::video::{self, FrameRate, FrameSource, PixelFormat, Selection, VideoInfo};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plan::VideoPlan;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use writer::{GRACE, Writer};

/// What only videos have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Video")]
pub(super) struct VideoArgs {
    /// Frames a second of numbered images and raw frames, such as 25, 29.97 or 30000/1001; other
    /// videos tell theirs [default: 25]
    #[arg(long, value_name = "RATE")]
    fps: Option<FrameRate>,

    /// Which frames are taken, counted from 1, both ends too
    #[arg(long, value_name = "A..B")]
    frames: Option<Selection>,

    /// Takes one of N frames; the video keeps its speed
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// The input is raw frames of this size
    #[arg(long, value_name = "WxH", value_parser = size)]
    raw_size: Option<(usize, usize)>,

    /// Pixels of raw frames: rgb24, bgr24, rgba, gray, yuv420p, nv12 or yuyv422 [default: rgb24]
    #[arg(long, value_name = "FORMAT", requires = "raw_size")]
    pixel_format: Option<PixelFormat>,

    /// Writes bare frames to standard output, where it would be Y4M: rgb24, masks one byte a pixel
    #[arg(long)]
    raw_output: bool,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once('x').and_then(|(w, h)| w.parse().ok().zip(h.parse().ok()));
    pair.filter(|&(w, h)| w > 0 && h > 0)
        .ok_or_else(|| "must be width x height, such as 640x480".to_owned())
}

/// What became of a video.
#[derive(serde::Serialize)]
struct Outcome<'a> {
    #[serde(serialize_with = "json_path::serialize")]
    input: &'a Path,
    #[serde(serialize_with = "json_path::serialize")]
    output: &'a Path,
    /// Why the video ends before its source does.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether a signal ended it.
    stopped: bool,
    /// Width and height.
    size: (usize, usize),
    /// Width and height of the network's input.
    network_size: Option<(usize, usize)>,
    frames: u64,
    /// Frames a second when it is played, as a fraction.
    rate: String,
    /// What the work took, and frames a second of it.
    seconds: f64,
    frames_per_second: f64,
    /// Shares of all frames together.
    classes: Vec<LegendEntry>,
    notes: Vec<String>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    device: &'a str,
    #[serde(serialize_with = "json_path::serialize")]
    weights: &'a Path,
    style: &'static str,
    video: Outcome<'a>,
}

/// What is summed up on the way.
#[derive(Default)]
struct Sums {
    frames: u64,
    tally: Tally,
    network_size: Option<(usize, usize)>,
    notes: Vec<String>,
}

/// Segments the video and reports on it. Where its source fails in the middle, the frames before it
/// are kept and the error is returned; so are they after a signal, which is no error.
pub(super) fn run(args: &Args, plan: &VideoPlan) -> Result<()> {
    let stop = on_interrupt("stopping after the frames under way")?;
    let nothing = || {
        error!(Image, "stopped before the first frame, so nothing was written").file(&plan.output)
    };
    // Even the beginning of a stream may be long in coming.
    let opened = plan.clone();
    let source = unless_stopped(&stop, move || opened.source())?.ok_or_else(nothing)??;
    let tools = Tools::open(args)?;
    if stop.load(Ordering::Relaxed) {
        return Err(nothing());
    }
    let info = source.info().clone();
    let (width, height) = frame_size(args, info.width, info.height);
    let sink = plan.sink(&VideoInfo { width, height, ..info.clone() }, args, &tools)?;
    let mut sink = Writer::new(plan.output.display().to_string(), sink, &stop, GRACE)?;
    let bar = progress(args, info.frames);
    let begun = Instant::now();
    let mut sums = Sums { notes: info.notes.clone(), ..Sums::default() };
    let (read_error, write_error) = work(args, &tools, source, &mut sink, &stop, &mut sums, &bar)?;
    bar.finish_and_clear();
    if let Some(e) = write_error {
        return Err(e);
    }
    let stopped = stop.load(Ordering::Relaxed);
    if sums.frames == 0 {
        return Err(match read_error {
            Some(e) => e,
            None if stopped => nothing(),
            None => error!(Image, "there is no frame to segment").file(&plan.input),
        });
    }
    sink.finish()?;
    let seconds = begun.elapsed().as_secs_f64();
    let outcome = Outcome {
        input: &plan.input,
        output: &plan.output,
        error: read_error.as_ref().map(Error::to_string),
        stopped,
        size: (info.width, info.height),
        network_size: sums.network_size,
        frames: sums.frames,
        rate: info.frame_rate.to_string(),
        seconds,
        frames_per_second: sums.frames as f64 / seconds,
        classes: sums.tally.legend(&tools.table),
        notes: sums.notes,
    };
    let told = tell(args, plan, &tools, outcome);
    // A video that is cut short outweighs a report that nobody reads any more.
    match read_error {
        None => told,
        Some(e) => Err(e.at(format!(
            "after {} frames, which are in {}",
            sums.frames,
            plan.output.display()
        ))),
    }
}

/// Runs the frames through, up to the end, an error, or a signal. Returns what went wrong with a
/// frame, and with writing.
fn work(
    args: &Args,
    tools: &Tools,
    source: Box<dyn FrameSource>,
    sink: &mut Writer,
    stop: &Arc<AtomicBool>,
    sums: &mut Sums,
    bar: &ProgressBar,
) -> Result<(Option<Error>, Option<Error>)> {
    let (mut read_error, mut write_error) = (None, None);
    let network = |read: Result<video::Frame>| {
        let read = read?;
        let found = tools.segment(args, &read.image)?;
        Ok((read, found))
    };
    let bytes = |read: &Result<video::Frame>| read.as_ref().map_or(0, |read| read.image.rgb.len());
    interruptible(source, stop, bytes, network, |result| {
        let (read, found) = match result {
            Ok(both) => both,
            Err(e) => {
                read_error = Some(e);
                return ControlFlow::Break(());
            }
        };
        sums.frames += 1;
        sums.tally.add(&found.labels);
        sums.network_size = Some(found.fit.padded);
        for note in &read.image.notes {
            if !sums.notes.contains(note) {
                sums.notes.push(note.clone());
            }
        }
        let written = frame(args, tools, read.image, found)
            .and_then(|content| sink.write(content, read.duration));
        bar.inc(1);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                write_error = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    Ok((read_error, write_error))
}

fn progress(args: &Args, frames: Option<u64>) -> ProgressBar {
    let shown = !args.quiet && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match frames {
        Some(_) => "{bar:32} {pos}/{len} frames  {per_sec}  {eta} left",
        None => "{spinner} {pos} frames  {per_sec}  {elapsed}",
    };
    let style =
        ProgressStyle::with_template(template).expect("invariant: the template is well-formed");
    ProgressBar::with_draw_target(frames, target).with_style(style)
}

/// The report: to standard output, unless the video goes there.
fn tell(args: &Args, plan: &VideoPlan, tools: &Tools, outcome: Outcome) -> Result<()> {
    if args.quiet && !args.json {
        return Ok(());
    }
    let swatches = if plan.to_stream() {
        std::io::stderr().is_terminal()
    } else {
        std::io::stdout().is_terminal()
    };
    let text = if args.json {
        let weights = &tools.segmenter.model().path;
        let report =
            Report { device: &tools.device, weights, style: args.style.suffix(), video: outcome };
        json(&report)?
    } else {
        let (w, h) = outcome.size;
        let notes: String =
            outcome.notes.iter().map(|n| format!("  note: {}\n", text::printable(n))).collect();
        let stopped = if outcome.stopped { ", stopped there" } else { "" };
        format!(
            "{} ({w}x{h}, {} frames a second) -> {}: {} frames in {:.1} s, {:.2} a second{stopped}\n{notes}{}",
            text::path(&plan.input),
            outcome.rate,
            text::path(&plan.output),
            outcome.frames,
            outcome.seconds,
            outcome.frames_per_second,
            legend_table(&outcome.classes, swatches)
        )
    };
    if plan.to_stream() {
        say(text.trim_end());
        return Ok(());
    }
    print(&text)
}
