//! How a network is trained, step by step.

use super::groups::Groups;
use super::mining::Mining;
use super::schedule::Schedule;
use super::step::StepOptions;
use super::update::Optimizer;
use crate::error::{Result, error};
use crate::models::{Config, Norm};
use serde::{Deserialize, Serialize};

/// Everything about steps that stays the same over a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Images of a batch.
    pub batch: usize,
    /// Height and width of the images.
    pub crop: (usize, usize),
    /// Batches whose gradients are added up for a step, 1 to 65,536. Each takes the time of a step
    /// of its own; of memory they take the sums of the gradients, as much as the parameters,
    /// however many they are.
    pub accumulate: u32,
    /// Loss, norms, seed.
    pub step: StepOptions,
    /// A weight for each class, where the loss has weights.
    pub class_weights: Option<Vec<f32>>,
    /// The share of hard pixels over the run, where the loss keeps those alone.
    pub mining: Option<Mining>,
    /// What turns gradients into changes.
    pub optimizer: Optimizer,
    /// Rates and decays by part.
    pub groups: Groups,
    /// The learning rate.
    pub schedule: Schedule,
    /// Gradients with a larger norm are scaled down to it.
    pub max_norm: Option<f64>,
    /// How running statistics move.
    pub norm_momentum: NormMomentum,
}

/// The share of the batch's statistics in the running ones (PyTorch's sense; TensorFlow's decay is
/// 1 less it).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormMomentum {
    /// In the backbone.
    pub backbone: f64,
    /// In ASPP, decoder and auxiliary head.
    pub head: f64,
}

impl Default for NormMomentum {
    /// PyTorch's 0.1.
    fn default() -> Self {
        Self { backbone: 0.1, head: 0.1 }
    }
}

impl NormMomentum {
    /// The share for a norm, by its name.
    pub(super) fn of(&self, norm: &str) -> f64 {
        if norm.starts_with("backbone.") { self.backbone } else { self.head }
    }
}

/// The most images of a batch, and the most pixels: far beyond what any device holds, and small
/// enough that bytes can be counted.
const MOST_IMAGES: usize = 1 << 16;
/// The most batches of a step: one is held at a time, but with more a step is no step any more.
const MOST_BATCHES: u32 = 1 << 16;
const MOST_PIXELS: u64 = 1 << 36;

impl TrainOptions {
    /// Gradient descent on cross entropy with one batch a step, and nothing else out of the
    /// ordinary.
    pub fn new(batch: usize, crop: (usize, usize), schedule: Schedule) -> Self {
        Self {
            batch,
            crop,
            accumulate: 1,
            step: StepOptions::default(),
            class_weights: None,
            mining: None,
            optimizer: Optimizer::SGD,
            groups: Groups::default(),
            schedule,
            max_norm: None,
            norm_momentum: NormMomentum::default(),
        }
    }

    /// Checks that the options make sense for a network.
    ///
    /// # Errors
    /// With what does not.
    pub fn validate(&self, config: &Config) -> Result<()> {
        self.schedule.validate()?;
        self.groups.validate()?;
        self.step.loss.validate()?;
        let Some(classes) = config.classes() else {
            return Err(error!(Config, "a bare backbone has no classes to train"));
        };
        if config.norm == Norm::Folded {
            return Err(error!(
                Config,
                "the batch norms of this network are folded into its convolutions"
            )
            .advice("train from weights whose norms stand apart"));
        }
        if self.batch == 0 || self.accumulate == 0 {
            return Err(error!(Config, "a step needs at least one image"));
        }
        let pixels = [self.crop.0, self.crop.1, self.batch]
            .into_iter()
            .fold(1u64, |all, n| all.saturating_mul(n as u64));
        if self.batch > MOST_IMAGES || pixels > MOST_PIXELS {
            let (h, w) = self.crop;
            return Err(error!(
                Config,
                "a batch of {} crops of {h} x {w} pixels is more than any device holds", self.batch
            )
            .advice("take smaller batches, and add up the gradients of several by `accumulate`"));
        }
        if self.accumulate > MOST_BATCHES {
            return Err(error!(
                Config,
                "adding up the gradients of {} batches is more than {MOST_BATCHES}",
                self.accumulate
            )
            .advice("each of them takes the time of a step: take fewer, and more steps"));
        }
        self.optimizer.validate()?;
        if self.step.aux.is_some_and(|factor| !factor.is_finite() || factor < 0.0) {
            return Err(error!(
                Config,
                "the factor of the auxiliary loss must be 0 or more, got {:?}", self.step.aux
            ));
        }
        if self.max_norm.is_some_and(|max| !max.is_finite() || max <= 0.0) {
            return Err(error!(Config, "the largest norm of the gradients must be above 0"));
        }
        if let Some(mining) = &self.mining {
            mining.validate()?;
        }
        if self.mining.is_some() != self.step.loss.mined {
            return Err(error!(
                Config,
                "a share of hard pixels and a loss that keeps them belong together"
            ));
        }
        let share = |x: f64| (0.0..=1.0).contains(&x);
        if !share(self.norm_momentum.backbone) || !share(self.norm_momentum.head) {
            return Err(error!(
                Config,
                "the momentum of the norms must be 0 to 1, got {:?}", self.norm_momentum
            ));
        }
        match &self.class_weights {
            Some(weights) if weights.len() != classes => {
                Err(error!(Config, "{} class weights for {classes} classes", weights.len()))
            }
            Some(weights) if weights.iter().any(|w| !w.is_finite() || *w < 0.0) => {
                Err(error!(Config, "class weights must be 0 or more"))
            }
            Some(weights) if weights.iter().all(|w| *w == 0.0) => {
                Err(error!(Config, "all class weights are 0, so that no pixel would count")
                    .advice("give the classes that are to be learned a weight above 0"))
            }
            weights if weights.is_some() != self.step.loss.weighted => {
                Err(error!(Config, "class weights and a loss that takes them belong together"))
            }
            _ => Ok(()),
        }
    }
}
