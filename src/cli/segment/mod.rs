//! `atrous segment`: images and videos in, masks and overlays out.

mod cutout;
mod images;
mod inputs;
mod masks;
mod objects;
mod probabilities;
mod results;
mod stream;
mod video;
mod views;
mod work;
mod write;

use super::args::{DeviceArgs, MemoryArgs, ModelArgs, SizeArgs, preset_size};
use super::console::say;
use super::weights::{self, Consent};
use crate::error::{Error, Result, error};
use crate::files::json_path;
use crate::image::{Background, ClassTable, Image, SizeRule};
use crate::memory;
use crate::ops::Threshold;
use crate::segmenter::{Model, OutputOptions, Segmenter};
use crate::text::count;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  atrous segment cat.jpg
  atrous segment street.jpg --weights street
  atrous segment cat.jpg --weights hf:LibreYOLO/LibreDeepLabv3r50-sem
  atrous segment photo.jpg -w deeplab.safetensors -o out.png
  atrous segment photos/ -w deeplab.safetensors --style mask -o masks/
  atrous segment portrait.jpg -w deeplab.safetensors --style cutout --keep person
  atrous segment portrait.jpg -w deeplab.safetensors --style mask --binary --keep person
  atrous segment photos/ -w deeplab.safetensors --format coco -o objects.json
  atrous segment - -w deeplab.safetensors -o - < cat.jpg > overlay.png
  atrous segment call.mp4 --style cutout --keep person --background blur
  atrous segment video.mp4 -w deeplab.safetensors -o out.mp4
  atrous segment 'shot%04d.png' --fps 24 -w deeplab.safetensors -o out.gif
  ffmpeg -i in.mkv -f yuv4mpegpipe - |
    atrous segment - -w deeplab.safetensors -o - | ffplay -";

/// Segment images and videos; write masks, overlays or cut-outs
///
/// Results have the size of their image, and the format of the output's extension: .png, .jpg,
/// .webp, .tiff or .bmp. A mask is an indexed image: the value of a pixel is its class, the palette
/// has the data set's colors. Overlays use brighter colors. `-` reads an image from standard input,
/// or writes it to standard output; the report is then on standard error.
///
/// Without --weights the network for general photos is used, `voc` of `atrous models`. It is
/// downloaded once, after a yes.
///
/// Videos are Y4M files, animated GIF, PNG and WebP files, numbered images (shot%04d.png), Y4M on
/// standard input (`-`), and, if ffmpeg is installed, whatever it reads, https:// and rtsp://
/// addresses too. They are written as .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi at the same frame
/// rate, as a directory of PNG files (NAME/), or as a stream on standard output (`-o -`), without
/// sound. A directory or a pattern of images is processed as a video if the output is one, or with
/// --fps.
///
/// Ctrl-C, SIGTERM or SIGHUP finishes a video with the frames so far (exit code 0), and stops after
/// the images in progress (exit code 128 plus the signal's number). A second signal exits at once.
/// An output never replaces an input of the same call.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("weights", |weights| weights.required(false)))]
pub(super) struct Args {
    /// Images, directories of images, or patterns such as 'holiday/*.jpg'; or one video
    #[arg(required = true, value_name = "IMAGE|VIDEO", value_parser = OsStringValueParser::new().try_map(input))]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,

    /// File to write, `-` for standard output, or a directory for several images [default:
    /// NAME-STYLE.png in the current directory; for a video, the video's own extension]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,

    /// What to write
    #[arg(short, long, default_value = "overlay", value_name = "STYLE")]
    style: Style,

    #[command(flatten)]
    size: SizeArgs,

    /// Opacity of the class colors over the image, 0 to 1 [default: 0.6]
    #[arg(long, value_name = "X", value_parser = opacity)]
    opacity: Option<f32>,

    /// File with the classes, one a line (number, name and optional color, or names alone); overrides
    /// the network's own
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Classes that a cut-out keeps, a --binary mask shows or --format outlines, by name or number
    /// [default: all but the class `background`; required by cut-outs and masks if there is none]
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',')]
    keep: Vec<String>,

    /// Give a cut-out a hard edge: a pixel is opaque or transparent, as in the mask
    #[arg(long)]
    hard_edge: bool,

    #[command(flatten)]
    results: results::ResultArgs,

    #[command(flatten)]
    views: views::ViewArgs,

    #[command(flatten)]
    cutout: cutout::CutoutArgs,

    /// Use the first frame of animated images instead of refusing them
    #[arg(long)]
    first_frame: bool,

    /// Print a report as JSON instead of a table
    #[arg(long)]
    json: bool,

    /// Print neither the table nor a progress bar
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    objects: objects::ObjectArgs,

    #[command(flatten)]
    video: video::VideoArgs,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    memory: MemoryArgs,

    /// License of the network that a short name means.
    #[arg(skip)]
    license: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    /// Indexed image: the value of a pixel is its class
    Mask,
    /// The image with the class colors over it
    Overlay,
    /// Image and overlay beside each other, with a legend (in videos without)
    SideBySide,
    /// The image with all but the kept classes transparent (green in .y4m, raw frames, .mp4, ...), or
    /// replaced by a --background
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

/// Parses the name of an input. It need not be UTF-8; an empty name (an unset variable in quotes) is
/// refused.
fn input(name: OsString) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err(
            "the name is empty; name an image, a video, a directory or a pattern".to_owned()
        );
    }
    Ok(PathBuf::from(name))
}

fn opacity(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

impl Args {
    /// Replaces the name of a network by the path of its file; without any, the default network is
    /// used. Nothing is downloaded for inputs that do not exist.
    pub(super) fn resolve_weights(&mut self, yes: bool) -> Result<()> {
        self.refuse_unused()?;
        inputs::refuse_missing(&self.inputs)?;
        let consent = Consent { yes, quiet: self.quiet || self.json };
        let network = match &mut self.model.weights {
            Some(weights) => weights::resolve(weights, consent)?,
            none => {
                let (path, network) = weights::default_network(consent)?;
                *none = Some(path);
                Some(network)
            }
        };
        self.license = network.map(|network| network.license);
        Ok(())
    }
}

/// The segmenter, and how its results are drawn.
struct Tools {
    segmenter: Segmenter,
    /// Description of the device.
    device: String,
    table: ClassTable,
    /// Classes that are kept: by a cut-out, in a mask of two values, as objects.
    keep: Vec<usize>,
    /// What is behind a cut-out.
    background: Option<Background>,
}

/// What was segmented with, in the reports of images and videos.
#[derive(serde::Serialize)]
struct Setup<'a> {
    device: &'a str,
    #[serde(serialize_with = "json_path::serialize")]
    weights: &'a Path,
    /// License of a public network that was given by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'static str>,
    /// Probability above which a sigmoid output holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    style: &'static str,
}

impl Tools {
    fn setup(&self, args: &Args) -> Setup<'_> {
        let model = self.segmenter.model();
        let threshold = model.network.labeling().and_then(|labeling| labeling.sigmoid());
        Setup {
            device: &self.device,
            weights: &model.path,
            license: args.license,
            threshold: threshold.map(Threshold::probability),
            style: args.style.suffix(),
        }
    }

    fn open(args: &Args) -> Result<Self> {
        let model = args.model.open()?;
        let table = class_table(args, &model)?;
        let keep = kept_classes(args, &table, model.network.classes().unwrap_or(0))?;
        let background = cutout::background(args)?;
        let tuning = args.device.tuning(args.quiet || args.json);
        let segmenter = Segmenter::new(model, &args.device.device)?.with_tuning(tuning);
        let device = segmenter.device().to_string();
        let model = segmenter.model();
        log::info!(
            "network: {} with {} classes, {}",
            model.network.title(),
            model.network.classes().unwrap_or(0),
            model.dialect_name()
        );
        if !args.quiet && !args.json {
            say(&format!("device: {device}"));
            if let Some(preset) =
                preset_size(segmenter.model()).filter(|_| args.size.size.is_none())
            {
                say(&preset);
            }
        }
        Ok(Self { segmenter, device, table, keep, background })
    }

    fn size(&self, args: &Args) -> SizeRule {
        args.size.size.unwrap_or_else(|| self.segmenter.default_size())
    }

    fn wants(&self, args: &Args) -> OutputOptions {
        let is_soft = args.style == Style::Cutout && !args.hard_edge;
        let labeling = self.segmenter.model().network.labeling();
        // Where classes can overlap, a label names only one of those that hold.
        let overlaps = args.results.binary && labeling.is_some_and(|l| l.is_multi_label());
        OutputOptions {
            foreground: (is_soft || overlaps).then(|| self.keep.clone()),
            confidence: args.results.confidence,
            ..OutputOptions::default()
        }
    }
}

/// Returns an error if the memory does not suffice for the results of an image: labels, drawing and
/// encoded file.
fn check_memory(image: &Image) -> Result<()> {
    const BYTES: u64 = 8;
    let pixels = image.width as u64 * image.height as u64;
    memory::check(BYTES.saturating_mul(pixels), "drawing the result")
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    cutout::check(args)?;
    let piped = stream::Piped::open(args)?;
    if let Some(plan) = video::plan(args, piped.as_ref())? {
        return video::run(args, &plan);
    }
    let jobs = inputs::jobs(args)?;
    let piped = piped.map(stream::Piped::into_bytes).transpose()?;
    images::run(args, &jobs, piped.as_deref())
}

/// Returns the class table given by `--class-table`, else the network's own, in brighter colors for
/// overlays.
fn class_table(args: &Args, model: &Model) -> Result<ClassTable> {
    let (own, network) = (model.class_table(), &model.network);
    let Some(path) = &args.class_table else {
        let tints = matches!(args.style, Style::Overlay | Style::SideBySide);
        return Ok(if tints { own.vivid() } else { own });
    };
    let table = ClassTable::read(path)?;
    if table.len() < own.len() {
        let has = count(table.len(), "class");
        let error = error!(Usage, "lists {has}, the network has {}", own.len()).file(path);
        let labeling = network.labeling().filter(|labeling| labeling.channels() == 1);
        return Err(match labeling {
            Some(_) => error.advice(
                "a network with one output has two classes, the background and the foreground: list \
                 both, such as `0 background` and `1 person`",
            ),
            None => error,
        });
    }
    Ok(table)
}

/// Returns the numbers of the classes that are kept: by a cut-out, in a mask of two values, or as
/// objects. The network has `classes` classes; a table may list more.
fn kept_classes(args: &Args, table: &ClassTable, classes: usize) -> Result<Vec<usize>> {
    let (names, are_objects) = (&args.keep, args.objects.format.is_some());
    if args.style != Style::Cutout && !args.results.binary && !are_objects {
        return Ok(Vec::new());
    }
    if names.is_empty() {
        let background = table.background();
        // Without this check, a network for street scenes would lose its first class, the sky.
        if background.is_none() && !are_objects {
            let what = if args.results.binary { "a binary mask" } else { "a cut-out" };
            return Err(error!(
                Usage,
                "{what} needs --keep: the network has no class `background` to remove"
            )
            .advice(format!("choose among {}", table.names.join(", "))));
        }
        return Ok((0..classes).filter(|&class| background != Some(class)).collect());
    }
    names
        .iter()
        .map(|name| {
            let by_number = name.parse().ok().filter(|&n: &usize| n < table.names.len());
            by_number
                .or_else(|| table.names.iter().position(|n| n.eq_ignore_ascii_case(name)))
                .ok_or_else(|| no_class(name, table))
        })
        .collect()
}

/// Returns the error about a class that cannot be kept. A network of one class besides the background
/// often does not know that class's name.
fn no_class(name: &str, table: &ClassTable) -> Error {
    let advice = match (&table.names[..], table.background()) {
        ([a, b], Some(background)) => format!(
            "its only class besides the background is `{}`, which a cut-out keeps without --keep; \
             --class-table FILE names the classes",
            if background == 0 { b } else { a }
        ),
        _ => format!("its classes are {}; --class-table FILE names them", table.names.join(", ")),
    };
    error!(Usage, "the network has no class `{name}`").advice(advice)
}
