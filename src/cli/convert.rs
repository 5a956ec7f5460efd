//! `atrous import` and `atrous export`: weights from one dialect and format to another.

use super::args::{print, thousands};
use super::outputs::OutputCheck;
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::models::{fold_norms, inflate_stem};
use crate::segmenter::Model;
use crate::text;
use crate::weights::dialects::{self, ReadOptions};
use crate::weights::{FloatDType, Wrap, write_pth, write_safetensors};
use std::path::{Path, PathBuf};

/// Reads weights of any dialect and writes them in the program's own
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Weight file: .safetensors, .pth or .pt
    input: PathBuf,

    /// File to write: .safetensors, or .pth in PyTorch's format
    output: PathBuf,

    /// The code base whose names the file has, where they do not tell it themselves
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,

    /// Changes the first convolution to take N channels, as for images of one or four: one gets the
    /// sum over the old ones, more get them repeated in turn, scaled so that the sums keep their
    /// size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    input_channels: Option<u16>,

    /// Folds the batch norms into the convolutions: for finished networks, which then cannot be
    /// trained any more
    #[arg(long)]
    fold: bool,

    /// File with the classes' numbers, names and colors, one a line: the output keeps them
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Numbers in the file: f32 is exact, f16 and bf16 take half the space
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    dtype: Numbers,
}

/// Writes weights under the names of another code base
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Weight file of any dialect
    input: PathBuf,

    /// File to write: .safetensors, or .pth/.pt for `torch.load`
    output: PathBuf,

    /// The code base whose names to write
    #[arg(long, value_name = "NAME")]
    dialect: String,

    /// Numbers in the file: f32 is exact, f16 and bf16 take half the space
    #[arg(long, default_value = "f32", value_name = "TYPE")]
    dtype: Numbers,
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

/// Refuses an output that would replace what it is made from, before that is read.
fn check(input: &Path, class_table: Option<&Path>, output: &Path) -> Result<()> {
    let mut outputs = OutputCheck::new("name another output");
    outputs.reads(input, "the input");
    if let Some(path) = class_table {
        outputs.reads(path, "the class table");
    }
    outputs.writes(output, "the output")
}

pub(super) fn import(args: &ImportArgs) -> Result<()> {
    check(&args.input, args.class_table.as_deref(), &args.output)?;
    let mut model = Model::open_with(
        &args.input,
        ReadOptions { classes: None, dialect: args.dialect.as_deref() },
    )?;
    if let Some(channels) = args.input_channels {
        inflate_stem(&mut model.config, &mut model.weights, channels.into())
            .map_err(|e| e.file(&args.input))?;
    }
    if args.fold {
        fold_norms(&mut model.config, &mut model.weights).map_err(|e| e.file(&args.input))?;
    }
    if let Some(path) = &args.class_table {
        let table = ClassTable::read(path)?;
        model.config.name_classes(&table.names, &table.colors).map_err(|e| e.file(path))?;
    }
    convert(&model, &args.output, "atrous", args.dtype.into())
}

pub(super) fn export(args: &ExportArgs) -> Result<()> {
    check(&args.input, None, &args.output)?;
    convert(&Model::open(&args.input)?, &args.output, &args.dialect, args.dtype.into())
}

fn convert(model: &Model, output: &Path, dialect: &str, dtype: FloatDType) -> Result<()> {
    let stored =
        dialects::store(&model.config, &model.weights, dialect).map_err(|e| e.file(&model.path))?;
    let count: u64 = stored.tensors.iter().map(|(_, _, data)| data.len() as u64).sum();
    let tensors = stored.tensors.len();
    match output.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => write_safetensors(output, stored.tensors, &stored.metadata, dtype)?,
        Some("pth" | "pt") => {
            // VainF's and jfzhang95's loaders look for the weights under a key; our own names say
            // nothing without the metadata beside them.
            let key = match dialect {
                "vainf" => Some("model_state"),
                "jfzhang95" | "atrous" => Some("state_dict"),
                _ => None,
            };
            let wrap = key.map(|key| Wrap { key, metadata: &stored.metadata });
            write_pth(output, stored.tensors, wrap, dtype)?;
        }
        _ => {
            return Err(error!(Usage, "the ending tells the format")
                .file(output)
                .advice("name the file *.safetensors, *.pth or *.pt"));
        }
    }
    print(&format!(
        "{} ({}) -> {} ({dialect}): {tensors} tensors, {} numbers\n",
        text::path(&model.path),
        model.dialect,
        text::path(output),
        thousands(count)
    ))
}
