//! `atrous doctor`: check a data set before training on it.

use super::console::{print, print_json, progress};
use super::data_args::PatternArgs;
use super::format::{table, thousands};
use super::outputs::OutputCheck;
use super::registries::data_help;
use crate::data::DataSource;
use crate::data::doctor::{Doctor, Examination, Finding, Severity, SplitReport};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::text::{self, printable};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Characters of the longest bar.
const BAR: usize = 24;

const EXAMPLES: &str = "\
Examples:
  atrous doctor camvid/
  atrous doctor VOC2012/ --split trainaug -o sheet.png
  atrous doctor mine/ --class-table classes.txt --json";

/// Check a data set for faults before training on it
///
/// Checks images, masks and splits, prints the class distribution and suggests class weights. The
/// exit code is 1 if there are faults.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[arg(required_unless_present = "images", num_args = 1..=2, value_name = "DIR", id = "data", help = data_help())]
    directories: Vec<PathBuf>,

    #[command(flatten)]
    patterns: PatternArgs,

    /// Split to check, such as train; may be repeated [default: train, val and test if present]
    #[arg(long = "split", value_name = "NAME", alias = "part")]
    splits: Vec<String>,

    /// File with the classes, one a line (number, name and optional color, or names alone) [default:
    /// the directory's classes.txt, else the classes of VOC, Cityscapes or ADE20K]
    #[arg(long, value_name = "FILE", alias = "classes")]
    class_table: Option<PathBuf>,

    /// Write a contact sheet of images with their masks over them (.png, .jpg or .webp)
    #[arg(short, long, value_name = "FILE", alias = "out")]
    output: Option<PathBuf>,

    /// Number of images on the contact sheet, 1 to 400
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    sheet_images: u16,

    /// Lines printed per kind of finding; 0 prints all
    #[arg(long, default_value_t = 10, value_name = "N")]
    lines: usize,

    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Returns the data set. `doctor data DIR`, the form of earlier versions, is still accepted.
    fn source(&self) -> Result<DataSource> {
        match (&self.directories[..], self.patterns.source()) {
            ([], Some(patterns)) => Ok(patterns),
            ([directory], _) => Ok(directory.into()),
            ([command, directory], _) if command == Path::new("data") => Ok(directory.into()),
            _ => Err(error!(Usage, "expected one directory")),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let source = args.source()?;
    let classes = args.class_table.as_ref().map(ClassTable::read).transpose()?;
    let doctor = Doctor::new(source.clone(), &args.splits, classes)?;
    check_sheet(args, &doctor)?;
    let bar = progress(Some(doctor.pairs() as u64), "pairs", false);
    let examination = doctor.examine(|| bar.inc(1));
    bar.finish_and_clear();
    if args.json {
        print_json(&examination)?;
    } else {
        let lines = if args.lines == 0 { usize::MAX } else { args.lines };
        print(&text(&examination, lines))?;
    }
    if let Some(output) = &args.output {
        examination.sheet(usize::from(args.sheet_images))?.save(output)?;
    }
    match examination.faults() {
        0 => Ok(()),
        1 => Err(error!(Data, "1 fault was found").file(source.directory())),
        n => Err(error!(Data, "{n} faults were found").file(source.directory())),
    }
}

/// Refuses a sheet that would replace a file of the data set.
fn check_sheet(args: &Args, doctor: &Doctor) -> Result<()> {
    let Some(output) = &args.output else { return Ok(()) };
    let mut outputs = OutputCheck::new("name another file for the sheet");
    outputs.reads_lists(args.source()?.directory());
    doctor.files().for_each(|file| outputs.reads(file, "a file of the data set"));
    if let Some(path) = &args.class_table {
        outputs.reads(path, "the class table");
    }
    outputs.writes(output, "the sheet")
}

fn text(examination: &Examination, lines: usize) -> String {
    let splits: Vec<String> = examination.splits.iter().map(split_text).collect();
    let mut out = splits.join("\n");
    if examination.findings.is_empty() {
        out.push_str("\nno faults found\n");
    }
    for severity in [Severity::Fault, Severity::Warning] {
        let alike: Vec<&Finding> =
            examination.findings.iter().filter(|f| f.severity == severity).collect();
        // Findings are sorted by problem.
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
                let split = finding
                    .split
                    .as_ref()
                    .map(|p| format!(" [{}]", printable(p)))
                    .unwrap_or_default();
                let _ = writeln!(out, "  {}{split}{detail}", text::path(&finding.file));
            }
            if group.len() > lines {
                let _ = writeln!(out, "  and {} more (--lines 0 prints all)", group.len() - lines);
            }
            let _ = writeln!(out, "  -> {}", problem.advice());
        }
    }
    out
}

fn split_text(split: &SplitReport) -> String {
    let size = match split.sizes {
        None => "none readable".to_owned(),
        Some([least, most]) if least == most => format!("{least} pixels"),
        Some([least, most]) => {
            format!("{least} to {most} pixels")
        }
    };
    let name = printable(split.name.as_deref().unwrap_or("all"));
    let pairs = match split.pairs {
        1 => "1 pair".to_owned(),
        pairs => format!("{} pairs", thousands(pairs as u64)),
    };
    let mut out = format!("{name}: {pairs}, {size}\n\n");
    let heads = ["class", "", "pixels", "share", "", "images", "median weight", "log weight"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let largest = split.classes.iter().map(|c| c.share).fold(0.0, f64::max);
    let weight = |w: Option<f64>| w.map_or("-".to_owned(), |w| format!("{w:.3}"));
    for class in &split.classes {
        // Every class that occurs gets at least one character.
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
    rows.push(vec!["-".into(), "ignored".into(), thousands(split.ignored)]);
    out += &table(&rows, &[0, 2, 3, 5, 6, 7]);
    out
}
