//! `atrous doctor`: finds what is wrong before time is spent on it.

use super::args::{print, print_json, table, thousands};
use super::outputs::OutputCheck;
use crate::data::doctor::{Doctor, Examination, Finding, Severity, SplitReport};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::text::{self, printable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Cells of the longest bar.
const BAR: usize = 24;

/// Finds what is wrong before time is spent on it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Looks through a directory of images and masks: what would go wrong in training, how the
    /// classes are spread, suggested weights
    ///
    /// Known are the layouts of PASCAL VOC (also with SBD), Cityscapes, ADE20K and CamVid, and
    /// images/ with masks/. Ends with an error where there are faults, so that a script stops
    /// before it trains.
    Data(DataArgs),
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    /// The data set's directory
    dir: PathBuf,

    /// A part to look through, such as train; may be repeated [default: those for training,
    /// validation and test]
    #[arg(long = "part", value_name = "NAME")]
    parts: Vec<String>,

    /// Names and colors of the classes [default: the directory's classes.txt, else what VOC,
    /// Cityscapes and ADE20K have]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,

    /// Writes a sheet of images with their masks over them (.png, .jpg or .webp)
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Images on the sheet
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    images: u16,

    /// Lines for each kind of finding; 0 prints all
    #[arg(long, default_value_t = 10, value_name = "N")]
    lines: usize,

    /// Writes everything as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let What::Data(args) = &args.what;
    let classes = args.classes.as_ref().map(ClassTable::read).transpose()?;
    let doctor = Doctor::new(&args.dir, &args.parts, classes)?;
    check_sheet(args, &doctor)?;
    let bar = progress(doctor.pairs());
    let found = doctor.examine(|| bar.inc(1));
    bar.finish_and_clear();
    match args.json {
        true => print_json(&found)?,
        false => print(&text(&found, if args.lines == 0 { usize::MAX } else { args.lines }))?,
    }
    if let Some(out) = &args.out {
        found.sheet(usize::from(args.images))?.save(out)?;
    }
    match found.faults() {
        0 => Ok(()),
        1 => Err(error!(Data, "1 fault was found").file(&args.dir)),
        n => Err(error!(Data, "{n} faults were found").file(&args.dir)),
    }
}

/// Refuses a sheet that would replace what is looked through.
fn check_sheet(args: &DataArgs, doctor: &Doctor) -> Result<()> {
    let Some(out) = &args.out else { return Ok(()) };
    let mut outputs = OutputCheck::new("name another file for the sheet");
    doctor.files().for_each(|file| outputs.reads(file, "a file of the data set"));
    if let Some(path) = &args.classes {
        outputs.reads(path, "the class table");
    }
    outputs.writes(out, "the sheet")
}

fn progress(pairs: usize) -> ProgressBar {
    let shown = std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} pairs  {per_sec}  {eta} left");
    ProgressBar::with_draw_target(Some(pairs as u64), target)
        .with_style(style.expect("invariant: the template is well-formed"))
}

fn text(found: &Examination, lines: usize) -> String {
    let parts: Vec<String> = found.splits.iter().map(part).collect();
    let mut out = parts.join("\n");
    for severity in [Severity::Fault, Severity::Warning] {
        let alike: Vec<&Finding> =
            found.findings.iter().filter(|f| f.severity == severity).collect();
        // They come sorted by problem.
        for group in alike.chunk_by(|a, b| a.problem == b.problem) {
            let word = if severity == Severity::Fault { "fault" } else { "warning" };
            let problem = group[0].problem;
            let _ = writeln!(out, "\n{word}: {} ({})", problem.title(), group.len());
            for finding in group.iter().take(lines) {
                let detail = if finding.detail.is_empty() {
                    String::new()
                } else {
                    format!(": {}", printable(&finding.detail))
                };
                let part = finding
                    .split
                    .as_ref()
                    .map(|p| format!(" [{}]", printable(p)))
                    .unwrap_or_default();
                let _ = writeln!(out, "  {}{part}{detail}", text::path(&finding.file));
            }
            if group.len() > lines {
                let _ = writeln!(out, "  and {} more (--lines 0 prints all)", group.len() - lines);
            }
            let _ = writeln!(out, "  -> {}", problem.advice());
        }
    }
    out
}

fn part(part: &SplitReport) -> String {
    let size = match part.sizes {
        None => "none can be read".to_owned(),
        Some([least, most]) if least == most => format!("{} x {} pixels", least.0, least.1),
        Some([least, most]) => {
            format!("{} to {} x {} to {} pixels", least.0, most.0, least.1, most.1)
        }
    };
    let name = printable(part.name.as_deref().unwrap_or("all"));
    let mut out = format!("{name}: {} pairs, {size}\n\n", thousands(part.pairs as u64));
    let heads = ["class", "", "pixels", "share", "", "images", "median weight", "log weight"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let largest = part.classes.iter().map(|c| c.share).fold(0.0, f64::max);
    let weight = |w: Option<f64>| w.map_or("-".to_owned(), |w| format!("{w:.3}"));
    for class in &part.classes {
        // A class that is there at all has a mark.
        let cells = if class.pixels == 0 {
            0
        } else {
            ((class.share / largest * BAR as f64).round() as usize).max(1)
        };
        rows.push(vec![
            class.class.to_string(),
            class.name.clone(),
            thousands(class.pixels),
            format!("{:.2} %", 100.0 * class.share),
            "#".repeat(cells),
            thousands(class.images as u64),
            weight(class.median_weight),
            weight(class.log_weight),
        ]);
    }
    rows.push(vec!["-".into(), "ignored".into(), thousands(part.ignored)]);
    out += &table(&rows, &[0, 2, 3, 5, 6, 7]);
    out
}
