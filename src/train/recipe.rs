//! A training as a file: what is trained, on what, and how. The defaults are a sensible training; a
//! recipe says what differs.

use super::groups::Groups;
use super::mining::Mining;
use super::options::{NormMomentum, TrainOptions};
use super::schedule::{Decay, Schedule};
use super::step::{NormMode, StepOptions};
use super::update::Optimizer;
use crate::data::Augmentation;
use crate::error::{ErrorKind, Result, error};
use crate::ops::PixelLoss;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The longest file that is read as a recipe: a weight for each of 4096 classes has a tenth of
/// this.
const MOST_BYTES: u64 = 1 << 20;

/// The label that is ignored where 255 is a class: masks hold no larger one.
const LAST_LABEL: u32 = u16::MAX as u32;

/// Every setting of a training. As a file it is TOML; a field that is left out has the value of
/// [`Recipe::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Steps (updates of the weights) of the whole run.
    pub steps: u32,
    /// Images of a batch.
    pub batch: usize,
    /// Batches whose gradients are added up for a step (see [`TrainOptions::accumulate`]).
    pub accumulate: u32,
    /// Whether activations are computed again for the backward part, to save memory (see
    /// [`StepOptions::recompute`]).
    pub recompute: bool,
    /// Decides about first weights, order of the images, augmentation and dropout.
    pub seed: u32,
    /// Learning rate after the warm-up.
    pub rate: f64,
    /// Steps in which the rate rises.
    pub warm_up: u32,
    /// The rate never falls below this.
    pub rate_floor: f64,
    /// Gradients with a larger norm are scaled down to it.
    pub max_norm: Option<f64>,
    /// Which batch norms take the statistics of the batch.
    pub norm: NormMode,
    /// Factor of the auxiliary head's loss, for networks that have one.
    pub aux: Option<f32>,
    /// Steps between two evaluations on the validation images; the last step is always followed by
    /// one.
    pub evaluate_every: u32,
    /// Steps between two checkpoints; evaluations and the last step are always followed by one.
    pub checkpoint_every: u32,
    /// What is trained.
    pub network: NetworkRecipe,
    /// Which images.
    pub data: DataRecipe,
    /// What is done to them.
    pub augmentation: Augmentation,
    /// How the rate falls.
    pub decay: Decay,
    /// What turns gradients into changes.
    #[serde(alias = "optimiser")]
    pub optimizer: Optimizer,
    /// Rates and weight decays by part.
    pub groups: Groups,
    /// How running statistics move.
    pub norm_momentum: NormMomentum,
    /// What is made small.
    pub loss: PixelLoss,
    /// The share of hard pixels, where the loss keeps those alone.
    pub mining: Option<Mining>,
}

/// The network of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRecipe {
    /// The part from features to classes. With weights to begin from it is theirs, else that of
    /// DeepLabv3+.
    pub model: Option<ModelName>,
    /// Name of the backbone (see [`Backbone::NAMES`](crate::models::Backbone::NAMES)). With weights
    /// to begin from it is theirs.
    pub backbone: Option<String>,
    /// Pixels of the image to a pixel of the last features: 8, 16 or 32.
    pub output_stride: usize,
    /// Whether ASPP and decoder have separable convolutions.
    pub separable: bool,
    /// Share of values that is dropped after ASPP's projection.
    pub dropout: f32,
    /// How images become numbers, where the weights to begin from do not say it right.
    pub preprocess: Option<PreprocessName>,
}

/// What stands behind the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum ModelName {
    /// ASPP and a 3x3 convolution.
    #[serde(rename = "deeplabv3")]
    #[cfg_attr(feature = "cli", value(name = "deeplabv3"))]
    DeepLabV3,
    /// ASPP and the decoder of DeepLabv3+.
    #[serde(rename = "deeplabv3plus")]
    #[cfg_attr(feature = "cli", value(name = "deeplabv3plus"))]
    DeepLabV3Plus,
}

/// Ways from bytes to numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum PreprocessName {
    /// Mean and deviation of ImageNet.
    Imagenet,
    /// `x / 127.5 - 1`.
    Tensorflow,
}

/// The images of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// The part of the data set to train on.
    pub part: String,
    /// The part to evaluate on. Where the data set has no such part, a share of the first is held
    /// out for it.
    pub validation: String,
    /// That share.
    pub hold_out: f64,
    /// A weight for each class in the loss; none counts every class alike.
    pub class_weights: Option<Vec<f32>>,
}

impl Default for Recipe {
    /// DeepLabv3+ with MobileNetV2, 10,000 steps of eight crops of 513 x 513 pixels.
    fn default() -> Self {
        Self {
            steps: 10_000,
            batch: 8,
            accumulate: 1,
            recompute: false,
            seed: 1,
            rate: 0.01,
            warm_up: 0,
            rate_floor: 1e-6,
            max_norm: None,
            norm: NormMode::Train,
            aux: None,
            evaluate_every: 1000,
            checkpoint_every: 250,
            network: NetworkRecipe::default(),
            data: DataRecipe::default(),
            augmentation: Augmentation::default(),
            decay: Decay::Poly { power: 0.9 },
            optimizer: Optimizer::SGD,
            groups: Groups::default(),
            norm_momentum: NormMomentum::default(),
            loss: PixelLoss::default(),
            mining: None,
        }
    }
}

impl Default for NetworkRecipe {
    fn default() -> Self {
        Self {
            model: None,
            backbone: None,
            output_stride: 16,
            separable: true,
            dropout: 0.1,
            preprocess: None,
        }
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self { part: "train".into(), validation: "val".into(), hold_out: 0.1, class_weights: None }
    }
}

impl Recipe {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no TOML, or has a field that is not known; each with the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = crate::files::read_text_at_most(path, MOST_BYTES)?;
        Self::parse(&text).map_err(|e| e.file(path))
    }

    /// As [`Recipe::read`], from text.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|e| crate::text::toml_error(ErrorKind::Config, "is no recipe", text, &e))
    }

    /// As TOML, every field spelled out.
    ///
    /// # Errors
    /// Never for recipes that [`Recipe::parse`] would take.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| error!(Config, "cannot be written as TOML: {e}"))
    }

    /// As JSON, every field spelled out: as the records of a run have it.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Ignores another label where the usual one, 255, is one of `classes` classes; what to say of
    /// it.
    pub fn ignore_none_of(&mut self, classes: usize) -> Option<String> {
        let usual = PixelLoss::default().ignore;
        if self.loss.ignore != usual || classes <= usual as usize || classes > LAST_LABEL as usize {
            return None;
        }
        self.loss.ignore = LAST_LABEL;
        Some(format!(
            "label {usual} is one of {classes} classes: pixels of no class have the label {LAST_LABEL} in the loss (`ignore`)"
        ))
    }

    /// How steps are made.
    ///
    /// # Errors
    /// Where numbers make no sense.
    pub fn options(&self) -> Result<TrainOptions> {
        self.augmentation.check()?;
        if self.evaluate_every == 0 || self.checkpoint_every == 0 {
            return Err(error!(
                Config,
                "`evaluate_every` and `checkpoint_every` must be at least 1"
            ));
        }
        if (self.loss.weighted && self.data.class_weights.is_none())
            || (self.loss.mined && self.mining.is_none())
        {
            return Err(error!(
                Config,
                "`loss.weighted` and `loss.mined` follow from `data.class_weights` and `[mining]`: leave them out"
            ));
        }
        // The usual floor is no reason to refuse a rate below it; one that was given is.
        let usual = self.rate_floor == Self::default().rate_floor;
        let floor = if usual { self.rate_floor.min(self.rate) } else { self.rate_floor };
        let weighted = self.data.class_weights.is_some();
        let loss = PixelLoss { weighted, mined: self.mining.is_some(), ..self.loss };
        Ok(TrainOptions {
            batch: self.batch,
            crop: self.augmentation.crop,
            accumulate: self.accumulate,
            step: StepOptions {
                loss,
                aux: self.aux,
                norm: self.norm,
                seed: self.seed,
                recompute: self.recompute,
                ..StepOptions::default()
            },
            class_weights: self.data.class_weights.clone(),
            mining: self.mining,
            optimizer: self.optimizer,
            groups: self.groups,
            schedule: Schedule {
                base: self.rate,
                decay: self.decay,
                steps: self.steps,
                warm_up: self.warm_up,
                floor,
            },
            max_norm: self.max_norm,
            norm_momentum: self.norm_momentum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_comes_back_from_its_text_and_says_what_it_does_not_know() {
        let full = Recipe {
            max_norm: Some(5.0),
            mining: Some(Mining { top: 0.25, steps: 100 }),
            optimizer: Optimizer::ADAM_W,
            decay: Decay::Step { every: 10, factor: 0.5 },
            ..Recipe::default()
        };
        for recipe in [Recipe::default(), full] {
            assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
        }
        let mut many = Recipe::default();
        assert_eq!(many.ignore_none_of(255), None);
        let told = many.ignore_none_of(300).unwrap();
        assert!(
            many.loss.ignore == 65_535 && told.contains("300 classes") && told.contains("65535"),
            "{told}"
        );
        assert_eq!(many.ignore_none_of(300), None);
        let short = Recipe::parse("steps = 10\n[network]\nbackbone = \"resnet50\"\n").unwrap();
        assert_eq!((short.steps, short.batch), (10, Recipe::default().batch));
        let error = Recipe::parse("steps = 10\nstep = 3\n").unwrap_err().to_string();
        assert!(error.contains("step") && error.contains("line 2"), "{error}");
    }
}
