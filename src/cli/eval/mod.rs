//! `atrous eval`: how good a network is on images with masks.

mod ablation;
mod bands;
mod report;
mod windows;

use self::bands::Bands;
use super::args::{DeviceArgs, MemoryArgs, ModelArgs, preset_size, print, print_json, say};
use super::outputs::OutputCheck;
use crate::data::{self, Pair};
use crate::error::{Result, error};
use crate::eval::{
    Confusion, PredictOptions, Predictor, SlidingWindow, TrimapAround, confusion_chart, evaluate,
    trimap_chart,
};
use crate::exec::Times;
use crate::files::Staged;
use crate::image::{ClassTable, SizeRule};
use crate::segmenter::{Model, Segmenter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Scores a network on images with masks: mIoU, each class's IoU, pixel and mean accuracy
///
/// mIoU is the mean over the classes that occur in the masks, of one confusion matrix over all
/// images, at the images' own sizes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Data set: a VOC directory, images/ with masks/, or NAME/ with NAMEannot/
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Its part, such as val [default: val where there is one]
    #[arg(long, value_name = "NAME")]
    part: Option<String>,

    /// File with the classes' numbers, names and colors, one a line, instead of the data set's own;
    /// labels called void or ignore, behind the last class, do not count
    #[arg(long, value_name = "classes.txt")]
    class_table: Option<PathBuf>,

    /// Size at which the network sees the image: native (its own), N (long side, padded to a
    /// square), short:N (short side), or WxH [default: the preset of the weights, such as short:520
    /// for torchvision's; else native]
    #[arg(long, value_name = "native|N|short:N|WxH")]
    size: Option<SizeRule>,

    /// Scales of that size whose probabilities are averaged; the paper takes
    /// 0.5,0.75,1,1.25,1.5,1.75
    #[arg(long, value_name = "S,...", value_delimiter = ',')]
    scales: Vec<f64>,

    /// Averages with the probabilities of the mirrored image
    #[arg(long)]
    flip: bool,

    /// Run the network on windows of the image instead of the whole: N (a square) or WxH, no
    /// smaller than the output stride
    #[arg(long, value_name = "N|WxH", value_parser = side)]
    window: Option<(usize, usize)>,

    /// Distance from one window to the next, at most the window's size; small strides take long
    /// [default: two thirds of the window]
    #[arg(long, value_name = "N|WxH", value_parser = side, requires = "window")]
    stride: Option<(usize, usize)>,

    /// Draws the confusion matrix
    #[arg(long, value_name = "FILE.png")]
    confusion: Option<PathBuf>,

    /// Also score bands around object borders (a trimap), W pixels wide to each side, 1 or more;
    /// such as 1,2,4,8,16,32
    #[arg(long, value_name = "W,...", value_delimiter = ',')]
    trimap: Vec<f64>,

    /// What the bands surround: void dilates the ignored pixels of the masks, as the paper does;
    /// boundary takes every border between two labels [default: void if the masks contain ignored
    /// pixels, else boundary]
    #[arg(long, value_name = "void|boundary", requires = "trimap")]
    trimap_around: Option<TrimapAround>,

    /// Plot the bands' mIoU against their width
    #[arg(long, value_name = "FILE.png", requires = "trimap")]
    trimap_plot: Option<PathBuf>,

    /// A table as in the paper: output stride 16 and 8, one scale and several, mirrored or not
    #[arg(long, conflicts_with_all = ["output_stride", "flip", "confusion", "trimap"])]
    ablation: bool,

    /// Writes the scores and the confusion matrix as JSON
    #[arg(long)]
    json: bool,

    /// No progress bar
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    memory: MemoryArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

fn side(text: &str) -> Result<(usize, usize)> {
    match text.parse()? {
        SizeRule::LongSide(n) => Ok((n, n)),
        SizeRule::Exact { w, h } => Ok((w, h)),
        SizeRule::Native | SizeRule::ShortSide(_) => {
            Err(error!(Usage, "a window has a size, such as 513 or 640x480"))
        }
    }
}

impl Args {
    fn method(&self) -> PredictOptions {
        let windows = self.window.map(|size| {
            let stride =
                self.stride.unwrap_or(((2 * size.0).div_ceil(3), (2 * size.1).div_ceil(3)));
            SlidingWindow { size, stride }
        });
        let scales = if self.scales.is_empty() { vec![1.0] } else { self.scales.clone() };
        PredictOptions { size: self.size, scales, flip: self.flip, window: windows }
    }

    fn segmenter(&self, model: Model) -> Result<Segmenter> {
        Ok(Segmenter::new(model, &self.device.device)?
            .with_tuning(self.device.tuning(self.quiet || self.json)))
    }

    fn bar(&self, images: usize) -> ProgressBar {
        let shown = !self.quiet && std::io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(images as u64), target);
        let style = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} images  {per_sec}  {eta} left  {wide_msg}",
        );
        bar.with_style(style.expect("invariant: the template is well-formed"))
    }
}

/// What is scored.
struct Subject {
    pairs: Vec<Pair>,
    part: Option<String>,
    table: ClassTable,
}

/// What came out for one way of asking.
struct Outcome {
    confusion: Confusion,
    trimap: Option<bands::Measured>,
    /// Median time of an image.
    time: Duration,
    /// Mean over the images, of all forward passes for one.
    multi_adds: u64,
}

/// Refuses charts that would replace what is scored, or one another.
fn check_outputs(args: &Args, pairs: &[Pair]) -> Result<()> {
    let mut outputs = OutputCheck::new("name another file for the chart");
    outputs.reads(&args.model.weights, "the weight file");
    for pair in pairs {
        outputs.reads(&pair.image, "an image of the data set");
        outputs.reads(&pair.mask, "a mask of the data set");
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
    check_outputs(args, &subject.pairs)?;
    if args.ablation {
        return ablation::run(args, model, &subject);
    }
    let segmenter = args.segmenter(model)?;
    if !args.quiet && !args.json {
        say(&format!("running on {}", segmenter.device()));
        if let Some(preset) = preset_size(segmenter.model()).filter(|_| args.size.is_none()) {
            say(&preset);
        }
    }
    let bar = args.bar(subject.pairs.len());
    let mut predictor = windows::shown(Predictor::new(&segmenter, args.method())?, &bar);
    windows::announce(args, &predictor, &subject);
    let bands = Bands::new(args, &subject.table)?;
    let outcome = score(&bar, &mut predictor, &subject, bands)?;
    // What was scored is told first, and none of the three is lost with another one: hours may have
    // gone into it.
    let report = report::Report::new(args, &segmenter, predictor.options(), &subject, &outcome);
    let printed = match args.json {
        true => print_json(&report),
        false => print(&report.text()),
    };
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

/// Refuses a name under which no chart could be saved, before anything is scored.
fn check_chart(path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !["png", "jpg", "jpeg", "webp"].iter().any(|known| ending.eq_ignore_ascii_case(known)) {
        return Err(error!(Usage, "images are written as .png, .jpg or .webp").file(path));
    }
    // A pipe is not opened twice: its reader would take the first end for the last.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    // Begun and dropped: that leaves nothing behind, and needs what the real one will need.
    Staged::create(path, ".tmp").map(drop)
}

/// The images, and the classes in which they are scored.
fn subject(args: &Args, model: &Model) -> Result<Subject> {
    let listing = data::open(&args.data, args.part.as_deref())?;
    let own = model.class_table();
    let (table, named_by) = match &args.class_table {
        Some(path) => (ClassTable::read(path)?, path),
        None => (listing.classes.unwrap_or_else(|| own.clone()), &args.data),
    };
    if table.len() != own.len() {
        return Err(error!(Data, "has {} classes, the network {}", table.len(), own.len())
            .file(named_by)
            .advice("score a network on the classes that it was trained for"));
    }
    if listing.pairs.is_empty() {
        return Err(error!(Data, "holds no images with masks").file(&args.data));
    }
    Ok(Subject { pairs: listing.pairs, part: listing.split, table })
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
            let found = predictor.predict(image)?;
            times.push(found.time);
            multi_adds += u128::from(predictor.multi_adds(image.width, image.height)?);
            Ok(found.labels)
        },
        &subject.pairs,
        &subject.table,
        &mut |scored| {
            if let Some(bands) = &mut bands {
                bands
                    .add(scored.truth, scored.prediction)
                    .map_err(|e| e.file(&scored.pair.mask))?;
            }
            bar.inc(1);
            bar.set_message(scored.pair.name.clone());
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let multi_adds = (multi_adds / subject.pairs.len() as u128) as u64;
    let time = Times::new(times).expect("invariant: there are images").median();
    Ok(Outcome { confusion, trimap: bands.map(|b| b.measured()), time, multi_adds })
}
