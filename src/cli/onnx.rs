//! The options of `atrous export` that are for ONNX files.

use super::args::{HeadName, fixed_size};
use super::console::print;
use super::format::thousands;
use super::registries::backbones;
use crate::error::{Result, error};
use crate::files::atomic_write;
use crate::geometry::Size;
use crate::models::{Backbone, Config, random_weights};
use crate::onnx::{OnnxOptions, export};
use crate::segmenter::Model;
use crate::text;
use crate::weights::dialects::ReadOptions;
use crate::weights::format_bytes;
use std::io::Write;
use std::path::Path;

/// How an ONNX file is written.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "ONNX (.onnx)")]
pub(super) struct OnnxArgs {
    /// Images per run [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,

    /// Size of the images [default: any size]
    #[arg(long, value_name = "N|WxH", value_parser = fixed_size)]
    size: Option<Size>,

    /// Write labels (i64) instead of logits
    #[arg(long, alias = "with-argmax")]
    argmax: bool,

    /// Take bytes `[N, H, W, 3]` as input, and normalize them inside
    #[arg(long, alias = "with-normalization")]
    preprocessing: bool,

    #[arg(
        long,
        value_name = "BACKBONE",
        conflicts_with_all = [
            "prefix", "trained_stride", "rates", "multi_grid", "align_corners", "padding",
            "preprocess", "activation",
        ],
        help = format!(
            "Write this backbone with random weights instead of a file, with the head of --head and 21 classes: {}",
            backbones()
        )
    )]
    network: Option<String>,

    /// Head of --network
    #[arg(long, value_enum, default_value = "plus", requires = "network")]
    head: HeadName,

    /// Seed of the random weights of --network
    #[arg(long, default_value_t = 1, value_name = "N", requires = "network")]
    seed: u64,
}

impl OnnxArgs {
    /// Whether the network is named instead of a file.
    pub(super) fn has_network(&self) -> bool {
        self.network.is_some()
    }

    /// Refuses options that have no effect on a weight file.
    pub(super) fn refuse_for(&self, output: &Path) -> Result<()> {
        let given = [
            ("--batch", self.batch.is_some()),
            ("--size", self.size.is_some()),
            ("--argmax", self.argmax),
            ("--preprocessing", self.preprocessing),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((name, _)) => Err(error!(Usage, "`{name}` is for .onnx files only").file(output)),
        }
    }

    /// Writes a network as ONNX.
    pub(super) fn export(&self, model: &Model, output: &Path) -> Result<()> {
        let options = OnnxOptions {
            batch: self.batch.map(usize::from),
            size: self.size,
            argmax: self.argmax,
            preprocessing: self.preprocessing,
        };
        let bytes = export(model.config()?, &model.weights, &options, model.card.as_ref())
            .map_err(|e| e.file(&model.path))?;
        atomic_write(output, |writer| writer.write_all(&bytes))?;
        let parameters: usize = model.weights.values().map(|p| p.shape().len()).sum();
        print(&format!(
            "{} ({}) -> {} (ONNX, opset 17): for {} of {}, {} parameters, {}\n",
            text::path(&model.path),
            model.dialect_name(),
            text::path(output),
            options.batch.map_or("any number of images".to_owned(), |n| text::count(n, "image")),
            options.size.map_or("any size".to_owned(), |size| size.to_string()),
            thousands(parameters as u64),
            format_bytes(bytes.len() as u64)
        ))
    }

    /// Opens the weight file, or makes the named network.
    pub(super) fn model(&self, input: Option<&Path>, options: ReadOptions) -> Result<Model> {
        if let (None, Some(path)) = (&self.network, input) {
            return Model::open_with(path, options);
        }
        let name = self.network.as_deref().unwrap_or_default();
        let config = Config::paper(Backbone::named(name)?, self.head.into(), 21)?;
        let weights = random_weights(&config, self.seed)?;
        Ok(Model::new(config, weights, "random weights"))
    }
}
