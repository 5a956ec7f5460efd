//! A network with its weights, as it comes from a file.

use crate::error::Result;
use crate::graph::{Graph, Weights};
use crate::image::{ClassTable, SizeRule};
use crate::models::{Config, NetworkGraph, Outputs, PadRule, build_network};
use crate::passes;
use crate::tensor::Shape;
use crate::text::class_name;
use crate::weights::WeightFile;
use crate::weights::dialects::{self, ReadOptions};
use std::path::{Path, PathBuf};

/// A network's configuration and weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// What is built.
    pub config: Config,
    /// Parameters by our names.
    pub weights: Weights,
    /// Whose names the file had.
    pub dialect: &'static str,
    /// Where it came from.
    pub path: PathBuf,
}

impl Model {
    /// Reads a weight file of any dialect and format (safetensors, `.pth`).
    ///
    /// # Errors
    /// Where the file is damaged, its names are nobody's, or its tensors do not fit the network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path, ReadOptions::default())
    }

    /// As [`Model::open`], for a caller who knows the dialect or the number of classes.
    ///
    /// # Errors
    /// As [`Model::open`], and where the file is not what the caller says.
    pub fn open_as(path: impl AsRef<Path>, wanted: ReadOptions) -> Result<Self> {
        Self::load(&WeightFile::open(&path)?, wanted)
    }

    /// As [`Model::open`], of a file that is in memory; `name` is for messages.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::load(&WeightFile::from_bytes(bytes, name)?, ReadOptions::default())
    }

    fn load(file: &WeightFile, wanted: ReadOptions) -> Result<Self> {
        let loaded = dialects::load(file, wanted)?;
        Ok(Self {
            config: loaded.config,
            weights: loaded.weights,
            dialect: loaded.dialect,
            path: file.path().to_owned(),
        })
    }

    /// The same weights with another output stride (8, 16 or 32).
    ///
    /// # Errors
    /// Where the network cannot have it.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<Self> {
        self.config = self.config.with_output_stride(output_stride)?;
        Ok(self)
    }

    /// The size rule that the model was made for: its weights' own, else the preset of the code
    /// base that they come from (torchvision scales the short side to 520); the image's own size
    /// where there is neither.
    pub fn usual_size(&self) -> SizeRule {
        let how = &self.config.preprocess;
        match (how.pad, how.size, how.short_side) {
            (PadRule::Square, Some(n), _) => SizeRule::LongSide(n),
            (_, _, Some(n)) => SizeRule::ShortSide(n),
            _ => SizeRule::Native,
        }
    }

    /// Names and colors of the classes: the file's own where it has them, else the usual table for
    /// that number of classes.
    pub fn class_table(&self) -> ClassTable {
        let mut table = ClassTable::for_classes(self.config.classes().unwrap_or(0));
        let Some(head) = &self.config.head else { return table };
        if head.class_names.len() == table.names.len() {
            table.names = head.class_names.iter().map(|name| class_name(name)).collect();
        }
        if head.class_colors.len() == table.colors.len() {
            table.colors.clone_from(&head.class_colors);
        }
        table
    }

    /// The graph for an input `[N, H, W, C]`, with its weights, not yet optimized: stages can still
    /// be asked for by their names.
    ///
    /// # Errors
    /// Where the input does not fit the network, or the weights do not.
    pub fn network(&self, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
        let mut network = build_network(&self.config, input, outputs)?;
        network.graph.bind(&self.weights).map_err(|e| e.file(&self.path))?;
        Ok(network)
    }

    /// The optimized graph for an input `[N, H, W, C]`.
    ///
    /// # Errors
    /// As [`Model::network`].
    pub fn graph(&self, input: Shape, outputs: &Outputs) -> Result<Graph> {
        passes::optimize(self.network(input, outputs)?.graph)
    }
}
