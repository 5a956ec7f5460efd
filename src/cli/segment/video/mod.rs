//! Segmentation of videos: frames in order, to a video of the same frame rate.

mod lines;
mod plan;
mod writer;

pub(super) use plan::plan;

use super::views::Engine;
use super::work::interruptible;
use super::write::{frame, frame_size};
use super::{Args, Setup, Tools};
use crate::cli::console::{json, print, progress, say};
use crate::cli::interrupt::{on_interrupt, unless_stopped};
use crate::error::{Error, Result, error};
use crate::files::json_path;
use crate::geometry::Size;
use crate::image::{LegendEntry, Tally, legend_table};
use crate::text;
use crate::video::{self, FrameRate, FrameSource, PixelFormat, Selection, VideoInfo};
use indicatif::ProgressBar;
use lines::Lines;
use plan::VideoPlan;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use writer::{GRACE, Writer};

/// Options for videos alone.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Video")]
pub(super) struct VideoArgs {
    /// Frames per second of numbered images and raw frames, such as 25, 29.97 or 30000/1001; other
    /// videos have their own [default: 25]
    #[arg(long, value_name = "RATE")]
    fps: Option<FrameRate>,

    /// Process frames A to B, counted from 1, both included
    #[arg(long, value_name = "A..B")]
    frames: Option<Selection>,

    /// Process every Nth frame; playback speed is unchanged
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// Read raw frames of this size
    #[arg(long, value_name = "WxH", value_parser = size)]
    raw_size: Option<Size>,

    /// Pixel format of raw frames: rgb24, bgr24, rgba, gray, yuv420p, nv12 or yuyv422 [default:
    /// rgb24]
    #[arg(long, value_name = "FORMAT", requires = "raw_size")]
    pixel_format: Option<PixelFormat>,

    /// Write raw frames to standard output instead of Y4M: rgb24, masks one byte a pixel
    #[arg(long)]
    raw_output: bool,

    /// Also write a line of JSON for each frame: its number, its time, and its classes with their
    /// shares
    #[arg(long, value_name = "FILE")]
    json_lines: Option<PathBuf>,
}

impl VideoArgs {
    /// Whether raw frames are read.
    pub(super) fn is_raw(&self) -> bool {
        self.raw_size.is_some()
    }
}

fn size(text: &str) -> Result<Size, String> {
    let sides = text.split_once('x').and_then(|(w, h)| w.parse().ok().zip(h.parse().ok()));
    let size = sides.map(|(width, height)| Size { width, height });
    size.filter(|size| !size.is_empty()).ok_or_else(|| "expected WxH, such as 640x480".to_owned())
}

/// The result for a video.
#[derive(serde::Serialize)]
struct Outcome<'a> {
    #[serde(serialize_with = "json_path::serialize")]
    input: &'a Path,
    #[serde(serialize_with = "json_path::serialize")]
    output: &'a Path,
    /// Why the result ends before its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether a signal stopped it.
    stopped: bool,
    /// Width and height.
    size: Size,
    /// Width and height of the network's input.
    network_size: Option<Size>,
    frames: u64,
    /// Frames per second at playback, as a fraction.
    rate: String,
    /// Processing time in seconds, and frames processed per second.
    seconds: f64,
    frames_per_second: f64,
    /// Shares over all frames.
    classes: Vec<LegendEntry>,
    notes: Vec<String>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    setup: Setup<'a>,
    video: Outcome<'a>,
}

/// Sums over the frames.
#[derive(Default)]
struct Sums {
    frames: u64,
    tally: Tally,
    network_size: Option<Size>,
    notes: Vec<String>,
    lines: Option<Lines>,
}

impl Sums {
    fn new(args: &Args, info: &VideoInfo) -> Result<Self> {
        let lines = args.video.json_lines.as_deref();
        let lines = lines.map(|path| Lines::create(path, info.frame_rate)).transpose()?;
        Ok(Self { notes: info.notes.clone(), lines, ..Self::default() })
    }
}

/// Segments the video and prints the report. If the source fails midway, the frames before are kept
/// and the error is returned. A signal keeps them as well and is not an error.
pub(super) fn run(args: &Args, plan: &VideoPlan) -> Result<()> {
    let stop = on_interrupt("stopping after the frames in progress")?;
    let nothing =
        || error!(Image, "stopped before the first frame; nothing was written").file(&plan.output);
    // Even the start of a stream may take long to arrive.
    let opened = plan.clone();
    let source = unless_stopped(&stop, move || opened.source())?.ok_or_else(nothing)??;
    let tools = Tools::open(args)?;
    if stop.load(Ordering::Relaxed) {
        return Err(nothing());
    }
    let info = source.info().clone();
    let Size { width, height } = frame_size(args, info.size());
    let sink = plan.sink(&VideoInfo { width, height, ..info.clone() }, args, &tools)?;
    let mut sink = Writer::new(plan.output.display().to_string(), sink, &stop, GRACE)?;
    let bar = progress(info.frames, "frames", args.quiet);
    let begun = Instant::now();
    let mut sums = Sums::new(args, &info)?;
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
            None => error!(Image, "contains no frames to segment").file(&plan.input),
        });
    }
    sink.finish()?;
    sums.lines.take().map_or(Ok(()), Lines::finish)?;
    warn_of_absent(args, plan, &tools, &sums.tally);
    let seconds = begun.elapsed().as_secs_f64();
    let outcome = Outcome {
        input: &plan.input,
        output: &plan.output,
        error: read_error.as_ref().map(Error::to_string),
        stopped,
        size: info.size(),
        network_size: sums.network_size,
        frames: sums.frames,
        rate: info.frame_rate.to_string(),
        seconds,
        frames_per_second: sums.frames as f64 / seconds,
        classes: sums.tally.legend(&tools.table),
        notes: sums.notes,
    };
    let printed = report(args, plan, &tools, outcome);
    // A truncated video takes precedence over an error while printing the report.
    match read_error {
        None => printed,
        Some(e) => Err(e.at(format!(
            "after {}, which were written to {}",
            frames(sums.frames),
            plan.output.display()
        ))),
    }
}

/// Processes the frames up to the end, an error, or a signal. Returns the errors of reading or
/// segmenting, and of writing.
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
    let mut engine = Engine::new(args, tools)?;
    let network = |read: Result<video::Frame>| {
        let read = read?;
        let segmentation = engine.segment(args, &read.image)?;
        Ok((read, segmentation))
    };
    let bytes = |read: &Result<video::Frame>| read.as_ref().map_or(0, |read| read.image.rgb.len());
    interruptible(source, stop, bytes, network, |result| {
        let (read, segmentation) = match result {
            Ok(both) => both,
            Err(e) => {
                read_error = Some(e);
                return ControlFlow::Break(());
            }
        };
        sums.frames += 1;
        sums.tally.add(&segmentation.labels);
        sums.network_size = Some(segmentation.fit.padded);
        for note in &read.image.notes {
            if !sums.notes.contains(note) {
                sums.notes.push(note.clone());
            }
        }
        let line = sums
            .lines
            .as_mut()
            .map(|lines| lines.write(&segmentation.labels, &tools.table, read.duration));
        let written = line
            .unwrap_or(Ok(()))
            .and_then(|()| frame(args, tools, read.image, segmentation))
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

/// Warns of classes that `--keep` names and no frame has.
fn warn_of_absent(args: &Args, plan: &VideoPlan, tools: &Tools, tally: &Tally) {
    let classes = tally.legend(&tools.table);
    let is_absent = |class: usize| !classes.iter().any(|entry| usize::from(entry.class) == class);
    // Of the default, all but the background, most are absent from every video.
    let named = tools.keep.iter().filter(|_| !args.keep.is_empty());
    for &class in named.filter(|&&class| is_absent(class)) {
        let (video, name) = (plan.input.display(), &tools.table.names[class]);
        log::warn!("{video}: no pixel of any frame is `{name}`, which --keep names");
    }
}

/// Prints the report: to standard output, or to standard error if the video is written there.
fn report(args: &Args, plan: &VideoPlan, tools: &Tools, outcome: Outcome) -> Result<()> {
    if args.quiet && !args.json {
        return Ok(());
    }
    let swatches = if plan.to_stream() {
        std::io::stderr().is_terminal()
    } else {
        std::io::stdout().is_terminal()
    };
    let text = if args.json {
        json(&Report { setup: tools.setup(args), video: outcome })?
    } else {
        let size = outcome.size;
        let notes: String =
            outcome.notes.iter().map(|n| format!("  note: {}\n", text::printable(n))).collect();
        let stopped = if outcome.stopped { ", stopped by a signal" } else { "" };
        format!(
            "{} ({size}, {} fps) -> {}: {} in {:.1} s ({:.2} fps){stopped}\n{notes}{}",
            text::path(&plan.input),
            outcome.rate,
            text::path(&plan.output),
            frames(outcome.frames),
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

fn frames(count: u64) -> String {
    text::count(usize::try_from(count).unwrap_or(usize::MAX), "frame")
}
