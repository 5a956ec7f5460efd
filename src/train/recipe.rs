//! Recipes: all settings of a training run, as a TOML file. The defaults are a sensible run; a
//! recipe lists what differs.

use super::class_weights::ClassWeights;
use super::loss_recipe::LossRecipe;
use super::mining::Mining;
use super::options::{NormMomentum, TrainOptions};
use super::param_groups::ParamGroups;
use super::schedule::{Decay, Schedule};
use super::step::{Freeze, NormMode, StepOptions};
use super::update::Optimizer;
use crate::data::Augmentation;
use crate::error::{ErrorKind, Result, error};
use crate::models::{Config, ConvKind, OutputActivation};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Maximum size of a recipe file. Weights for 4096 classes take a tenth of this.
const MAX_BYTES: u64 = 1 << 20;

/// The ignored label if 255 is a class: the largest value of a 16-bit mask.
const LAST_LABEL: u32 = u16::MAX as u32;

/// All settings of a training run. As a file it is TOML; missing fields have the values of
/// [`Recipe::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Number of steps (updates of the weights) of the whole run.
    pub steps: u32,
    /// Number of passes over the training images, instead of `steps`. A run replaces it by the
    /// steps when it starts (see [`Recipe::resolve_epochs`]).
    pub epochs: Option<f64>,
    /// Images per batch.
    pub batch: usize,
    /// Batches whose gradients are accumulated for a step (see [`TrainOptions::accumulate`]).
    pub accumulate: u32,
    /// Whether activations are recomputed for the backward pass, to save memory (see
    /// [`StepOptions::recompute`]).
    pub recompute: bool,
    /// Random seed of initial weights, image order, augmentation and dropout.
    pub seed: u32,
    /// Learning rate after the warm-up.
    #[serde(alias = "rate")]
    pub learning_rate: f64,
    /// Number of warm-up steps, in which the learning rate rises linearly.
    #[serde(alias = "warm_up")]
    pub warmup: u32,
    /// Minimum learning rate after the warm-up.
    #[serde(alias = "rate_floor")]
    pub learning_rate_floor: f64,
    /// Gradients with a larger norm are scaled down to this norm.
    pub max_norm: Option<f64>,
    /// Decay of the average of the weights that is evaluated and kept (see
    /// [`TrainOptions::ema`]); `None` evaluates and keeps the weights of the last step.
    pub ema: Option<f64>,
    /// Part of the network that is not trained.
    pub freeze: Option<Freeze>,
    /// Which batch norms use the statistics of the batch.
    pub norm: NormMode,
    /// Factor of the auxiliary head's loss, if the network has one.
    pub aux: Option<f32>,
    /// Steps between two evaluations on the validation images. The last step is also evaluated.
    pub evaluate_every: u32,
    /// Number of evaluations in a row without a better mIoU after which the run stops; `None` trains
    /// all steps.
    pub early_stopping: Option<u32>,
    /// Steps between two checkpoints. A checkpoint also follows each evaluation and the last step.
    pub checkpoint_every: u32,
    /// The network.
    pub network: NetworkRecipe,
    /// The training and validation data.
    pub data: DataRecipe,
    /// Augmentation of the training images.
    pub augmentation: Augmentation,
    /// Decay of the learning rate.
    pub decay: Decay,
    /// The optimizer.
    #[serde(alias = "optimiser")]
    pub optimizer: Optimizer,
    /// Learning-rate factors and weight decay by part of the network.
    pub groups: ParamGroups,
    /// Momentum of the running statistics.
    pub norm_momentum: NormMomentum,
    /// The loss.
    pub loss: LossRecipe,
    /// Schedule of the fraction of hard pixels, if the loss keeps only those.
    pub mining: Option<Mining>,
}

/// The network of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRecipe {
    /// Dialect of the code base whose network to build (see [`like`](crate::engine::weights::dialects::like)),
    /// or `atrous` for this crate's own conventions. The default is a network that can be written
    /// for segmentation-models-pytorch, where it has one.
    pub like: Option<String>,
    /// Segmentation head. The default is that of the initial weights, or else DeepLabv3+.
    pub model: Option<ModelName>,
    /// Name of the backbone (see [`Backbone::names`](crate::models::Backbone::names)). The default
    /// is that of the initial weights, or else `mobilenet_v2`.
    pub backbone: Option<String>,
    /// Ratio of the image size to the size of the last feature map: 8, 16 or 32.
    pub output_stride: usize,
    /// Whether ASPP and decoder use depthwise-separable convolutions, as far as the code base of
    /// `like` has both. By default they do in this crate's conventions, and in the decoder of
    /// segmentation-models-pytorch.
    pub separable: Option<bool>,
    /// Dropout probability after ASPP's projection.
    pub dropout: f32,
    /// How outputs become probabilities: softmax over the classes, or, for two classes, one output
    /// with a sigmoid. The default is that of the initial weights, or else softmax.
    pub activation: Option<OutputActivation>,
    /// Preprocessing, overriding that of the initial weights.
    pub preprocess: Option<PreprocessName>,
}

/// Segmentation head.
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

/// Preprocessing of images: how bytes become network inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum PreprocessName {
    /// Mean and standard deviation of ImageNet.
    Imagenet,
    /// `x / 127.5 - 1`.
    Tensorflow,
}

/// The data of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// Split to train on.
    #[serde(alias = "part")]
    pub split: String,
    /// Split to evaluate on. If the data set has no split of the default name, a fraction of the
    /// training split is held out instead.
    #[serde(alias = "validation")]
    pub val_split: String,
    /// Fraction of the training split to hold out, 0 to 1.
    #[serde(alias = "hold_out")]
    pub val_fraction: f64,
    /// License of the trained network, for its model card; the data decides it.
    pub license: Option<String>,
    /// Weights of the classes in the loss; `None` weighs all classes equally. A run replaces a rule
    /// by its weights when it starts (see [`Recipe::resolve_class_weights`]).
    pub class_weights: Option<ClassWeights>,
    /// Whether images with rare classes are drawn more often (see [`TrainingData::oversample`]).
    ///
    /// [`TrainingData::oversample`]: super::TrainingData::oversample
    pub oversample: bool,
}

impl Default for Recipe {
    /// DeepLabv3+ with MobileNetV2, 10,000 steps of eight crops of 513 x 513 pixels.
    fn default() -> Self {
        Self {
            steps: 10_000,
            epochs: None,
            batch: 8,
            accumulate: 1,
            recompute: false,
            seed: 1,
            learning_rate: 0.01,
            warmup: 0,
            learning_rate_floor: 1e-6,
            max_norm: None,
            ema: None,
            freeze: None,
            norm: NormMode::Train,
            aux: None,
            evaluate_every: 1000,
            early_stopping: None,
            checkpoint_every: 250,
            network: NetworkRecipe::default(),
            data: DataRecipe::default(),
            augmentation: Augmentation::default(),
            decay: Decay::Poly { power: 0.9 },
            optimizer: Optimizer::SGD,
            groups: ParamGroups::default(),
            norm_momentum: NormMomentum::default(),
            loss: LossRecipe::default(),
            mining: None,
        }
    }
}

impl Default for NetworkRecipe {
    fn default() -> Self {
        Self {
            like: None,
            model: None,
            backbone: None,
            output_stride: 16,
            separable: None,
            dropout: 0.1,
            activation: None,
            preprocess: None,
        }
    }
}

impl NetworkRecipe {
    /// Sets [`NetworkRecipe::separable`] to what a network has in its ASPP, if it states otherwise:
    /// not every code base has both, and the head of initial weights stays. Returns whether it did.
    pub fn record_separable(&mut self, network: &Config) -> bool {
        let used = network.head.as_ref().map(|head| head.aspp.kind != ConvKind::Plain);
        let differs = self.separable.is_some() && used.is_some() && self.separable != used;
        if differs {
            self.separable = used;
        }
        differs
    }
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            split: "train".into(),
            val_split: "val".into(),
            val_fraction: 0.1,
            license: None,
            class_weights: None,
            oversample: false,
        }
    }
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is not valid TOML, or has an unknown field.
    /// Errors of the last two kinds name the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&Self::read_text(path)?).map_err(|e| e.file(path))
    }

    /// Reads the text of a recipe file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub(crate) fn read_text(path: &Path) -> Result<String> {
        crate::files::read_text_at_most(path, MAX_BYTES)
    }

    /// Whether the text of a recipe states the crop, rather than leaving it at its default.
    pub(crate) fn states_crop(text: &str) -> bool {
        let table = text.parse::<toml::Table>().unwrap_or_default();
        table.get("augmentation").is_some_and(|section| section.get("crop").is_some())
    }

    /// Parses a recipe from TOML.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|e| crate::error::toml_error(ErrorKind::Config, "invalid recipe", text, &e))
    }

    /// Serializes the recipe as TOML, including fields with default values.
    ///
    /// # Errors
    /// Does not fail for recipes that [`Recipe::parse`] accepts.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| error!(Config, "could not serialize the recipe as TOML: {e}"))
    }

    /// Serializes the recipe as JSON, including fields with default values, as in the log of a run.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Replaces the default ignored label, 255, by 65,535 if it is one of `classes` classes.
    /// Returns a note for the user if it was replaced.
    pub fn adjust_ignore_label(&mut self, classes: usize) -> Option<String> {
        let default = LossRecipe::default().ignore;
        if self.loss.ignore != default
            || classes <= default as usize
            || classes > LAST_LABEL as usize
        {
            return None;
        }
        self.loss.ignore = LAST_LABEL;
        Some(format!(
            "label {default} is one of {classes} classes; the loss ignores label {LAST_LABEL} instead (`ignore`)"
        ))
    }

    /// Options of the training steps, as the [`Trainer`](super::Trainer) takes them.
    ///
    /// The recipe is the file's view: flat keys in the user's order, with names that must not
    /// change. It does not embed [`TrainOptions`], because serde cannot combine `flatten` with
    /// `deny_unknown_fields`, and a misspelled key must be an error with its line.
    ///
    /// # Errors
    /// Returns an error if settings are invalid or contradict each other, or class weights have to
    /// be computed first.
    pub fn options(&self) -> Result<TrainOptions> {
        self.augmentation.check()?;
        if self.evaluate_every == 0 || self.checkpoint_every == 0 {
            return Err(error!(
                Config,
                "`evaluate_every` and `checkpoint_every` must be at least 1"
            ));
        }
        if self.early_stopping == Some(0) {
            return Err(error!(Config, "`early_stopping` must be at least 1"));
        }
        // A learning rate below the default floor is valid; one below a floor that the user set is
        // refused by `Schedule::validate`.
        let is_default = self.learning_rate_floor == Self::default().learning_rate_floor;
        let floor = if is_default {
            self.learning_rate_floor.min(self.learning_rate)
        } else {
            self.learning_rate_floor
        };
        let class_weights = match &self.data.class_weights {
            None => None,
            Some(ClassWeights::List(weights)) => Some(weights.clone()),
            Some(ClassWeights::Rule(_)) => {
                return Err(error!(
                    Usage,
                    "the class weights have to be computed from the training masks first"
                ));
            }
        };
        let loss = self.loss.pixel_loss(class_weights.is_some(), self.mining.is_some());
        Ok(TrainOptions {
            batch: self.batch,
            crop: self.augmentation.crop,
            accumulate: self.accumulate,
            step: StepOptions {
                loss,
                aux: self.aux,
                norm: self.norm,
                freeze: self.freeze,
                seed: self.seed,
                recompute: self.recompute,
                ..StepOptions::default()
            },
            class_weights,
            mining: self.mining,
            optimizer: self.optimizer,
            groups: self.groups,
            schedule: Schedule {
                base: self.learning_rate,
                decay: self.decay,
                steps: self.steps,
                warmup: self.warmup,
                floor,
            },
            max_norm: self.max_norm,
            norm_momentum: self.norm_momentum,
            ema: self.ema,
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
        assert_eq!(many.adjust_ignore_label(255), None);
        let note = many.adjust_ignore_label(300).unwrap();
        assert!(
            many.loss.ignore == 65_535 && note.contains("300 classes") && note.contains("65535"),
            "{note}"
        );
        assert_eq!(many.adjust_ignore_label(300), None);
        let short = Recipe::parse("steps = 10\n[network]\nbackbone = \"resnet50\"\n").unwrap();
        assert_eq!((short.steps, short.batch), (10, Recipe::default().batch));
        let older = "rate = 0.5\nrate_floor = 0.1\nwarm_up = 7\n\
             [data]\npart = \"a\"\nvalidation = \"b\"\nhold_out = 0.2\n\
             [groups]\ndecay = 0.25\n[optimizer]\nkind = \"adam_w\"\nbetas = [0.9, 0.999]\neps = 1e-8\n";
        let older = Recipe::parse(older).unwrap();
        assert_eq!((older.learning_rate, older.learning_rate_floor), (0.5, 0.1));
        assert_eq!((older.data.split.as_str(), older.data.val_split.as_str()), ("a", "b"));
        assert_eq!((older.warmup, older.data.val_fraction), (7, 0.2));
        assert_eq!((older.groups.weight_decay, older.optimizer), (0.25, Optimizer::ADAM_W));
        let error = Recipe::parse("steps = 10\nstep = 3\n").unwrap_err().to_string();
        assert!(error.contains("step") && error.contains("line 2"), "{error}");
    }
}
