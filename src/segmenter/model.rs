//! A network with its weights, loaded from a file.

use crate::error::{Result, error};
use crate::graph::{Graph, Weights};
use crate::image::{ClassTable, SizeRule};
use crate::models::{
    BACKGROUND, Config, ModelCard, NetworkGraph, OutputActivation, Outputs, PadRule, build_network,
};
use crate::ops::Threshold;
use crate::passes;
use crate::tensor::Shape;
use crate::text::class_name;
use crate::weights::WeightFile;
use crate::weights::dialects::{self, Dialect, NATIVE, ReadOptions};
use crate::weights::statements::{ConfigFiles, Setting};
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
    /// Properties that weight files cannot state, and where they come from. Empty if the model was
    /// not loaded from a file.
    pub settings: Vec<Setting>,
    /// Where the network comes from, if its file states it.
    pub card: Option<ModelCard>,
    /// What a person should know about how the file was read, one sentence each.
    pub notes: Vec<String>,
}

impl Model {
    /// Creates a model from a config and weights that do not come from a file; `name` takes the
    /// place of its path in messages.
    pub fn new(config: Config, weights: Weights, name: impl Into<PathBuf>) -> Self {
        Self {
            config,
            weights,
            dialect: NATIVE,
            path: name.into(),
            settings: Vec::new(),
            card: None,
            notes: Vec::new(),
        }
    }

    /// Reads a weight file of any dialect and format (safetensors, `.pth`, and TensorFlow's frozen
    /// graphs, checkpoints, TFLite files and archives of these), and what a `config.json` beside it
    /// states about the network.
    ///
    /// # Errors
    /// Returns an error if the file is corrupt, its parameter names match no known dialect, or its
    /// tensors do not fit the network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, ReadOptions::default())
    }

    /// Like [`Model::open`], with a known dialect or number of classes, or with
    /// [`Statements`](crate::weights::statements::Statements) about what the file cannot state.
    ///
    /// ```no_run
    /// use atrous::Model;
    /// use atrous::engine::weights::dialects::ReadOptions;
    /// use atrous::engine::weights::statements::Statements;
    /// let statements = Statements { trained_stride: Some(8), ..Statements::default() };
    /// let options = ReadOptions { statements, ..ReadOptions::default() };
    /// let model = Model::open_with("smp.pth", options)?;
    /// # Ok::<(), atrous::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Model::open`], or if the file does not match the options.
    pub fn open_with(path: impl AsRef<Path>, mut options: ReadOptions) -> Result<Self> {
        let file = WeightFile::open(&path)?;
        options.config_files.get_or_insert_with(|| ConfigFiles::beside(path.as_ref()));
        Self::load(&file, options)
    }

    /// Like [`Model::open`], for a file in memory; `name` identifies it in errors.
    ///
    /// # Errors
    /// As for [`Model::open`].
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::from_bytes_with(bytes, name, ReadOptions::default())
    }

    /// Like [`Model::from_bytes`], with the options of [`Model::open_with`].
    ///
    /// # Errors
    /// As for [`Model::open_with`].
    pub fn from_bytes_with(
        bytes: Vec<u8>,
        name: impl AsRef<Path>,
        options: ReadOptions,
    ) -> Result<Self> {
        Self::load(&WeightFile::from_bytes(bytes, name)?, options)
    }

    fn load(file: &WeightFile, options: ReadOptions) -> Result<Self> {
        let loaded = dialects::load(file, options)?;
        let notes = [file.notes(), &loaded.notes].concat();
        Ok(Self {
            config: loaded.config,
            weights: loaded.weights,
            dialect: loaded.dialect,
            path: file.path().to_owned(),
            settings: loaded.settings,
            card: ModelCard::from_metadata(file.metadata()),
            notes,
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

    /// Returns the model with another threshold of its sigmoid outputs, which is 0.5 unless the file
    /// states one.
    ///
    /// # Errors
    /// Returns an error if the outputs are no sigmoids.
    pub fn with_threshold(mut self, threshold: Threshold) -> Result<Self> {
        match &mut self.config.head {
            Some(head) if head.activation == OutputActivation::Sigmoid => {
                head.threshold = threshold;
                Ok(self)
            }
            Some(head) => Err(error!(
                Usage,
                "a threshold applies to sigmoid outputs; the network has a softmax over {} classes",
                head.classes
            )),
            None => {
                Err(error!(Usage, "a bare backbone has no outputs to compare with a threshold"))
            }
        }
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
        if head.activation == OutputActivation::Sigmoid {
            BACKGROUND.clone_into(&mut table.names[0]);
        }
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
