//! Clips: frames through the network in order, to a clip of the same rate.

use super::write::{frame, frame_size};
use super::{Args, Style, Tools, inputs, work::overlapped};
use crate::cli::interrupt::on_interrupt;
use crate::error::{Error, Result, error};
use crate::image::{LegendEntry, Tally, legend_table};
use crate::video::{self, Format, Info, Kind, Options, PixelFormat, Rate, RawFrames, Selection, Sink, Source};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What only clips have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Video")]
pub(super) struct ClipArgs {
    /// Frames a second of numbered pictures and raw frames, such as 25, 29.97 or 30000/1001; other videos tell theirs [default: 25]
    #[arg(long, value_name = "RATE")]
    fps: Option<Rate>,

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
    pair.filter(|&(w, h)| w > 0 && h > 0).ok_or_else(|| "must be width x height, such as 640x480".to_owned())
}

/// A clip to read and where it goes.
pub(super) struct Plan {
    input: PathBuf,
    output: PathBuf,
    options: Options,
    selection: Selection,
}

/// What stands for standard input and output.
const STREAM: &str = "-";

/// The plan, where the arguments ask for a clip; `None` where they are pictures.
pub(super) fn plan(args: &Args) -> Result<Option<Plan>> {
    let clip = &args.clip;
    let output = args.output.as_deref();
    let only_clips = clip.fps.is_some() || clip.frames.is_some() || clip.every > 1 || clip.raw_size.is_some() || clip.raw_output;
    let to_stream = output == Some(Path::new(STREAM));
    let [input] = &args.inputs[..] else {
        if only_clips || to_stream || args.inputs.iter().any(|i| i == STREAM) {
            return Err(error!(Usage, "videos are segmented one at a time"));
        }
        return Ok(None);
    };
    let to_clip = to_stream || output.and_then(Format::of).is_some_and(|f| f != Format::Folder);
    let kind = video::kind(input);
    let is_clip = match kind {
        _ if input == STREAM || clip.raw_size.is_some() => true,
        Kind::Y4m | Kind::Container => true,
        // An animation becomes no single picture, unless its first frame is asked for.
        Kind::Animation => !args.first_frame && (to_clip || output.is_none_or(|o| Format::of(o).is_some())),
        Kind::Sequence => to_clip || clip.fps.is_some() || video::is_numbered(input),
        Kind::Still => false,
    };
    if !is_clip {
        return match only_clips {
            true => Err(error!(Usage, "is no video").file(input).advice("leave out the options for videos")),
            false => Ok(None),
        };
    }
    if args.probabilities {
        return Err(error!(Usage, "--probabilities goes with pictures, not with videos"));
    }
    let tells_rate = clip.raw_size.is_none() && (input == STREAM || kind != Kind::Sequence);
    if clip.fps.is_some() && tells_rate {
        return Err(error!(Usage, "--fps goes with numbered pictures and raw frames; this video tells its own rate").file(input));
    }
    let output = match output {
        Some(output) => output.to_owned(),
        None => usual_output(input, kind, args.style)?,
    };
    check_places(input, &output)?;
    let format = clip.pixel_format.unwrap_or(PixelFormat::Rgb24);
    let raw = clip.raw_size.map(|(width, height)| RawFrames { width, height, format });
    let selection = Selection { every: clip.every, ..clip.frames.unwrap_or_default() };
    Ok(Some(Plan { input: input.into(), output, options: Options { rate: clip.fps, raw, ..Options::default() }, selection }))
}

/// NAME-STYLE with the ending of the clip, or one that can hold it.
fn usual_output(input: &str, kind: Kind, style: Style) -> Result<PathBuf> {
    let path = Path::new(input);
    let ending = match kind {
        _ if input == STREAM => None,
        Kind::Y4m => Some("y4m"),
        Kind::Animation => Some("gif"),
        Kind::Container if style == Style::Mask => Some("mkv"),
        Kind::Container => path.extension().and_then(|e| e.to_str()),
        Kind::Sequence | Kind::Still => None,
    };
    let ending =
        ending.ok_or_else(|| error!(Usage, "say where the result goes").advice("name a file, a folder or `-` with -o"))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(PathBuf::from(format!("{stem}-{}.{ending}", style.suffix())))
}

/// Refuses what would fail only after the network was read.
fn check_places(input: &str, output: &Path) -> Result<()> {
    if input == STREAM && std::io::stdin().is_terminal() {
        return Err(error!(Usage, "standard input is a terminal; pipe a video into it"));
    }
    if output == Path::new(STREAM) {
        return match std::io::stdout().is_terminal() {
            true => Err(error!(Usage, "standard output is a terminal; pipe it on, or name a file")),
            false => Ok(()),
        };
    }
    if Format::of(output).is_none() {
        return Err(error!(Usage, "a video does not go into such a file")
            .file(output)
            .advice("let it end in .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi, or in / for a folder"));
    }
    if inputs::same_file(Path::new(input), output) {
        return Err(error!(Usage, "the result would replace the video itself").file(input).advice("name another `-o`"));
    }
    Ok(())
}

impl Plan {
    fn source(&self) -> Result<Box<dyn Source>> {
        let source = match self.input == Path::new(STREAM) {
            true => video::read(std::io::stdin(), "standard input", &self.options)?,
            false => video::open(&self.input, &self.options)?,
        };
        video::select(source, self.selection)
    }

    fn sink(&self, info: &Info, args: &Args, tools: &Tools) -> Result<Box<dyn Sink>> {
        let masks = args.style == Style::Mask;
        if self.to_stream() {
            return video::write_to(std::io::stdout(), "standard output", info, masks, args.clip.raw_output);
        }
        if Format::of(&self.output) != Some(Format::Folder)
            && let Some(folder) = self.output.parent().filter(|p| !p.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e))?;
        }
        video::create(&self.output, info, masks.then_some(&tools.table))
    }

    fn to_stream(&self) -> bool {
        self.output == Path::new(STREAM)
    }
}

/// What became of a clip.
#[derive(serde::Serialize)]
struct Outcome<'a> {
    input: &'a Path,
    output: &'a Path,
    /// Why the clip ends before its source does.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether Ctrl-C ended it.
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

/// Segments the clip and tells of it. Where its source fails in the middle, the frames before it are kept and the error is returned; so are they
/// after Ctrl-C, which is no error.
pub(super) fn run(args: &Args, plan: &Plan) -> Result<()> {
    let source = plan.source()?;
    let tools = Tools::open(args)?;
    let info = source.info().clone();
    let (width, height) = frame_size(args, info.width, info.height);
    let mut sink = plan.sink(&Info { width, height, ..info.clone() }, args, &tools)?;
    let stop = on_interrupt("stopping after the frames under way")?;
    let bar = progress(args, info.frames);
    let begun = Instant::now();
    let mut sums = Sums { notes: info.notes.clone(), ..Sums::default() };
    let (read_error, write_error) = work(args, &tools, source, &mut *sink, &stop, &mut sums, &bar);
    bar.finish_and_clear();
    if let Some(e) = write_error {
        return Err(e);
    }
    let stopped = stop.load(Ordering::Relaxed);
    if sums.frames == 0 {
        return Err(read_error.unwrap_or_else(|| error!(Picture, "there is no frame to segment").file(&plan.input)));
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
        rate: info.rate.to_string(),
        seconds,
        frames_per_second: sums.frames as f64 / seconds,
        classes: sums.tally.legend(&tools.table),
        notes: sums.notes,
    };
    tell(args, plan, &tools, outcome)?;
    match read_error {
        Some(e) => Err(e.advice(format!("the {} frames before it are in {}", sums.frames, plan.output.display()))),
        None => Ok(()),
    }
}

/// Runs the frames through, up to the end, an error, or Ctrl-C. Returns what went wrong with a frame, and with writing.
fn work(
    args: &Args,
    tools: &Tools,
    source: Box<dyn Source>,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    sums: &mut Sums,
    bar: &ProgressBar,
) -> (Option<Error>, Option<Error>) {
    let (mut read_error, mut write_error) = (None, None);
    // An interrupt reaches the other end of a pipe too: what it leaves broken is no error.
    let decoded = source.take_while(|_| !stop.load(Ordering::Relaxed));
    let network = |read: Result<video::Frame>| {
        let read = read?;
        let found = tools.segment(args, &read.picture)?;
        Ok((read, found))
    };
    overlapped(decoded, network, |result| {
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
        for note in &read.picture.notes {
            if !sums.notes.contains(note) {
                sums.notes.push(note.clone());
            }
        }
        let written = frame(args, tools, &read.picture, found).and_then(|content| sink.write(&content, read.duration));
        bar.inc(1);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                write_error = Some(e);
                ControlFlow::Break(())
            }
        }
    });
    (read_error, write_error)
}

fn progress(args: &Args, frames: Option<u64>) -> ProgressBar {
    let shown = !args.quiet && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match frames {
        Some(_) => "{bar:32} {pos}/{len} frames  {per_sec}  {eta} left",
        None => "{spinner} {pos} frames  {per_sec}  {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("invariant: the template is well-formed");
    ProgressBar::with_draw_target(frames, target).with_style(style)
}

/// The report: to standard output, unless the clip goes there.
fn tell(args: &Args, plan: &Plan, tools: &Tools, outcome: Outcome) -> Result<()> {
    if args.quiet && !args.json {
        return Ok(());
    }
    let swatches = if plan.to_stream() { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let text = if args.json {
        let weights = &tools.segmenter.model().path;
        let report = Report { device: &tools.device, weights, style: args.style.suffix(), video: outcome };
        serde_json::to_string_pretty(&report).expect("invariant: the report is plain data") + "\n"
    } else {
        let (w, h) = outcome.size;
        let notes: String = outcome.notes.iter().map(|n| format!("  note: {n}\n")).collect();
        let stopped = if outcome.stopped { ", stopped there" } else { "" };
        format!(
            "{} ({w}x{h}, {} frames a second) -> {}: {} frames in {:.1} s, {:.2} a second{stopped}\n{notes}{}",
            plan.input.display(),
            outcome.rate,
            plan.output.display(),
            outcome.frames,
            outcome.seconds,
            outcome.frames_per_second,
            legend_table(&outcome.classes, swatches)
        )
    };
    if plan.to_stream() {
        anstream::eprint!("{text}");
        return Ok(());
    }
    crate::cli::args::print(&text)
}
