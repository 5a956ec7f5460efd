//! Options of training steps.

use super::average;
use super::mining::Mining;
use super::param_groups::ParamGroups;
use super::schedule::Schedule;
use super::step::StepOptions;
use super::update::Optimizer;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::graph::Place;
use crate::models::{Config, Norm};
use serde::{Deserialize, Serialize};

/// Options that stay the same for all steps of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Images per batch.
    pub batch: usize,
    /// Height and width of the crops.
    pub crop: Size,
    /// Batches whose gradients are accumulated for a step, 1 to 65,536. Each batch takes as long as
    /// a step. The accumulated gradients take as much memory as the parameters, independent of the
    /// number of batches.
    pub accumulate: u32,
    /// Loss, batch norms, seed.
    pub step: StepOptions,
    /// One weight per class, if the loss is weighted.
    pub class_weights: Option<Vec<f32>>,
    /// Schedule of the fraction of hard pixels, if the loss keeps only those.
    pub mining: Option<Mining>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Learning-rate factors and weight decay by part of the network.
    pub groups: ParamGroups,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Gradients with a larger norm are scaled down to this norm.
    pub max_norm: Option<f64>,
    /// Momentum of the running statistics.
    pub norm_momentum: NormMomentum,
    /// Decay of the exponential moving average of the weights, above 0 and below 1; `None` keeps no
    /// average. Running statistics are averaged as well, as in timm's `ModelEmaV3`. The decay is
    /// smaller in the first steps: at most `1 - n^(-2 / 3)` in step `n`.
    pub ema: Option<f64>,
}

/// Weight of the batch's statistics in the update of the running statistics, 0 to 1 (PyTorch's
/// `momentum`; TensorFlow's `decay` is 1 minus this).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormMomentum {
    /// Batch norms of the backbone.
    pub backbone: f64,
    /// Batch norms of ASPP, decoder and auxiliary head.
    pub head: f64,
}

impl Default for NormMomentum {
    /// PyTorch's 0.1.
    fn default() -> Self {
        Self { backbone: 0.1, head: 0.1 }
    }
}

impl NormMomentum {
    /// Momentum of a norm at a place of the network.
    pub(super) fn of(&self, place: Place) -> f64 {
        if place == Place::Backbone { self.backbone } else { self.head }
    }
}

/// Maximum number of images in a batch. Like [`MAX_PIXELS`], far more than any device can hold, and
/// small enough that byte counts do not overflow.
const MAX_IMAGES: usize = 1 << 16;
/// Maximum number of batches in a step. Memory does not depend on it; it catches typos.
const MAX_BATCHES: u32 = 1 << 16;
/// Maximum number of pixels in a batch.
const MAX_PIXELS: u64 = 1 << 36;

impl TrainOptions {
    /// SGD on cross entropy, one batch per step; all other options have their defaults.
    pub fn new(batch: usize, crop: Size, schedule: Schedule) -> Self {
        Self {
            batch,
            crop,
            accumulate: 1,
            step: StepOptions::default(),
            class_weights: None,
            mining: None,
            optimizer: Optimizer::SGD,
            groups: ParamGroups::default(),
            schedule,
            max_norm: None,
            norm_momentum: NormMomentum::default(),
            ema: None,
        }
    }

    /// Checks the options for a network.
    ///
    /// # Errors
    /// Returns an error that names the first invalid option.
    pub fn validate(&self, config: &Config) -> Result<()> {
        self.schedule.validate()?;
        self.groups.validate()?;
        self.step.loss.validate()?;
        let Some(classes) = config.classes() else {
            return Err(error!(Config, "cannot train a bare backbone: it has no classes"));
        };
        if config.norm == Norm::Folded {
            return Err(error!(
                Config,
                "the batch norms of this network are folded into its convolutions and cannot be trained"
            )
            .advice("use a file whose batch norms are not folded (see `atrous inspect`), or an ImageNet backbone"));
        }
        self.validate_batch()?;
        self.optimizer.validate()?;
        if self.step.aux.is_some_and(|factor| !factor.is_finite() || factor < 0.0) {
            return Err(error!(
                Config,
                "the factor of the auxiliary loss must be 0 or more, got {:?}", self.step.aux
            ));
        }
        if self.max_norm.is_some_and(|max| !max.is_finite() || max <= 0.0) {
            return Err(error!(Config, "`max_norm` must be above 0"));
        }
        if let Some(mining) = &self.mining {
            mining.validate()?;
        }
        if self.mining.is_some() != self.step.loss.mined {
            return Err(error!(
                Config,
                "a fraction of hard pixels requires a loss that is mined, and vice versa"
            ));
        }
        if let Some(decay) = self.ema {
            average::validate(decay)?;
        }
        let is_fraction = |x: f64| (0.0..=1.0).contains(&x);
        if !is_fraction(self.norm_momentum.backbone) || !is_fraction(self.norm_momentum.head) {
            return Err(error!(
                Config,
                "the momentum of the batch norms must be 0 to 1, got {:?}", self.norm_momentum
            ));
        }
        self.validate_class_weights(classes)
    }

    /// Checks that the images of a step are few enough to be held and numbered.
    fn validate_batch(&self) -> Result<()> {
        if self.batch == 0 || self.accumulate == 0 {
            return Err(error!(Config, "`batch` and `accumulate` must be at least 1"));
        }
        let pixels = [self.crop.height, self.crop.width, self.batch]
            .into_iter()
            .fold(1u64, |all, n| all.saturating_mul(n as u64));
        if self.batch > MAX_IMAGES || pixels > MAX_PIXELS {
            return Err(error!(
                Config,
                "a batch of {} crops of {} pixels exceeds the memory of any device",
                self.batch,
                self.crop
            )
            .advice(
                "use smaller batches, and accumulate the gradients of several with `accumulate`",
            ));
        }
        if self.accumulate > MAX_BATCHES {
            return Err(error!(
                Config,
                "`accumulate` must be at most {MAX_BATCHES}, got {}", self.accumulate
            )
            .advice("each batch takes as long as a step: use fewer batches and more steps"));
        }
        Ok(())
    }

    fn validate_class_weights(&self, classes: usize) -> Result<()> {
        match &self.class_weights {
            Some(weights) if weights.len() != classes => {
                Err(error!(Config, "expected {classes} class weights, got {}", weights.len()))
            }
            Some(weights) if weights.iter().any(|w| !w.is_finite() || *w < 0.0) => {
                Err(error!(Config, "class weights must be 0 or more"))
            }
            Some(weights) if weights.iter().all(|w| *w == 0.0) => {
                Err(error!(Config, "all class weights are 0, so that no pixel would count")
                    .advice("set a weight above 0 for the classes to learn"))
            }
            weights if weights.is_some() != self.step.loss.weighted => {
                Err(error!(Config, "class weights require a weighted loss, and vice versa"))
            }
            _ => Ok(()),
        }
    }
}
