//! `atrous import` and `atrous export`: convert weights between dialects and file formats.

use super::args::say_notes;
use super::console::print;
use super::format::thousands;
use super::outputs::OutputCheck;
use super::registries::{dialect_help, dialects as dialect_names};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::models::{fold_norms, inflate_stem};
use crate::segmenter::Model;
use crate::text;
use crate::weights::dialects::{self, Dialect, NATIVE, ReadOptions};
use crate::weights::{CheckpointDict, FloatDType, write_pth, write_safetensors};
use std::path::{Path, PathBuf};

const IMPORT_EXAMPLES: &str = "\
Examples:
  atrous import deeplabv3_resnet50.pth deeplab.safetensors
  atrous import model.pth gray.safetensors --input-channels 1
  atrous import best.safetensors small.safetensors --fold --dtype f16";

const EXPORT_EXAMPLES: &str = "\
Example:
  atrous export best.safetensors model.pth --dialect torchvision";

/// Convert weights of any dialect to the program's own
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    files: Files,

    #[arg(long, value_name = "NAME", help = dialect_help())]
    dialect: Option<String>,

    /// Prefix of the network's tensor names, for a file with several networks, such as model_ema
    /// [default: the averaged network, or the only one]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,

    /// Change the first convolution to N input channels, for example for grayscale (1) or
    /// multispectral images: one channel gets the sum of the old kernels, more repeat them, scaled
    /// to keep their sum
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    input_channels: Option<u16>,

    /// Fold batch norms into the convolutions: faster to load, but no longer trainable
    #[arg(long)]
    fold: bool,

    /// File with class numbers, names and colors, one class a line, to store in the output
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Precision of the stored parameters: f32 is exact, f16 and bf16 take half the space
    #[arg(long, default_value = "f32", value_name = "TYPE", hide_possible_values = true)]
    dtype: Numbers,
}

/// Convert weights to the names of another code base
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    files: Files,

    #[arg(long, value_name = "NAME", help = format!("Code base whose names to write: {}", dialect_names()))]
    dialect: String,

    /// Precision of the stored parameters: f32 is exact, f16 and bf16 take half the space
    #[arg(long, default_value = "f32", value_name = "TYPE", hide_possible_values = true)]
    dtype: Numbers,
}

/// The file to convert and its result.
#[derive(Debug, clap::Args)]
struct Files {
    /// Weight file: .safetensors, .pth or .pt
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// File to write: .safetensors, or .pth or .pt for `torch.load`
    #[arg(value_name = "OUTPUT", required_unless_present = "output_option")]
    output: Option<PathBuf>,

    /// The same as OUTPUT
    #[arg(
        short,
        long = "output",
        value_name = "OUTPUT",
        conflicts_with = "output",
        id = "output_option"
    )]
    output_option: Option<PathBuf>,
}

impl Files {
    fn output(&self) -> &Path {
        let output = self.output.as_ref().or(self.output_option.as_ref());
        output.expect("invariant: clap requires one of both")
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Numbers {
    F32,
    F16,
    Bf16,
}

impl From<Numbers> for FloatDType {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::F32 => FloatDType::F32,
            Numbers::F16 => FloatDType::F16,
            Numbers::Bf16 => FloatDType::BF16,
        }
    }
}

/// Refuses an output that would replace an input, before anything is read.
fn check(input: &Path, class_table: Option<&Path>, output: &Path) -> Result<()> {
    let mut outputs = OutputCheck::new("name another output");
    outputs.reads(input, "the input");
    if let Some(path) = class_table {
        outputs.reads(path, "the class table");
    }
    outputs.writes(output, "the output")
}

pub(super) fn import(args: &ImportArgs) -> Result<()> {
    check(&args.files.input, args.class_table.as_deref(), args.files.output())?;
    let dialect = args.dialect.as_deref().map(dialects::find).transpose()?;
    let options = ReadOptions { classes: None, dialect, prefix: args.prefix.as_deref() };
    let mut model = Model::open_with(&args.files.input, options)?;
    say_notes(&model);
    if let Some(channels) = args.input_channels {
        inflate_stem(&mut model.config, &mut model.weights, channels.into())
            .map_err(|e| e.file(&args.files.input))?;
    }
    if args.fold {
        fold_norms(&mut model.config, &mut model.weights).map_err(|e| e.file(&args.files.input))?;
    }
    if let Some(path) = &args.class_table {
        let table = ClassTable::read(path)?;
        model.config.name_classes(&table.names, &table.colors).map_err(|e| e.file(path))?;
    }
    convert(&model, args.files.output(), NATIVE, args.dtype.into())
}

pub(super) fn export(args: &ExportArgs) -> Result<()> {
    check(&args.files.input, None, args.files.output())?;
    let dialect = dialects::find(&args.dialect)?;
    let model = Model::open(&args.files.input)?;
    say_notes(&model);
    convert(&model, args.files.output(), dialect, args.dtype.into())
}

fn convert(model: &Model, output: &Path, dialect: &dyn Dialect, dtype: FloatDType) -> Result<()> {
    let stored =
        dialects::store(&model.config, &model.weights, dialect).map_err(|e| e.file(&model.path))?;
    let count: u64 = stored.tensors.iter().map(|(_, _, data)| data.len() as u64).sum();
    let tensors = stored.tensors.len();
    match output.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => write_safetensors(output, stored.tensors, &stored.metadata, dtype)?,
        Some("pth" | "pt") => {
            let key = dialect.wrap_key();
            let wrap = key.map(|key| CheckpointDict { key, metadata: &stored.metadata });
            write_pth(output, stored.tensors, wrap, dtype)?;
        }
        _ => {
            return Err(error!(Usage, "cannot tell the output format from the file extension")
                .file(output)
                .advice("use .safetensors, .pth or .pt"));
        }
    }
    print(&format!(
        "{} ({}) -> {} ({dialect}): {tensors} tensors, {} parameters\n",
        text::path(&model.path),
        model.dialect,
        text::path(output),
        thousands(count)
    ))
}
