//! `atrous segment`: pictures in, masks and overlays out.

mod inputs;
mod work;
mod write;

use super::args::{DeviceArgs, ModelArgs, print, print_json};
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::{ClassTable, LegendEntry, SizeRule, legend_table};
use crate::segmenter::Segmenter;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Finds what is in pictures and writes masks, overlays or cut-outs
///
/// Labels come back at each picture's own size. A mask is an indexed PNG in which the value of a pixel is its class, in the data set's
/// colours; overlays take brighter ones.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pictures, folders of pictures, or patterns such as 'holiday/*.jpg'
    #[arg(required = true, value_name = "PICTURE")]
    inputs: Vec<String>,

    #[command(flatten)]
    model: ModelArgs,

    /// File to write, or a folder where there are several pictures [default: NAME-STYLE.png in the current folder]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,

    /// What to write
    #[arg(short, long, default_value = "overlay", value_name = "STYLE")]
    style: Style,

    /// Size at which the network sees the picture: native, N (the long side, padded as the network was trained), or WxH
    /// [default: as the network was made for]
    #[arg(long, value_name = "native|N|WxH")]
    size: Option<SizeRule>,

    /// How strongly classes cover the picture, 0 to 1
    #[arg(long, default_value_t = 0.6, value_name = "X", value_parser = opacity)]
    opacity: f32,

    /// File with the classes' numbers, names and colours, one a line, instead of the network's own
    #[arg(long, value_name = "classes.txt")]
    class_table: Option<PathBuf>,

    /// Classes that a cut-out keeps, by name or number [default: all but the first, the background]
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',')]
    keep: Vec<String>,

    /// Also writes the probabilities of all classes, as NAME.probabilities.safetensors beside the picture written
    #[arg(long)]
    probabilities: bool,

    /// Takes the first frame of animated pictures instead of refusing them
    #[arg(long)]
    first_frame: bool,

    /// Writes a report as JSON instead of the table
    #[arg(long)]
    json: bool,

    /// No table and no progress bar
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    /// Indexed PNG: the value of a pixel is its class
    Mask,
    /// The picture with the classes' colours over it
    Overlay,
    /// Picture and overlay beside each other, with a legend of the classes and their share
    SideBySide,
    /// The picture with everything but the kept classes transparent
    Cutout,
}

impl Style {
    fn suffix(self) -> &'static str {
        match self {
            Style::Mask => "mask",
            Style::Overlay => "overlay",
            Style::SideBySide => "side-by-side",
            Style::Cutout => "cutout",
        }
    }
}

fn opacity(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

/// What became of one picture.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    input: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    /// Width and height.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(usize, usize)>,
    /// Width and height of the network's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_size: Option<(usize, usize)>,
    classes: Vec<LegendEntry>,
    notes: Vec<String>,
    /// Milliseconds on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

impl Outcome {
    fn failed(input: PathBuf, error: &Error) -> Self {
        Self {
            input,
            error: Some(error.to_string()),
            output: None,
            size: None,
            network_size: None,
            classes: Vec::new(),
            notes: Vec::new(),
            milliseconds: None,
        }
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    device: String,
    weights: &'a std::path::Path,
    style: &'static str,
    pictures: &'a [Outcome],
}

pub(super) fn run(args: &Args) -> Result<()> {
    let jobs = inputs::jobs(&args.inputs, args.output.as_deref(), args.style)?;
    let model = args.model.open()?;
    let table = class_table(args, model.class_table())?;
    let keep = kept_classes(&args.keep, &table)?;
    let tuning = args.device.tuning(args.quiet || args.json);
    let segmenter = Segmenter::new(model, &args.device.device)?.with_tuning(tuning);
    let device = segmenter.device().to_string();
    if !args.quiet && !args.json {
        anstream::eprintln!("running on {device}");
    }
    let writer = write::Writer { args, table: &table, keep: &keep };
    let bar = progress(args, jobs.len());
    let outcomes = work::run(&jobs, &segmenter, args, &writer, &bar);
    bar.finish_and_clear();

    if args.json {
        let weights = &segmenter.model().path;
        print_json(&Report { device, weights, style: args.style.suffix(), pictures: &outcomes })?;
    } else {
        for outcome in &outcomes {
            show(args, outcome)?;
        }
    }
    match outcomes.iter().filter(|o| o.error.is_some()).count() {
        0 => Ok(()),
        _ if outcomes.len() == 1 => {
            let text = outcomes[0].error.clone().unwrap_or_default();
            Err(Error::new(ErrorKind::Picture, text))
        }
        failed => Err(error!(Picture, "{failed} of {} pictures failed", outcomes.len())),
    }
}

fn progress(args: &Args, pictures: usize) -> ProgressBar {
    let shown = pictures > 1 && !args.quiet && std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(
        Some(pictures as u64),
        if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} pictures  {per_sec}  {eta} left  {wide_msg}");
    bar.set_style(style.expect("invariant: the template is well-formed"));
    bar
}

fn show(args: &Args, outcome: &Outcome) -> Result<()> {
    if let Some(error) = &outcome.error {
        // A single failure is told by the exit.
        if args.inputs.len() > 1 || !args.quiet {
            log::error!("{error}");
        }
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let (Some((w, h)), Some(output)) = (outcome.size, &outcome.output) else { return Ok(()) };
    let ms = outcome.milliseconds.unwrap_or_default();
    let notes: String = outcome.notes.iter().map(|n| format!("  note: {n}\n")).collect();
    let swatches = std::io::stdout().is_terminal();
    print(&format!(
        "{} ({w}x{h}, {ms:.0} ms) -> {}\n{notes}{}",
        outcome.input.display(),
        output.display(),
        legend_table(&outcome.classes, swatches)
    ))
}

/// The table that was asked for; else the network's own, for tinting in colours that are bright enough.
fn class_table(args: &Args, own: ClassTable) -> Result<ClassTable> {
    let Some(path) = &args.class_table else {
        let tints = matches!(args.style, Style::Overlay | Style::SideBySide);
        return Ok(if tints { own.vivid() } else { own });
    };
    let table = ClassTable::read(path)?;
    if table.names.len() < own.names.len() {
        let (has, needs) = (table.names.len(), own.names.len());
        return Err(error!(Usage, "names {has} classes, the network has {needs}").file(path));
    }
    Ok(table)
}

/// Numbers of the classes that a cut-out keeps.
fn kept_classes(names: &[String], table: &ClassTable) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((1..table.names.len()).collect());
    }
    names
        .iter()
        .map(|name| {
            let by_number = name.parse().ok().filter(|&n: &usize| n < table.names.len());
            by_number.or_else(|| table.names.iter().position(|n| n.eq_ignore_ascii_case(name))).ok_or_else(|| {
                error!(Usage, "the network has no class `{name}`").advice(format!("its classes are {}", table.names.join(", ")))
            })
        })
        .collect()
}
