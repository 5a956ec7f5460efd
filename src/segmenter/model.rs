//! A network with its weights, loaded from a file.

use super::network::Network;
use crate::error::{Error, Result, error};
use crate::graph::{Graph, Weights};
use crate::image::{ClassTable, SizeRule};
use crate::models::{BACKGROUND, Config, ModelCard, NetworkGraph, OutputActivation, Outputs};
#[cfg(feature = "onnx")]
use crate::onnx;
use crate::ops::Threshold;
use crate::passes;
use crate::tensor::Shape;
use crate::text::class_name;
use crate::weights::WeightFile;
use crate::weights::dialects::{self, Dialect, NATIVE, ReadOptions};
use crate::weights::statements::{ConfigFiles, Setting};
use std::path::{Path, PathBuf};
#[cfg(feature = "onnx")]
use std::sync::Arc;

/// A network's configuration and weights.
#[derive(Debug, Clone)]
pub struct Model {
    /// Architecture of the network.
    pub network: Network,
    /// Parameters, by this crate's names.
    pub weights: Weights,
    /// Dialect of the file's parameter names. `None` for an ONNX file, which has none.
    pub dialect: Option<&'static dyn Dialect>,
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
    /// Creates a model from an architecture and weights that do not come from a file; `name` takes the
    /// place of its path in messages.
    pub fn new(network: impl Into<Network>, weights: Weights, name: impl Into<PathBuf>) -> Self {
        Self {
            network: network.into(),
            weights,
            dialect: Some(NATIVE),
            path: name.into(),
            settings: Vec::new(),
            card: None,
            notes: Vec::new(),
        }
    }

    /// Reads a weight file of any dialect and format (safetensors, `.pth`, ONNX, and TensorFlow's
    /// frozen graphs, checkpoints, TFLite files and archives of these), and what a `config.json`
    /// beside it states about the network.
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
        options.config_files.get_or_insert_with(|| ConfigFiles::beside(path.as_ref()));
        #[cfg(feature = "onnx")]
        if path.as_ref().is_file() && onnx::is_onnx(path.as_ref())? {
            return Ok(Self::of_onnx(onnx::open(path.as_ref(), &options)?, path.as_ref()));
        }
        let file = WeightFile::open(&path)?;
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
        #[cfg(feature = "onnx")]
        if onnx::looks_like(&bytes) {
            let read = onnx::from_bytes(bytes, &options).map_err(|e| e.file(&name))?;
            return Ok(Self::of_onnx(read, name.as_ref()));
        }
        Self::load(&WeightFile::from_bytes(bytes, name)?, options)
    }

    #[cfg(feature = "onnx")]
    fn of_onnx(read: onnx::OnnxModel, path: &Path) -> Self {
        let onnx::OnnxModel { network, weights, settings, card, notes } = read;
        Self {
            network: Network::Onnx(Arc::new(network)),
            weights,
            dialect: None,
            path: path.to_owned(),
            settings,
            card,
            notes,
        }
    }

    fn load(file: &WeightFile, options: ReadOptions) -> Result<Self> {
        let loaded = dialects::load(file, options)?;
        let notes = [file.notes(), &loaded.notes].concat();
        Ok(Self {
            network: loaded.config.into(),
            weights: loaded.weights,
            dialect: Some(loaded.dialect),
            path: file.path().to_owned(),
            settings: loaded.settings,
            card: ModelCard::from_metadata(file.metadata()),
            notes,
        })
    }

    /// Returns the config of the network.
    ///
    /// # Errors
    /// Returns an error for the graph of an ONNX file, which has none.
    pub fn config(&self) -> Result<&Config> {
        self.network.config().ok_or_else(|| only_runs().file(&self.path))
    }

    /// Returns the config of the network, to change it.
    ///
    /// # Errors
    /// As for [`Model::config`].
    pub fn config_mut(&mut self) -> Result<&mut Config> {
        match &mut self.network {
            Network::DeepLab(config) => Ok(config),
            #[cfg(feature = "onnx")]
            Network::Onnx(_) => Err(only_runs().file(&self.path)),
        }
    }

    /// Returns the config of the network and the weights, to change both.
    ///
    /// # Errors
    /// As for [`Model::config`].
    pub fn parts_mut(&mut self) -> Result<(&mut Config, &mut Weights)> {
        match &mut self.network {
            Network::DeepLab(config) => Ok((config, &mut self.weights)),
            #[cfg(feature = "onnx")]
            Network::Onnx(_) => Err(only_runs().file(&self.path)),
        }
    }

    /// Returns the name of the file's dialect, `onnx` for an ONNX file.
    pub fn dialect_name(&self) -> &'static str {
        self.dialect.map_or("onnx", |dialect| dialect.name())
    }

    /// Returns the model with another output stride (8, 16 or 32).
    ///
    /// # Errors
    /// Returns an error if the network does not support it.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<Self> {
        self.network.set_output_stride(output_stride)?;
        Ok(self)
    }

    /// Returns the model with another threshold of its sigmoid outputs, which is 0.5 unless the file
    /// states one.
    ///
    /// # Errors
    /// Returns an error if the outputs are no sigmoids.
    pub fn with_threshold(mut self, threshold: Threshold) -> Result<Self> {
        self.network.set_threshold(threshold)?;
        Ok(self)
    }

    /// Returns the input size that the model was made for; see [`Network::default_size`].
    pub fn default_size(&self) -> SizeRule {
        self.network.default_size()
    }

    /// Returns the names and colors of the classes: those of the file if it has them, otherwise the
    /// default table for the number of classes.
    pub fn class_table(&self) -> ClassTable {
        let Some(labeling) = self.network.labeling() else { return ClassTable::for_classes(0) };
        let mut table = ClassTable::for_classes(labeling.classes);
        if labeling.activation == OutputActivation::Sigmoid {
            BACKGROUND.clone_into(&mut table.names[0]);
        }
        let (names, colors) = (self.network.class_names(), self.network.class_colors());
        if names.len() == table.names.len() {
            table.names = names.iter().map(|name| class_name(name)).collect();
        }
        if colors.len() == table.colors.len() {
            table.colors = colors.to_vec();
        }
        table
    }

    /// Builds the graph with weights for an input `[N, H, W, C]`. It is not optimized, so stages
    /// can still be looked up by name.
    ///
    /// # Errors
    /// Returns an error if the input or the weights do not fit the network.
    pub fn network(&self, input: Shape, outputs: &Outputs) -> Result<NetworkGraph> {
        self.network.build(input, outputs, &self.weights).map_err(|e| e.file(&self.path))
    }

    /// Builds the optimized graph for an input `[N, H, W, C]`.
    ///
    /// # Errors
    /// As for [`Model::network`].
    pub fn graph(&self, input: Shape, outputs: &Outputs) -> Result<Graph> {
        passes::optimize(self.network(input, outputs)?.graph)
    }
}

fn only_runs() -> Error {
    error!(Usage, "the graph of an ONNX file can be run, but not trained or converted")
        .advice("use the weights that it was exported from")
}
