//! Arguments that several commands share, and how commands print.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::DeviceChoice;
use crate::image::SizeRule;
use crate::memory;
use crate::models::PaperHead;
use crate::segmenter::Model;
use crate::text::printable_json;
use crate::tune::{Tuning, TuningMode};
use crate::weights::dialects::ReadOptions;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Which device runs the work.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgs {
    /// auto (a real GPU, else the processor), cpu, gpu, an index of `atrous devices`, or
    /// backend:name such as vulkan:llvmpipe
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "ATROUS_DEVICE")]
    pub device: DeviceChoice,

    /// How a GPU's kernels are chosen; on the processor it has no effect
    #[arg(long, default_value = "cached", value_name = "MODE")]
    pub tune: Tune,
}

/// How kernels are chosen, in the words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Tune {
    /// The kernels expected to be fastest, whatever was measured
    Off,
    /// Those that `--tune on` once found to be fastest on this device, for shapes that it has seen
    Cached,
    /// Measures what is new, and remembers it for the next time: minutes once, quicker ever after
    On,
}

impl From<Tune> for TuningMode {
    fn from(tune: Tune) -> Self {
        match tune {
            Tune::Off => TuningMode::Off,
            Tune::Cached => TuningMode::Cached,
            Tune::On => TuningMode::On,
        }
    }
}

impl DeviceArgs {
    /// The tuning that was asked for, with a bar on the terminal while something is measured
    /// (unless `quiet`).
    pub(super) fn tuning(&self, quiet: bool) -> Tuning {
        let tuning = Tuning::new(self.tune.into());
        if quiet || !std::io::stderr().is_terminal() {
            return tuning;
        }
        let style =
            ProgressStyle::with_template("tuning {bar:32} {pos}/{len}  {elapsed}  {wide_msg}");
        let style = style.expect("invariant: the template is well-formed");
        let bar = ProgressBar::hidden().with_style(style);
        tuning.reporting(move |progress| match progress.measuring {
            Some(call) => {
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_length(progress.of as u64);
                bar.set_position(progress.done as u64);
                bar.set_message(call.to_owned());
            }
            None => bar.finish_and_clear(),
        })
    }
}

/// Which network.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Weight file: .safetensors, .pth or .pt, of any dialect (see `atrous inspect`)
    #[arg(short, long, value_name = "FILE")]
    pub weights: PathBuf,

    /// The code base whose names the file has, where they do not tell it themselves
    #[arg(long, value_name = "NAME")]
    pub dialect: Option<String>,

    /// Output stride to run the weights at: smaller is finer and slower [default: the network's
    /// own]
    #[arg(long, value_name = "8|16|32")]
    pub output_stride: Option<usize>,

    /// Fail unless the network has so many classes
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
}

impl ModelArgs {
    pub(super) fn open(&self) -> Result<Model> {
        let wanted = ReadOptions { classes: self.classes, dialect: self.dialect.as_deref() };
        let model = Model::open_with(&self.weights, wanted)?;
        match self.output_stride {
            Some(stride) => model.with_output_stride(stride).map_err(|e| e.file(&self.weights)),
            None => Ok(model),
        }
    }
}

/// How much memory the work may take.
#[derive(Debug, clap::Args)]
pub(super) struct MemoryArgs {
    /// Limit on the memory for what networks compute, with their inputs and outputs, such as 4GiB;
    /// weights and decoded images come on top [default: the memory that is available]
    #[arg(long, value_name = "SIZE", value_parser = super::train::size)]
    pub max_memory: Option<u64>,
}

impl MemoryArgs {
    /// Sets the limit for this process.
    pub(super) fn apply(&self) {
        memory::set_limit(self.max_memory);
    }
}

/// The default size of a model and the code base it comes from, for people; `None` where that is
/// the image's own size.
///
/// Presets differ between code bases, and labels with them: without this line nobody would know
/// that the image was scaled.
pub(super) fn preset_size(model: &Model) -> Option<String> {
    let size = match model.default_size() {
        SizeRule::Native => return None,
        SizeRule::ShortSide(n) => format!("{n} on the short side"),
        SizeRule::LongSide(n) => format!("{n} on the long side, padded to a square"),
        exact => exact.to_string(),
    };
    let whose = match model.dialect {
        "torchvision" => "torchvision's preset",
        "tensorflow" => "TensorFlow's preset",
        "huggingface" => "Hugging Face's preset",
        "jfzhang95" => "jfzhang95's preset",
        _ => "the preset in the weights",
    };
    Some(format!("size {size}, {whose}; --size native for the image's own"))
}

/// What [`PaperHead`] is called on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum HeadName {
    /// DeepLabv3: no decoder
    V3,
    /// DeepLabv3+
    Plus,
    /// DeepLabv3+ with separable convolutions in ASPP and decoder
    PlusSeparable,
    /// Image features and one 1x1 convolution
    Phone,
}

impl From<HeadName> for PaperHead {
    fn from(name: HeadName) -> Self {
        match name {
            HeadName::V3 => PaperHead::NoDecoder,
            HeadName::Plus => PaperHead::Decoder,
            HeadName::PlusSeparable => PaperHead::Separable,
            HeadName::Phone => PaperHead::Phone,
        }
    }
}

/// Writes text to standard output; colors go where it is no terminal.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::new(ErrorKind::Io, "standard output cannot be written").source(e))
}

/// Writes a line to standard error. Where nobody can read it any more (a closed terminal) it is
/// lost; `eprintln` would panic.
pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes a value as JSON, indented, to standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&json(value)?)
}

/// A value as JSON for a terminal, indented.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Io, "the report cannot be written as JSON").source(e))?;
    Ok(format!("{}\n", printable_json(&text)))
}

/// Rows as a table: columns aligned, the ones in `right` to the right.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| match right.contains(&c) {
            true => format!("{cell:>0$}", widths[c]),
            false => format!("{cell:<0$}", widths[c]),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// 1234567 as "1,234,567".
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// Bytes as mebibytes.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
