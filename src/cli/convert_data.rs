//! `atrous convert-data`: write a data set of any layout in the plain one.

use super::console::{print, print_json, progress, say};
use super::interrupt::on_interrupt;
use super::registries::data_help;
use crate::data::convert::{Conversion, Converted};
use crate::error::Result;
use crate::image::ClassTable;
use crate::text::{self, printable};
use std::fmt::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  atrous convert-data coco/ plain/
  atrous convert-data labelme/ plain/ --link
  atrous convert-data yolo/ plain/ --split train --split val --json";

/// Write a data set as images, PNG masks and classes.txt
///
/// Annotations are drawn as masks of class numbers. The output is `images/SPLIT/`, `masks/SPLIT/` and
/// `classes.txt`; it appears when it is complete.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[arg(value_name = "INPUT", help = data_help())]
    input: PathBuf,

    /// Directory to write, which must be new or empty
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,

    /// Split to write, such as train; may be repeated [default: train, val and test if present]
    #[arg(long = "split", value_name = "NAME")]
    splits: Vec<String>,

    /// File with the classes, one a line (number, name and optional color, or names alone) [default:
    /// those of the data set]
    #[arg(long, value_name = "FILE", alias = "classes")]
    class_table: Option<PathBuf>,

    /// Link to the images instead of copying them
    #[arg(long)]
    link: bool,

    /// Print a report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let table = args.class_table.as_ref().map(ClassTable::read).transpose()?;
    let conversion = Conversion::new(&args.input, &args.splits, table)?;
    let stop = on_interrupt("stopping; nothing is written")?;
    let bar = progress(Some(conversion.pairs() as u64), "pairs", false);
    let converted = conversion.write(&args.output, args.link, &stop, || bar.inc(1));
    bar.finish_and_clear();
    let converted = converted?;
    if args.json {
        return print_json(&converted);
    }
    converted.notes.iter().for_each(|note| say(&format!("note: {}", printable(note))));
    print(&report(&converted))
}

fn report(converted: &Converted) -> String {
    let mut out = String::new();
    for split in &converted.splits {
        let name = printable(split.name.as_deref().unwrap_or("all"));
        let _ = writeln!(out, "{name}: {}", text::count(split.pairs, "pair"));
    }
    let classes = text::count(converted.classes.len(), "class");
    let _ = writeln!(out, "written to {}, {classes}", text::path(&converted.output));
    out
}
