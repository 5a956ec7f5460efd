//! Arguments that several commands share.

use super::registries::{backbones, dialect_help};
use super::statements::{StatementArgs, say_notes};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::gpu::DeviceChoice;
use crate::image::SizeRule;
use crate::memory;
use crate::models::{Backbone, Config, PaperHead};
use crate::ops::Threshold;
use crate::segmenter::Model;
use crate::tune::{Tuning, TuningMode};
use crate::weights::dialects::{self, NATIVE, ReadOptions};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The device to run on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub(super) struct DeviceArgs {
    /// Device to run on: auto (a GPU if there is one, else the CPU), cpu, gpu, an index from
    /// `atrous devices`, or backend:name such as vulkan:llvmpipe
    #[arg(short, long, default_value = "auto", value_name = "DEVICE", env = "ATROUS_DEVICE")]
    pub device: DeviceChoice,

    /// How to choose GPU kernels; ignored on the CPU
    #[arg(long, default_value = "cached", value_name = "MODE")]
    pub tune: Tune,
}

/// How kernels are chosen, as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Tune {
    /// Use the kernels expected to be fastest; ignore earlier measurements
    Off,
    /// Use the kernels that `--tune on` measured as fastest on this device
    Cached,
    /// Benchmark kernels for new shapes and cache the result (minutes once, faster afterwards)
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
    /// Returns the tuning that `--tune` asks for. Unless `quiet`, a terminal shows a progress bar
    /// while kernels are measured.
    pub(super) fn tuning(&self, quiet: bool) -> Tuning {
        let tuning = Tuning::new(self.tune.into());
        if quiet || !std::io::stderr().is_terminal() {
            return tuning;
        }
        let style =
            ProgressStyle::with_template("tuning {bar:32} {pos}/{len}  {elapsed}  {wide_msg}");
        let style = style.expect("invariant: the template is valid");
        let bar = ProgressBar::hidden().with_style(style);
        tuning.reporting(move |progress| match progress.measuring {
            Some(call) => {
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_length(progress.total as u64);
                bar.set_position(progress.done as u64);
                bar.set_message(call.to_owned());
            }
            None => bar.finish_and_clear(),
        })
    }
}

/// Accepts 8, 16 and 32.
pub(super) fn output_stride() -> impl TypedValueParser<Value = usize> {
    PossibleValuesParser::new(["8", "16", "32"])
        .map(|text| text.parse().expect("invariant: the possible values are numbers"))
}

/// Help of weights that are read.
pub(super) const WEIGHTS_HELP: &str = "Weights of any dialect: a file (.safetensors; PyTorch's .pth, .pt, .ckpt or .bin; .onnx; or TensorFlow's .pb, .tflite, .tar.gz or checkpoint, its .index or prefix), hf:OWNER/NAME[@REVISION][/FILE] on a hub, or a network that `atrous models` lists, such as voc";

/// The weights of a network.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    #[arg(short, long, value_name = "WEIGHTS", alias = "model", required = true, help = WEIGHTS_HELP)]
    pub weights: Option<PathBuf>,

    #[command(flatten)]
    pub how: ReadArgs,

    /// Fail unless the network has exactly N classes
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
}

/// How a weight file is read.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReadArgs {
    #[arg(long, value_name = "NAME", help = dialect_help())]
    pub dialect: Option<String>,

    /// Output stride of the encoder: smaller is finer and slower [default: the network's own]
    #[arg(long, value_name = "8|16|32", value_parser = output_stride(), hide_possible_values = true)]
    pub output_stride: Option<usize>,

    /// Probability above which a sigmoid output holds: the foreground of a network with one output
    /// [default: the network's own, 0.5 unless `import --threshold` stored another]
    #[arg(long, value_name = "P")]
    pub threshold: Option<Threshold>,
    #[command(flatten)]
    pub statements: StatementArgs,
}

impl ModelArgs {
    /// Opens the weight file.
    ///
    /// # Errors
    /// Those of [`Model::open_with`], and a number of classes other than `--classes`.
    pub(super) fn open(&self) -> Result<Model> {
        self.how.open(self.weights(), self.classes)
    }

    /// Returns the path of the weight file.
    pub(super) fn weights(&self) -> &Path {
        self.weights.as_deref().expect("invariant: names are resolved before a command runs")
    }
}

impl ReadArgs {
    fn open(&self, weights: &Path, classes: Option<usize>) -> Result<Model> {
        let dialect = self.dialect.as_deref().map(dialects::find).transpose()?;
        let options = ReadOptions { classes, dialect, ..self.statements.options() };
        let model = Model::open_with(weights, options)?;
        say_notes(&model);
        let model = match self.output_stride {
            Some(stride) => model.with_output_stride(stride).map_err(|e| e.file(weights))?,
            None => model,
        };
        match self.threshold {
            Some(threshold) => model.with_threshold(threshold).map_err(|e| e.file(weights)),
            None => Ok(model),
        }
    }
}

/// A network without weights, by name.
#[derive(Debug, clap::Args)]
pub(super) struct NetworkArgs {
    #[arg(
        long,
        value_name = "BACKBONE",
        conflicts_with_all = [
            "weights", "dialect", "prefix", "trained_stride", "rates", "multi_grid", "align_corners",
            "padding", "preprocess", "activation",
        ],
        help = format!(
            "Use this backbone instead of a file, with the head that --head names and 21 classes: {}",
            backbones()
        )
    )]
    pub network: Option<String>,

    /// Head of --network
    #[arg(long, value_enum, default_value = "plus", requires = "network")]
    pub head: HeadName,

    #[command(flatten)]
    pub how: ReadArgs,
}

impl NetworkArgs {
    /// Opens `weights`, or returns the config of `--network`.
    ///
    /// # Errors
    /// Those of [`Model::open_with`], and an unknown name of a backbone.
    pub(super) fn open(&self, weights: Option<&PathBuf>) -> Result<Network> {
        if let Some(weights) = weights {
            return Ok(Network::File(Box::new(self.how.open(weights, None)?)));
        }
        let name = self.network.as_deref();
        let name = name.ok_or_else(|| error!(Usage, "name a weight file or a --network"))?;
        let config = Config::paper(Backbone::named(name)?, self.head.into(), 21)?;
        let config = match self.how.output_stride {
            Some(stride) => config.with_output_stride(stride)?,
            None => config,
        };
        Ok(Network::Named(Box::new(config)))
    }
}

/// What [`NetworkArgs`] name.
pub(super) enum Network {
    /// A weight file.
    File(Box<Model>),
    /// A network of the paper, without weights.
    Named(Box<Config>),
}

/// The size at which the network processes images.
#[derive(Debug, clap::Args)]
pub(super) struct SizeArgs {
    /// Size at which the network processes images: native (the image's own), N (long side, padded
    /// to a square), short:N (short side), multiple:N (the image's own, padded), or WxH (fit into it and pad) [default: the preset of the
    /// weights, such as short:520 for torchvision's; else native]
    #[arg(long, value_name = "native|N|short:N|WxH")]
    pub size: Option<SizeRule>,
}

/// How much memory the work may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device")]
pub(super) struct MemoryArgs {
    /// Limit the memory for activations, inputs and outputs, for example to 4GiB; weights and
    /// decoded images come on top [default: the available memory]
    #[arg(long, value_name = "SIZE", value_parser = super::train::size)]
    pub max_memory: Option<u64>,
}

impl MemoryArgs {
    /// Sets the limit for this process.
    pub(super) fn apply(&self) {
        memory::set_limit(self.max_memory);
    }
}

/// Returns a line about the default size of a model and the code base it comes from; `None` if that
/// is the image's own size.
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
    if let SizeRule::Multiple(n) = model.default_size() {
        return Some(format!(
            "size: the image's own, padded to multiples of {n}, which the file's graph needs"
        ));
    }
    let whose = match model.dialect {
        None => return Some(format!("size: {size}, which the file's graph fixes")),
        Some(dialect) if dialect == NATIVE => "the preset in the weights".to_owned(),
        Some(dialect) => format!("{}'s preset", dialect.title()),
    };
    Some(format!("size: {size} ({whose}); use --size native for the image's own size"))
}

/// The names of [`PaperHead`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum HeadName {
    /// DeepLabv3: no decoder
    V3,
    /// DeepLabv3+
    Plus,
    /// DeepLabv3+ with separable convolutions in ASPP and decoder
    PlusSeparable,
    /// Image pooling and one 1x1 convolution, for phones
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

/// Parses a size that does not depend on an image: a side, such as 513, or 640x480.
pub(super) fn fixed_size(text: &str) -> Result<Size> {
    let advice = "use one side, such as 513, or a width and a height, such as 640x480";
    match text.parse::<SizeRule>().map_err(|e| e.advice(advice))? {
        SizeRule::LongSide(n) => Ok(Size::square(n)),
        SizeRule::Exact(size) => Ok(size),
        SizeRule::Native | SizeRule::ShortSide(_) | SizeRule::Multiple(_) => {
            Err(error!(Usage, "expected a size, such as 513 or 640x480"))
        }
    }
}
