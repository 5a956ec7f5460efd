//! `atrous eval`: how good a network is on images with masks.

mod ablation;
mod bands;
mod report;
mod thresholds;
mod windows;

use self::bands::Bands;
use super::args::{DeviceArgs, MemoryArgs, ModelArgs, SizeArgs, fixed_size, preset_size};
use super::console::{print, print_json, progress, say};
use super::data_args::DataArgs;
use super::outputs::OutputCheck;
use crate::data::{self, DataSource, Pair};
use crate::error::{Result, error};
use crate::eval::{
    Confusion, PredictOptions, Predictor, SlidingWindow, TrimapAround, confusion_chart, evaluate,
    trimap_chart,
};
use crate::exec::Times;
use crate::files::Staged;
use crate::geometry::{Size, Spacing};
use crate::image::ClassTable;
use crate::ops::Threshold;
use crate::segmenter::{Model, Segmenter};
use crate::text::{self, printable};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  atrous eval -w best.safetensors --data camvid/
  atrous eval -w deeplab.pth --data VOC2012/ --split val --confusion confusion.png
  atrous eval -w person.safetensors --data people/ --thresholds 0.3,0.4,0.5,0.6,0.7
  atrous eval -w deeplab.pth --data VOC2012/ --trimap 1,2,4,8,16,32 --trimap-plot trimap.png
  atrous eval -w deeplab.pth --data VOC2012/ --scales 0.5,0.75,1,1.25,1.5,1.75 --flip";

/// Evaluate a network on images with masks: mIoU, IoU per class, pixel and mean accuracy
///
/// mIoU is the mean over the classes that occur in the masks, from one confusion matrix over all
/// images at their own sizes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Split of the data set [default: val if there is one]
    #[arg(long, value_name = "NAME", alias = "part")]
    split: Option<String>,

    /// File with the classes, one a line (number, name and optional color, or names alone); overrides
    /// the data set's own. Labels after the last class that are named void or ignore do not count
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Print the scores and the confusion matrix as JSON
    #[arg(long)]
    json: bool,

    /// Suppress the progress bar
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    size: SizeArgs,

    /// Scales of that size whose probabilities are averaged; the paper uses
    /// 0.5,0.75,1,1.25,1.5,1.75
    #[arg(long, value_name = "S,...", value_delimiter = ',', help_heading = METHOD)]
    scales: Vec<f64>,

    /// Average with the probabilities of the mirrored image
    #[arg(long, help_heading = METHOD)]
    flip: bool,

    /// Sliding-window inference with windows of N x N or WxH pixels, no smaller than the output
    /// stride
    #[arg(long, value_name = "N|WxH", value_parser = fixed_size, help_heading = METHOD)]
    window: Option<Size>,

    /// Distance between windows, at most the window's size; small strides take long [default: two
    /// thirds of the window]
    #[arg(long, value_name = "N|WxH", value_parser = fixed_size, requires = "window", help_heading = METHOD)]
    stride: Option<Size>,

    /// Print a table like the paper's: output strides 16 and 8, one scale and several, mirrored or
    /// not
    #[arg(long, conflicts_with_all = ["output_stride", "flip", "confusion", "trimap"], help_heading = METHOD)]
    ablation: bool,

    /// Score sigmoid outputs at each of these thresholds, above 0 and below 1, with one pass of the
    /// network over the images
    #[arg(
        long,
        value_name = "P,...",
        value_delimiter = ',',
        conflicts_with_all = ["threshold", "scales", "flip", "window", "ablation", "confusion", "trimap"],
        help_heading = METHOD
    )]
    thresholds: Vec<Threshold>,

    /// Plot the confusion matrix
    #[arg(long, value_name = "FILE.png", help_heading = OUTPUTS)]
    confusion: Option<PathBuf>,

    /// Also score bands around object borders (a trimap), W pixels wide on each side, 1 or more;
    /// for example 1,2,4,8,16,32
    #[arg(long, value_name = "W,...", value_delimiter = ',', help_heading = OUTPUTS)]
    trimap: Vec<f64>,

    /// Border that the bands surround: void dilates the ignored pixels of the masks, as the paper
    /// does; boundary uses every border between two labels [default: void if the masks contain
    /// ignored pixels, else boundary]
    #[arg(long, value_name = "void|boundary", requires = "trimap", help_heading = OUTPUTS)]
    trimap_around: Option<TrimapAround>,

    /// Plot the mIoU of the bands against their width
    #[arg(long, value_name = "FILE.png", requires = "trimap", help_heading = OUTPUTS)]
    trimap_plot: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    memory: MemoryArgs,
}

const METHOD: &str = "Method";
const OUTPUTS: &str = "Plots and trimaps";

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(in crate::cli) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.model.weights.as_mut(), self.quiet)
    }

    fn options(&self) -> PredictOptions {
        let window = self.window.map(|size| {
            let default = || size.map(|side| (2 * side).div_ceil(3));
            let Size { width: x, height: y } = self.stride.unwrap_or_else(default);
            SlidingWindow { size, stride: Spacing { x, y } }
        });
        let scales = if self.scales.is_empty() { vec![1.0] } else { self.scales.clone() };
        PredictOptions { size: self.size.size, scales, flip: self.flip, window }
    }

    fn segmenter(&self, model: Model) -> Result<Segmenter> {
        Ok(Segmenter::new(model, &self.device.device)?
            .with_tuning(self.device.tuning(self.quiet || self.json)))
    }

    fn bar(&self, images: usize) -> ProgressBar {
        progress(Some(images as u64), "images", self.quiet)
    }
}

/// The images to score, and their classes.
struct Subject {
    source: DataSource,
    pairs: Vec<Pair>,
    split: Option<String>,
    table: ClassTable,
}

impl Subject {
    /// Describes which images are scored.
    fn description(&self) -> String {
        let (count, source) = (text::count(self.pairs.len(), "image"), &self.source);
        let all =
            if self.pairs.len() == 1 { "the only image".into() } else { format!("all {count}") };
        match &self.split {
            Some(split) => format!("data: the {count} of the split `{}`", printable(split)),
            None => format!(
                "data: {all} of {source}, which has no validation split: if the network was \
                 trained on them, none were held out"
            ),
        }
    }
}

/// The scores of one method.
struct Outcome {
    confusion: Confusion,
    trimap: Option<bands::Measured>,
    /// Median time of an image.
    time: Duration,
    /// Multi-Adds of all forward passes for an image; mean over the images.
    multi_adds: u64,
}

/// Refuses charts that would replace an input, or one another.
fn check_outputs(args: &Args, subject: &Subject) -> Result<()> {
    let mut outputs = OutputCheck::new("name another file for the chart");
    outputs.reads(args.model.weights(), "the weight file");
    outputs.reads_lists(subject.source.directory());
    for pair in &subject.pairs {
        outputs.reads(&pair.image, "an image of the data set");
        outputs.reads(pair.mask.path(), "a mask of the data set");
    }
    if let Some(path) = &args.class_table {
        outputs.reads(path, "the class table");
    }
    if let Some(path) = &args.confusion {
        outputs.writes(path, "the confusion matrix")?;
    }
    args.trimap_plot.as_ref().map_or(Ok(()), |path| outputs.writes(path, "the chart of the bands"))
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.memory.apply();
    for path in [&args.confusion, &args.trimap_plot].into_iter().flatten() {
        check_chart(path)?;
    }
    let model = args.model.open()?;
    let subject = subject(args, &model)?;
    check_outputs(args, &subject)?;
    if !args.quiet && !args.json {
        say(&subject.description());
    }
    if args.ablation {
        return ablation::run(args, model, &subject);
    }
    let segmenter = args.segmenter(model)?;
    if !args.quiet && !args.json {
        say(&format!("device: {}", segmenter.device()));
        if let Some(preset) = preset_size(segmenter.model()).filter(|_| args.size.size.is_none()) {
            say(&preset);
        }
    }
    if !args.thresholds.is_empty() {
        return thresholds::run(args, &segmenter, &subject);
    }
    let bar = args.bar(subject.pairs.len());
    let mut predictor = windows::shown(Predictor::new(&segmenter, args.options())?, &bar);
    windows::announce(args, &predictor, &subject);
    let bands = Bands::new(args, &subject.table)?;
    let outcome = score(&bar, &mut predictor, &subject, bands)?;
    // All three outputs are attempted even if one fails: the scores may have taken hours.
    let report = report::Report::new(args, &segmenter, predictor.options(), &subject, &outcome);
    let printed = if args.json { print_json(&report) } else { print(&report.text()) };
    let matrix = match &args.confusion {
        Some(path) => {
            confusion_chart(&outcome.confusion, &subject.table).and_then(|chart| chart.save(path))
        }
        None => Ok(()),
    };
    let bands = match (&args.trimap_plot, &outcome.trimap) {
        (Some(path), Some(trimap)) => {
            trimap_chart(&trimap.bands).and_then(|chart| chart.save(path))
        }
        _ => Ok(()),
    };
    matrix.and(bands).and(printed)
}

/// Refuses a path that no chart could be saved to, before anything is scored.
fn check_chart(path: &Path) -> Result<()> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !["png", "jpg", "jpeg", "webp"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        return Err(error!(Usage, "unsupported image format; use .png, .jpg or .webp").file(path));
    }
    // A pipe must not be opened twice: its reader would see the end of the file too early.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Ok(());
    }
    // Creating a temporary file and dropping it needs the same permissions and leaves nothing.
    Staged::create(path, ".tmp").map(drop)
}

/// Opens the data set and matches its classes with those of the network.
fn subject(args: &Args, model: &Model) -> Result<Subject> {
    let own = model.class_table();
    let stated = args.class_table.as_ref().map(ClassTable::read).transpose()?;
    let source = args.data.source()?;
    let listing = data::open_with_classes(&source, args.split.as_deref(), stated.as_ref())?;
    listing.notes.iter().for_each(|note| say(&format!("note: {note}")));
    let (table, named_by) = match (&args.class_table, stated) {
        (Some(path), Some(table)) => (table, path.as_path()),
        _ => (listing.classes.unwrap_or_else(|| own.clone()), source.directory()),
    };
    if table.len() != own.len() {
        return Err(error!(
            Data,
            "has {}, the network {}",
            text::count(table.len(), "class"),
            own.len()
        )
        .file(named_by)
        .advice("evaluate a network on the classes that it was trained on"));
    }
    if listing.pairs.is_empty() {
        return Err(error!(Data, "contains no images with masks").file(source.directory()));
    }
    Ok(Subject { pairs: listing.pairs, split: listing.split, table, source })
}

fn score(
    bar: &ProgressBar,
    predictor: &mut Predictor,
    subject: &Subject,
    mut bands: Option<Bands>,
) -> Result<Outcome> {
    let mut times = Vec::with_capacity(subject.pairs.len());
    let mut multi_adds = 0u128;
    let confusion = evaluate(
        &mut |image| {
            let prediction = predictor.predict(image)?;
            times.push(prediction.time);
            multi_adds += u128::from(predictor.multi_adds(image.size())?);
            Ok(prediction.labels)
        },
        &subject.pairs,
        &subject.table,
        &mut |scored| {
            if let Some(bands) = &mut bands {
                bands
                    .add(scored.truth, scored.prediction)
                    .map_err(|e| e.file(scored.pair.mask.path()))?;
            }
            bar.inc(1);
            bar.set_message(printable(&scored.pair.name).into_owned());
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let multi_adds = (multi_adds / subject.pairs.len() as u128) as u64;
    let time = Times::new(times).expect("invariant: there are images").median();
    Ok(Outcome { confusion, trimap: bands.map(|b| b.measured()), time, multi_adds })
}
