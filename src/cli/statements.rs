//! Options that state what a weight file cannot.

use super::args::output_stride;
use super::console::say;
use crate::models::{OutputActivation, PaddingRule};
use crate::segmenter::Model;
use crate::text::printable;
use crate::weights::dialects::ReadOptions;
use crate::weights::statements::{Normalization, Statements};

/// Which network of a weight file is read, and what the file cannot state about it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StatementArgs {
    /// Prefix of the network's tensor names, for a file with several networks, such as model_ema
    /// [default: the averaged network, or the only one]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,

    #[command(flatten)]
    conventions: ConventionArgs,

    /// Normalization of pixels from 0 to 1: imagenet, tensorflow (-1 to 1), unit (0 to 1), bytes
    /// (0 to 255), or MEAN/STD, such as 0.485,0.456,0.406/0.229,0.224,0.225
    #[arg(long, help_heading = HEADING, value_name = "NAME|MEAN/STD")]
    preprocess: Option<Normalization>,

    /// How the outputs become probabilities: softmax (one class for each pixel) or sigmoid (each
    /// output on its own; a pixel below the threshold in all of them is background)
    #[arg(long, help_heading = HEADING, value_name = "softmax|sigmoid", hide_possible_values = true)]
    activation: Option<OutputActivation>,
}

/// Heading of the options. Their defaults are the same for all, so that none repeats them.
const HEADING: &str =
    "What a weight file cannot state [default: config.json beside it, else the code base's]";

/// The part of [`StatementArgs`] that also holds for weights that a training starts from.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConventionArgs {
    /// Output stride that the network was trained at. Unlike --output-stride it does not change
    /// --rates
    #[arg(long, help_heading = HEADING, value_name = "8|16|32", value_parser = output_stride(), hide_possible_values = true)]
    trained_stride: Option<usize>,

    /// Atrous rates of the network at the trained output stride, such as 12,24,36
    #[arg(long, help_heading = HEADING, value_name = "N,...", value_delimiter = ',', value_parser = rate)]
    rates: Option<Vec<usize>>,

    /// Multi-grid: factors of the dilations of the backbone's last units, such as 1,2,4
    #[arg(long, help_heading = HEADING, value_name = "N,...", value_delimiter = ',', value_parser = rate)]
    multi_grid: Option<Vec<usize>>,

    /// Whether bilinear upsampling aligns the corner pixels
    #[arg(long, help_heading = HEADING, value_name = "true|false", hide_possible_values = true)]
    align_corners: Option<bool>,

    /// Padding of the backbone's convolutions: symmetric (PyTorch) or same (TensorFlow)
    #[arg(long, help_heading = HEADING, value_name = "symmetric|same", hide_possible_values = true)]
    padding: Option<PaddingName>,
}

/// The names of [`PaddingRule`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PaddingName {
    Symmetric,
    Same,
}

impl From<PaddingName> for PaddingRule {
    fn from(name: PaddingName) -> Self {
        match name {
            PaddingName::Symmetric => PaddingRule::Symmetric,
            PaddingName::Same => PaddingRule::TfSame,
        }
    }
}

/// Parses an atrous rate, or a factor of one.
fn rate(text: &str) -> Result<usize, String> {
    let rate = text.trim().parse().ok().filter(|n| (1..=1 << 16).contains(n));
    rate.ok_or_else(|| "expected positive integers, such as 12,24,36".to_owned())
}

impl StatementArgs {
    /// Returns how a file is read.
    pub(super) fn options(&self) -> ReadOptions {
        let statements = Statements {
            preprocess: self.preprocess,
            activation: self.activation,
            ..self.conventions.statements()
        };
        ReadOptions { prefix: self.prefix.clone(), statements, ..ReadOptions::default() }
    }
}

impl ConventionArgs {
    /// Returns what is stated.
    pub(super) fn statements(&self) -> Statements {
        Statements {
            trained_stride: self.trained_stride,
            rates: self.rates.clone(),
            multi_grid: self.multi_grid.clone(),
            align_corners: self.align_corners,
            padding: self.padding.map(PaddingRule::from),
            ..Statements::default()
        }
    }

    /// Returns an option that is set.
    pub(super) fn named(&self) -> Option<&'static str> {
        let statements = self.statements();
        statements.properties().first().map(|property| property.option())
    }
}

/// Writes the notes about a weight file to standard error.
pub(super) fn say_notes(model: &Model) {
    for note in &model.notes {
        say(&format!("note: {}", printable(note)));
    }
}
