//! `atrous segment`: images and videos in, masks and overlays out.

mod images;
mod inputs;
mod probabilities;
mod video;
mod work;
mod write;

use super::args::{DeviceArgs, MemoryArgs, ModelArgs, preset_size, say};
use crate::error::{Result, error};
use crate::image::{ClassTable, Image, SizeRule};
use crate::memory;
use crate::segmenter::{OutputOptions, Segmentation, Segmenter, Strip};
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Finds what is in images and videos and writes masks, overlays or cut-outs
///
/// Labels come back at each image's own size. A mask is an indexed PNG in which the value of a
/// pixel is its class, in the data set's colors; overlays take brighter ones.
///
/// Videos are Y4M files, animated GIF, PNG and WebP, numbered images (shot%04d.png), `-` for
/// standard input, and, where ffmpeg is installed, whatever it reads. They become .y4m, .gif, .mp4,
/// .mkv, .webm, .mov or .avi at the same rate, a directory of PNG files (NAME/), or a stream on
/// standard output (`-o -`), without sound. A directory or a pattern of images is a video where the
/// output is one, or --fps is given.
///
/// Ctrl-C, SIGTERM or SIGHUP finishes a video with the frames so far (exit code 0), and stops after
/// the images under way (exit code 128 plus the signal's number); a second signal ends the program
/// at once. No output replaces an input of the same call.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images, directories of images, or patterns such as 'holiday/*.jpg'; or one video
    #[arg(required = true, value_name = "IMAGE|VIDEO", value_parser = OsStringValueParser::new().try_map(input))]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,

    /// File to write, or a directory where there are several images [default: NAME-STYLE.png in the
    /// current directory; of a video, with its own ending]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,

    /// What to write
    #[arg(short, long, default_value = "overlay", value_name = "STYLE")]
    style: Style,

    /// Size at which the network sees the image: native (its own), N (long side, padded to a
    /// square), short:N (short side), or WxH [default: the preset of the weights, such as short:520
    /// for torchvision's; else native]
    #[arg(long, value_name = "native|N|short:N|WxH")]
    size: Option<SizeRule>,

    /// How strongly classes cover the image, 0 to 1
    #[arg(long, default_value_t = 0.6, value_name = "X", value_parser = opacity)]
    opacity: f32,

    /// File with the classes' numbers, names and colors, one a line, instead of the network's own
    #[arg(long, value_name = "classes.txt")]
    class_table: Option<PathBuf>,

    /// Classes that a cut-out keeps, by name or number [default: all but the class called
    /// background; where there is none, name them]
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',')]
    keep: Vec<String>,

    /// Also write the probabilities of all classes to NAME.probabilities.safetensors beside the
    /// output: four bytes for each pixel and class
    #[arg(long)]
    probabilities: bool,

    /// Takes the first frame of animated images instead of refusing them
    #[arg(long)]
    first_frame: bool,

    /// Writes a report as JSON instead of the table
    #[arg(long)]
    json: bool,

    /// No table and no progress bar
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    video: video::VideoArgs,

    #[command(flatten)]
    memory: MemoryArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Style {
    /// Indexed PNG: the value of a pixel is its class
    Mask,
    /// The image with the classes' colors over it
    Overlay,
    /// Image and overlay beside each other, with a legend of the classes and their share (in videos
    /// without)
    SideBySide,
    /// The image with everything but the kept classes transparent (in .y4m, raw frames and
    /// containers such as .mp4: green)
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

/// Names need not be UTF-8; an empty one (an unset variable in quotes) names nothing.
fn input(name: OsString) -> Result<PathBuf, &'static str> {
    match name.is_empty() {
        true => {
            Err("the name of an input is empty; name an image, a video, a directory or a pattern")
        }
        false => Ok(PathBuf::from(name)),
    }
}

fn opacity(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

/// What images and videos are segmented with.
struct Tools {
    segmenter: Segmenter,
    /// The device in words.
    device: String,
    table: ClassTable,
    /// Classes that a cut-out keeps.
    keep: Vec<usize>,
}

impl Tools {
    fn open(args: &Args) -> Result<Self> {
        let model = args.model.open()?;
        let table = class_table(args, model.class_table())?;
        let keep = kept_classes(args, &table, model.config.classes().unwrap_or(0))?;
        let tuning = args.device.tuning(args.quiet || args.json);
        let segmenter = Segmenter::new(model, &args.device.device)?.with_tuning(tuning);
        let device = segmenter.device().to_string();
        if !args.quiet && !args.json {
            say(&format!("running on {device}"));
            if let Some(preset) = preset_size(segmenter.model()).filter(|_| args.size.is_none()) {
                say(&preset);
            }
        }
        Ok(Self { segmenter, device, table, keep })
    }

    fn segment(&self, args: &Args, image: &Image) -> Result<Segmentation> {
        check_room(image)?;
        self.segmenter.segment_with(image, self.size(args), self.wants(args))
    }

    /// As [`Tools::segment`]; the probabilities of all classes go to `on_strip`, some rows at a
    /// time.
    fn segment_in_strips(
        &self,
        args: &Args,
        image: &Image,
        on_strip: impl FnMut(&Strip) -> Result<()> + Send,
    ) -> Result<Segmentation> {
        check_room(image)?;
        self.segmenter.segment_in_strips(image, self.size(args), self.wants(args), on_strip)
    }

    fn size(&self, args: &Args) -> SizeRule {
        args.size.unwrap_or_else(|| self.segmenter.default_size())
    }

    fn wants(&self, args: &Args) -> OutputOptions {
        OutputOptions {
            foreground: (args.style == Style::Cutout).then(|| self.keep.clone()),
            ..OutputOptions::default()
        }
    }
}

/// Errors where there is no room for the results of an image: its labels, the drawing, and the
/// file's bytes.
fn check_room(image: &Image) -> Result<()> {
    const BYTES: u64 = 8;
    let pixels = image.width as u64 * image.height as u64;
    memory::check(BYTES.saturating_mul(pixels), "what is drawn of it")
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    if let Some(plan) = video::plan(args)? {
        return video::run(args, &plan);
    }
    let jobs = inputs::jobs(args)?;
    images::run(args, &jobs)
}

/// The table that was asked for; else the network's own, for tinting in colors that are bright
/// enough.
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

/// Numbers of the classes that a cut-out keeps, of the network's `classes`: a table may name more.
fn kept_classes(args: &Args, table: &ClassTable, classes: usize) -> Result<Vec<usize>> {
    let names = &args.keep;
    if args.style != Style::Cutout {
        if !names.is_empty() {
            log::warn!(
                "`--keep` has no effect on the style `{}`; it chooses what `--style cutout` keeps",
                args.style.suffix()
            );
        }
        return Ok(Vec::new());
    }
    if names.is_empty() {
        // Without this, a network of street scenes would lose its first class: the sky.
        let background = table.background().ok_or_else(|| {
            error!(
                Usage,
                "nothing says what a cut-out keeps: the network has no class called background"
            )
            .advice(format!("choose with --keep among {}", table.names.join(", ")))
        })?;
        return Ok((0..classes).filter(|&class| class != background).collect());
    }
    names
        .iter()
        .map(|name| {
            let by_number = name.parse().ok().filter(|&n: &usize| n < table.names.len());
            by_number
                .or_else(|| table.names.iter().position(|n| n.eq_ignore_ascii_case(name)))
                .ok_or_else(|| {
                    error!(Usage, "the network has no class `{name}`")
                        .advice(format!("its classes are {}", table.names.join(", ")))
                })
        })
        .collect()
}
