//! Everything that a run needs to go on to the same bits, in one file.

use super::trainer::Trainer;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::models::{CONFIG_KEY, Config};
use crate::tensor::{Shape, Tensor};
use crate::weights::dialects;
use crate::weights::{FloatDType, WeightFile, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// The metadata key of a checkpoint's [`RunProgress`], as JSON.
const PROGRESS_KEY: &str = "atrous.progress";

/// How far a run is. Order of the images, augmentation, dropout and learning rate follow from the
/// number of steps and the seed alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProgress {
    /// Steps that are done.
    pub step: u64,
    /// The best mIoU so far, and after which step.
    pub best: Option<(f64, u64)>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Whether the network after this step is still to be scored. A checkpoint comes before, so
    /// that an image that cannot be read then costs no steps.
    #[serde(default)]
    pub evaluation_due: bool,
    /// Images to train on: with others the order is another.
    #[serde(default, alias = "pictures")]
    pub images: Option<usize>,
    /// Losses of the last steps, of which the records tell the mean.
    #[serde(default)]
    pub losses: VecDeque<f64>,
    /// Whether any pixel has counted in the loss so far. Checkpoints of earlier versions do not say
    /// so.
    #[serde(default = "assumed")]
    pub counted: bool,
    /// The recipe that the last steps were made with, as in the log; none in checkpoints of earlier
    /// versions.
    #[serde(default)]
    pub recipe: Option<serde_json::Value>,
    /// The device that they were made on, in words; none in checkpoints of earlier versions.
    #[serde(default)]
    pub device: Option<String>,
}

fn assumed() -> bool {
    true
}

/// Writes a checkpoint: whole or not at all.
///
/// # Errors
/// Where the file cannot be written, or a number is not finite.
pub fn write(path: &Path, trainer: &Trainer, progress: &RunProgress) -> Result<()> {
    let dims = |s: Shape| vec![s.n, s.h, s.w, s.c];
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, param) in trainer.weights()? {
        tensors.push((
            format!("weights.{name}"),
            dims(param.shape()),
            param.tensor().f32().to_vec(),
        ));
    }
    for (name, tensor) in trainer.optimizer_state()? {
        tensors.push((name, dims(tensor.shape()), tensor.f32().to_vec()));
    }
    let json = serde_json::to_string(progress)
        .map_err(|e| error!(Io, "the progress cannot be written as JSON: {e}"))?;
    let metadata = BTreeMap::from([
        (PROGRESS_KEY.to_owned(), json),
        (CONFIG_KEY.to_owned(), trainer.config().to_json()),
    ]);
    write_safetensors(path, tensors, &metadata, FloatDType::F32)
}

/// A checkpoint that was read.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The network.
    pub config: Config,
    /// How far the run was.
    pub progress: RunProgress,
    weights: Weights,
    state: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// Where the file is damaged or no checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let none = || error!(Weights, "is no checkpoint of a training").file(path);
        let progress = file.metadata().get(PROGRESS_KEY).ok_or_else(none)?;
        let progress = serde_json::from_str(progress)
            .map_err(|e| error!(Weights, "tells its progress wrongly: {e}").file(path))?;
        let config = file.metadata().get(CONFIG_KEY).ok_or_else(none)?;
        let config = Config::from_json(config).map_err(|e| e.file(path))?;
        let (mut weights, mut state) = (Weights::new(), BTreeMap::new());
        for name in file.names() {
            let (dims, data) = file.read_f32(name)?;
            let &[n, h, w, c] = dims.as_slice() else { return Err(none()) };
            let tensor = Tensor::new(Shape::new(n, h, w, c), data).map_err(|e| e.file(path))?;
            match name.strip_prefix("weights.") {
                Some(name) => drop(weights.insert(name.to_owned(), ParamRef::new(tensor))),
                None => drop(state.insert(name.to_owned(), tensor)),
            }
        }
        Ok(Self { config, progress, weights, state })
    }

    /// The network's weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Brings a trainer to where the checkpoint was written.
    ///
    /// # Errors
    /// Where the trainer is of another network or optimizer.
    pub fn restore(&self, trainer: &mut Trainer) -> Result<()> {
        trainer.restore(self.progress.step, &self.weights, &self.state)
    }
}

/// Writes weights as `segment` and all other commands take them: whole or not at all.
///
/// # Errors
/// Where the file cannot be written, or a number is not finite.
pub fn write_weights(path: &Path, config: &Config, weights: &Weights) -> Result<()> {
    let stored = dialects::store(config, weights, "atrous")?;
    write_safetensors(path, stored.tensors, &stored.metadata, FloatDType::F32)
}
