//! A network with its weights, loaded from a file.

use crate::error::Result;
use crate::graph::{Graph, Weights};
use crate::image::{ClassTable, SizeRule};
use crate::models::{Config, NetworkGraph, Outputs, PadRule, build_network};
use crate::passes;
use crate::tensor::Shape;
use crate::text::class_name;
use crate::weights::WeightFile;
use crate::weights::dialects::{self, Dialect, ReadOptions};
use std::path::{Path, PathBuf};

/// A network's configuration and weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// Architecture of the network.
    pub config: Config,
    /// Parameters, by this crate's names.
    pub weights: Weights,
    /// Dialect of the file's parameter names.
    pub dialect: &'static dyn Dialect,
    /// File that the model was loaded from.
    pub path: PathBuf,
    /// What a person should know about the choice of the network: other networks in the file, and
    /// tensors that are left out.
    pub notes: Vec<String>,
}

impl Model {
    /// Reads a weight file of any dialect and format (safetensors, `.pth`).
    ///
    /// # Errors
    /// Returns an error if the file is corrupt, its parameter names match no known dialect, or its
    /// tensors do not fit the network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, ReadOptions::default())
    }

    /// Like [`Model::open`], with a known dialect or number of classes.
    ///
    /// # Errors
    /// As for [`Model::open`], or if the file does not match the options.
    pub fn open_with(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        Self::load(&WeightFile::open(&path)?, options)
    }

    /// Like [`Model::open`], for a file in memory; `name` identifies it in errors.
    ///
    /// # Errors
    /// As for [`Model::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::load(&WeightFile::from_bytes(bytes, name)?, ReadOptions::default())
    }

    fn load(file: &WeightFile, options: ReadOptions) -> Result<Self> {
        let loaded = dialects::load(file, options)?;
        Ok(Self {
            config: loaded.config,
            weights: loaded.weights,
            dialect: loaded.dialect,
            path: file.path().to_owned(),
            notes: loaded.notes,
        })
    }

    /// Returns the model with another output stride (8, 16 or 32).
    ///
    /// # Errors
    /// Returns an error if the network does not support it.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<Self> {
        self.config = self.config.with_output_stride(output_stride)?;
        Ok(self)
    }

    /// Returns the input size that the model was made for: the one stored with the weights,
    /// otherwise the preset of the weights' code base (torchvision scales the short side to 520),
    /// otherwise the image's own size.
    pub fn default_size(&self) -> SizeRule {
        let preprocess = &self.config.preprocess;
        match (preprocess.pad, preprocess.size, preprocess.short_side) {
            (PadRule::Square, Some(n), _) => SizeRule::LongSide(n),
            (_, _, Some(n)) => SizeRule::ShortSide(n),
            _ => SizeRule::Native,
        }
    }

    /// Returns the names and colors of the classes: those of the file if it has them, otherwise the
    /// default table for the number of classes.
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

    /// Builds the graph with weights for an input `[N, H, W, C]`. It is not optimized, so stages
    /// can still be looked up by name.
    ///
    /// # Errors
    /// Returns an error if the input or the weights do not fit the network.
    pub fn network(&self, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
        let mut network = build_network(&self.config, input, outputs)?;
        network.graph.bind(&self.weights).map_err(|e| e.file(&self.path))?;
        Ok(network)
    }

    /// Builds the optimized graph for an input `[N, H, W, C]`.
    ///
    /// # Errors
    /// As for [`Model::network`].
    pub fn graph(&self, input: Shape, outputs: &Outputs) -> Result<Graph> {
        passes::optimize(self.network(input, outputs)?.graph)
    }
}
