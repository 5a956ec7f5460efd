//! `atrous import` and `atrous export`: convert weights between dialects and file formats.

use super::args::WEIGHTS_HELP;
use super::console::{print, say};
use super::format::thousands;
use super::onnx::OnnxArgs;
use super::outputs::OutputCheck;
use super::registries::{dialect_help, dialects as dialect_names};
use super::statements::{StatementArgs, say_notes};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::models::{Config, fold_norms, inflate_stem};
use crate::ops::Threshold;
use crate::segmenter::Model;
use crate::text;
use crate::weights::dialects::{self, Dialect, KernelLayout, NATIVE, ReadOptions, Tensors};
use crate::weights::{CheckpointDict, FloatDType, write_pth, write_safetensors};
use std::path::{Path, PathBuf};

const IMPORT_EXAMPLES: &str = "\
Examples:
  atrous import deeplabv3_resnet50.pth deeplab.safetensors
  atrous import hf:google/deeplabv3_mobilenet_v2_1.0_513 voc.safetensors
  atrous import model.pth gray.safetensors --input-channels 1
  atrous import smp.pth smp.safetensors --trained-stride 8 --rates 12,24,36
  atrous import person.pth person.safetensors --threshold 0.35
  atrous import best.safetensors small.safetensors --fold --dtype f16";

const EXPORT_EXAMPLES: &str = "\
Example:
  atrous export best.safetensors model.pth --dialect torchvision
  atrous export best.safetensors model.onnx --batch 1 --size 513x513 --argmax
  atrous export --network resnet50 --seed 1 random.onnx --size 513x513";

/// Convert weights of any dialect to the program's own
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    files: Files,

    #[arg(long, value_name = "NAME", help = dialect_help())]
    dialect: Option<String>,

    #[command(flatten)]
    statements: StatementArgs,

    /// Change the first convolution to N input channels, for example for grayscale (1) or
    /// multispectral images: one channel gets the sum of the old kernels, more repeat them, scaled
    /// to keep their sum
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    input_channels: Option<u16>,

    /// Fold batch norms into the convolutions: faster to load, but no longer trainable
    #[arg(long)]
    fold: bool,

    /// Probability above which a sigmoid output holds, to store in the output [default: the input's
    /// own, usually 0.5]
    #[arg(long, value_name = "P")]
    threshold: Option<Threshold>,

    /// File with the classes, one a line (number, name and optional color, or names alone), to store
    /// in the output
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Precision of the stored parameters: f32 is exact, f16 and bf16 take half the space
    #[arg(long, default_value = "f32", value_name = "TYPE", hide_possible_values = true)]
    dtype: Numbers,
}

/// Convert weights to the names of another code base, or to ONNX
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArgs {
    #[arg(value_name = "INPUT", required_unless_present = "network", help = WEIGHTS_HELP)]
    input: Option<PathBuf>,

    /// File to write: .safetensors, .pth or .pt for `torch.load`, or .onnx
    #[arg(value_name = "OUTPUT")]
    output: Option<PathBuf>,

    /// The same as OUTPUT
    #[arg(short, long = "output", value_name = "OUTPUT", conflicts_with = "output")]
    output_option: Option<PathBuf>,

    #[arg(long, value_name = "NAME", help = format!("Code base whose names to write (not for .onnx): {}", dialect_names()))]
    dialect: Option<String>,

    /// Precision of the stored parameters: f32 is exact, f16 and bf16 take half the space (not for
    /// .onnx, which stores f32)
    #[arg(long, value_name = "TYPE", hide_possible_values = true)]
    dtype: Option<Numbers>,

    #[command(flatten)]
    onnx: OnnxArgs,

    #[command(flatten)]
    statements: StatementArgs,
}

impl ExportArgs {
    /// Returns the weight file, if there is one, and the file to write.
    fn files(&self) -> Result<(Option<&Path>, &Path)> {
        let paths = [&self.input, &self.output, &self.output_option];
        let mut paths = paths.into_iter().flatten().map(PathBuf::as_path);
        let files = match (self.onnx.has_network(), paths.next(), paths.next(), paths.next()) {
            (true, Some(output), None, None) => Some((None, output)),
            (false, Some(input), Some(output), None) => Some((Some(input), output)),
            _ => None,
        };
        let what = if self.onnx.has_network() {
            "name one file, the .onnx file to write"
        } else {
            "name the weight file and the file to write"
        };
        files.ok_or_else(|| error!(Usage, "{what}"))
    }
}

impl ImportArgs {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(super) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (Some(&mut self.files.input), false)
    }
}

impl ExportArgs {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(super) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        // With a network by name, the only file is the one to write.
        (self.input.as_mut().filter(|_| !self.onnx.has_network()), false)
    }
}

/// The file to convert and its result.
#[derive(Debug, clap::Args)]
struct Files {
    #[arg(value_name = "INPUT", help = WEIGHTS_HELP)]
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
    let options = ReadOptions { dialect, ..args.statements.options() };
    let mut model = Model::open_with(&args.files.input, options)?;
    say_notes(&model);
    if let Some(channels) = args.input_channels {
        let (config, weights) = model.parts_mut()?;
        inflate_stem(config, weights, channels.into()).map_err(|e| e.file(&args.files.input))?;
    }
    if args.fold {
        let (config, weights) = model.parts_mut()?;
        fold_norms(config, weights).map_err(|e| e.file(&args.files.input))?;
    }
    if let Some(threshold) = args.threshold {
        model = model.with_threshold(threshold).map_err(|e| e.file(&args.files.input))?;
    }
    if let Some(path) = &args.class_table {
        let table = ClassTable::read(path)?;
        let (config, _) = model.parts_mut()?;
        config.name_classes(&table.names, &table.colors).map_err(|e| e.file(path))?;
    }
    convert(&model, args.files.output(), NATIVE, args.dtype.into())
}

pub(super) fn export(args: &ExportArgs) -> Result<()> {
    let (input, output) = args.files()?;
    if let Some(input) = input {
        check(input, None, output)?;
    }
    let model = args.onnx.model(input, args.statements.options())?;
    say_notes(&model);
    if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        if args.dialect.is_some() || args.dtype.is_some() {
            let name = if args.dialect.is_some() { "--dialect" } else { "--dtype" };
            return Err(error!(Usage, "`{name}` has no effect on an .onnx file").file(output));
        }
        return args.onnx.export(&model, output);
    }
    args.onnx.refuse_for(output)?;
    let dialect = args.dialect.as_deref().ok_or_else(|| {
        error!(Usage, "name the code base whose names to write, with --dialect").file(output)
    })?;
    let dtype = args.dtype.unwrap_or(Numbers::F32);
    convert(&model, output, dialects::find(dialect)?, dtype.into())
}

/// Returns a note if the code base runs these tensors at another output stride or with other atrous
/// rates, unless its flags say otherwise.
fn deviation(dialect: &dyn Dialect, config: &Config, tensors: &Tensors) -> Option<String> {
    let default = dialect.infer(tensors).ok()?;
    let text = |config: &Config| {
        let rates = config.head.as_ref().map(|head| {
            let rates: Vec<String> = head.aspp.rates.iter().map(usize::to_string).collect();
            format!(" and atrous rates {}", rates.join(", "))
        });
        format!("output stride {}{}", config.output_stride, rates.unwrap_or_default())
    };
    let (own, other) = (text(config), text(&default));
    (own != other && dialect != NATIVE).then(|| {
        format!("note: {} builds it with {other}; this network needs {own}", dialect.title())
    })
}

fn convert(model: &Model, output: &Path, dialect: &dyn Dialect, dtype: FloatDType) -> Result<()> {
    let config = model.config()?;
    let mut stored =
        dialects::store(config, &model.weights, dialect).map_err(|e| e.file(&model.path))?;
    if let Some(card) = &model.card {
        card.add_to(&mut stored.metadata);
    }
    let deviation = deviation(dialect, config, &Tensors::of(&stored));
    let count: u64 = stored.tensors.iter().map(|(_, _, data)| data.len() as u64).sum();
    let tensors = stored.tensors.len();
    if dialect.layout(&Tensors::default()) == KernelLayout::Oihw {
        stored.add_counters();
    }
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
    match dialect.constructor(config) {
        Some(code) => say(&format!("note: the file fits {code}")),
        None => deviation.into_iter().for_each(|note| say(&note)),
    }
    print(&format!(
        "{} ({}) -> {} ({dialect}): {tensors} tensors, {} parameters\n",
        text::path(&model.path),
        model.dialect_name(),
        text::path(output),
        thousands(count)
    ))
}
