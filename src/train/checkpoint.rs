//! Checkpoints: everything a run needs to resume bit-identically, in one file.

use super::trainer::Trainer;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::models::{CONFIG_KEY, Config, ModelCard};
use crate::tensor::{Shape, Tensor};
use crate::weights::dialects::{self, NATIVE, PROGRESS_KEY};
use crate::weights::{FloatDType, WeightFile, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// The best evaluation of a run. Serialized as `[mean IoU, step]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, u64)", into = "(f64, u64)")]
pub struct BestScore {
    /// Mean IoU, 0 to 1.
    pub mean_iou: f64,
    /// Number of completed steps.
    pub step: u64,
}

impl From<(f64, u64)> for BestScore {
    fn from((mean_iou, step): (f64, u64)) -> Self {
        Self { mean_iou, step }
    }
}

impl From<BestScore> for (f64, u64) {
    fn from(best: BestScore) -> Self {
        (best.mean_iou, best.step)
    }
}

/// Progress of a run. Image order, augmentation, dropout and learning rate follow from the step
/// number and the seed alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProgress {
    /// Number of completed steps.
    pub step: u64,
    /// Best evaluation so far.
    pub best: Option<BestScore>,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// Whether the network after this step still has to be evaluated. The checkpoint is written
    /// before the evaluation, so that an unreadable image does not cost any steps.
    #[serde(default)]
    pub evaluation_due: bool,
    /// Number of training images. A different number changes the image order.
    #[serde(default, alias = "pictures")]
    pub images: Option<usize>,
    /// Losses of the last steps; records contain their mean.
    #[serde(default)]
    pub losses: VecDeque<f64>,
    /// Whether any pixel has counted in the loss so far. Not recorded by earlier versions.
    #[serde(default = "default_counted")]
    pub counted: bool,
    /// Evaluations since the best one. Not recorded by earlier versions.
    #[serde(default)]
    pub evaluations_since_best: u32,
    /// Batches so far without a pixel that counts. Not recorded by earlier versions.
    #[serde(default)]
    pub empty_batches: u64,
    /// Recipe of the last steps, as in the log. Not recorded by earlier versions.
    #[serde(default)]
    pub recipe: Option<serde_json::Value>,
    /// Device of the last steps. Not recorded by earlier versions.
    #[serde(default)]
    pub device: Option<String>,
}

fn default_counted() -> bool {
    true
}

/// Writes a checkpoint atomically.
///
/// # Errors
/// Returns an error if the file cannot be written, or a value is not finite.
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
        .map_err(|e| error!(Io, "could not serialize the progress as JSON: {e}"))?;
    let metadata = BTreeMap::from([
        (PROGRESS_KEY.to_owned(), json),
        (CONFIG_KEY.to_owned(), trainer.config().to_json()),
    ]);
    write_safetensors(path, tensors, &metadata, FloatDType::F32)
}

/// A checkpoint in memory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Configuration of the network.
    pub config: Config,
    /// Progress of the run.
    pub progress: RunProgress,
    weights: Weights,
    state: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or not a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let none = || error!(Weights, "not a training checkpoint").file(path);
        let progress = file.metadata().get(PROGRESS_KEY).ok_or_else(none)?;
        let progress = serde_json::from_str(progress)
            .map_err(|e| error!(Weights, "invalid progress metadata: {e}").file(path))?;
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

    /// Weights of the network.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Restores the state of a trainer from the checkpoint.
    ///
    /// # Errors
    /// Returns an error if the trainer has a different network or optimizer.
    pub fn restore(&self, trainer: &mut Trainer) -> Result<()> {
        trainer.restore(self.progress.step, &self.weights, &self.state)
    }
}

/// Writes a weights file for `segment` and the other commands, atomically.
///
/// # Errors
/// Returns an error if the file cannot be written, or a value is not finite.
pub fn write_weights(
    path: &Path,
    config: &Config,
    weights: &Weights,
    card: &ModelCard,
) -> Result<()> {
    let mut stored = dialects::store(config, weights, NATIVE)?;
    card.add_to(&mut stored.metadata);
    write_safetensors(path, stored.tensors, &stored.metadata, FloatDType::F32)
}
