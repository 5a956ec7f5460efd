//! Training settings on the command line: each overrides one of the recipe.

use crate::cli::args::output_stride;
use crate::cli::registries::backbones;
use crate::error::Result;
use crate::geometry::Size;
use crate::models::OutputActivation;
use crate::train::{Decay, ModelName, NormMode, Optimizer, PreprocessName, Recipe};
use std::path::Path;

/// The settings of a recipe that options can override. All others need a recipe file.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(conflicts_with = "resume")]
pub(super) struct Settings {
    /// Segmentation head [default: deeplabv3plus, or that of `--init`]
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    model: Option<ModelName>,

    #[arg(
        long,
        value_name = "NAME",
        help_heading = NETWORK,
        help = format!("Backbone: {} [default: mobilenet_v2, or that of `--init`]", backbones())
    )]
    backbone: Option<String>,

    #[arg(
        long,
        value_name = "NAME",
        help_heading = NETWORK,
        help = "Build the network as this code base does, so that it can be used there: smp, torchvision, vainf, jfzhang95, tensorflow, or atrous for this program's own conventions [default: smp with atrous rates 6, 12 and 18, where it has the backbone, else atrous]"
    )]
    like: Option<String>,

    /// Output stride of the encoder: smaller is finer and slower [default: 16]
    #[arg(long, value_name = "8|16|32", help_heading = NETWORK, value_parser = output_stride(), hide_possible_values = true)]
    output_stride: Option<usize>,

    /// Input normalization; overrides that of `--init`
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    preprocess: Option<PreprocessName>,

    /// How outputs become probabilities: softmax, or for two classes sigmoid, which is one output
    /// for the foreground [default: softmax, or that of `--init`]
    #[arg(long, value_name = "softmax|sigmoid", help_heading = NETWORK, hide_possible_values = true)]
    activation: Option<OutputActivation>,

    /// Which batch norms use the statistics of the batch [default: train]
    #[arg(long, value_name = "MODE", help_heading = NETWORK)]
    norm: Option<NormMode>,

    /// Number of training steps (weight updates) [default: 10000]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,

    /// Number of passes over the training set, instead of --steps
    #[arg(long, value_name = "X", help_heading = TRAINING, conflicts_with = "steps", value_parser = epochs)]
    epochs: Option<f64>,

    /// Images per batch [default: 8]
    #[arg(long, value_name = "N", help_heading = TRAINING, alias = "batch-size", value_parser = batch)]
    batch: Option<usize>,

    /// Accumulate the gradients of N batches per step, 1 to 65536: each takes the time of a step,
    /// and one is in memory at a time [default: 1]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..=65536))]
    accumulate: Option<u32>,

    /// Activation checkpointing: under half the activation memory for roughly one extra forward
    /// pass; bit-identical
    #[arg(long, help_heading = TRAINING)]
    recompute: bool,

    /// Crop size in pixels: a side, or width x height [default: 513]
    #[arg(long, value_name = "N|WxH", help_heading = TRAINING, value_parser = crop)]
    crop: Option<Size>,

    /// Learning rate [default: 0.01]
    #[arg(long, value_name = "X", help_heading = TRAINING, aliases = ["lr", "rate"], value_parser = positive)]
    learning_rate: Option<f64>,

    /// Learning-rate schedule [default: poly]
    #[arg(long, value_name = "NAME", help_heading = TRAINING)]
    schedule: Option<ScheduleName>,

    /// Number of steps of linear learning-rate warm-up [default: 0]
    #[arg(long, value_name = "N", help_heading = TRAINING, alias = "warm-up")]
    warmup: Option<u32>,

    /// Optimizer [default: sgd]
    #[arg(long, value_name = "NAME", help_heading = TRAINING, alias = "optimiser")]
    optimizer: Option<OptimizerName>,

    /// Weight decay of the convolution kernels [default: 0.0001]
    #[arg(long, value_name = "X", help_heading = TRAINING, alias = "decay")]
    weight_decay: Option<f64>,

    /// Learning-rate factor of the backbone [default: 1]
    #[arg(long, value_name = "X", help_heading = TRAINING, alias = "backbone-rate")]
    backbone_factor: Option<f64>,

    /// Clip the gradient to this norm [default: no clipping]
    #[arg(long, value_name = "X", help_heading = TRAINING)]
    max_norm: Option<f64>,

    /// Random seed (initial weights, shuffling, augmentation, dropout) [default: 1]
    #[arg(long, value_name = "N", help_heading = TRAINING)]
    seed: Option<u32>,

    /// Steps between evaluations [default: 1000]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    evaluate_every: Option<u32>,

    /// Steps between checkpoints [default: 250]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_every: Option<u32>,

    /// Split of the data set to train on [default: train]
    #[arg(long, value_name = "NAME", help_heading = SPLITS, alias = "part")]
    split: Option<String>,

    /// Split to evaluate on [default: val, or a fraction held out of the training split]
    #[arg(long, value_name = "NAME", help_heading = SPLITS, alias = "val-part")]
    val_split: Option<String>,

    /// Fraction of the images to hold out if there is no split to evaluate on, 0 to 1 [default:
    /// 0.1]
    #[arg(long, value_name = "X", help_heading = SPLITS, alias = "val-share")]
    val_fraction: Option<f64>,

    /// License of the trained network, for the model card in its files; the data decides it
    /// [default: not stated]
    #[arg(long, value_name = "TEXT", help_heading = SPLITS)]
    license: Option<String>,
}

const NETWORK: &str = "Network";
const TRAINING: &str = "Training";
const SPLITS: &str = "Data";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ScheduleName {
    /// No decay
    Constant,
    /// (1 - t)^0.9
    Poly,
    /// A tenth after every third of the steps
    Step,
    /// Cosine decay to zero
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OptimizerName {
    /// Stochastic gradient descent with momentum 0.9
    Sgd,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
}

/// Parses a batch size.
fn batch(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|n| (1..=65536).contains(n));
    number.ok_or_else(|| "expected a number from 1 to 65536".to_owned())
}

/// Parses a learning rate.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Parses a number of epochs.
fn epochs(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 1e6);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Parses the size of crops.
fn crop(text: &str) -> Result<Size, String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
    let size = match text.split_once('x') {
        Some((w, h)) => side(w).zip(side(h)).map(|(w, h)| Size::new(w, h)),
        None => side(text).map(Size::square),
    };
    size.ok_or_else(|| {
        "expected one side, such as 513, or width x height, such as 480x360".to_owned()
    })
}

/// Overrides a setting if the option was given.
fn put<T: Clone>(setting: &mut T, option: &Option<T>) {
    if let Some(value) = option {
        *setting = value.clone();
    }
}

impl Settings {
    /// Returns the recipe of a file, or the default one, with the options applied.
    pub(super) fn recipe(&self, file: Option<&Path>) -> Result<Recipe> {
        let mut recipe = file.map_or_else(|| Ok(Recipe::default()), Recipe::read)?;
        if self.model.is_some() {
            recipe.network.model = self.model;
        }
        if self.backbone.is_some() {
            recipe.network.backbone = self.backbone.clone();
        }
        if self.like.is_some() {
            recipe.network.like = self.like.clone();
        }
        put(&mut recipe.network.output_stride, &self.output_stride);
        if self.preprocess.is_some() {
            recipe.network.preprocess = self.preprocess;
        }
        if self.activation.is_some() {
            recipe.network.activation = self.activation;
        }
        put(&mut recipe.steps, &self.steps);
        put(&mut recipe.batch, &self.batch);
        put(&mut recipe.accumulate, &self.accumulate);
        recipe.recompute |= self.recompute;
        put(&mut recipe.augmentation.crop, &self.crop);
        put(&mut recipe.learning_rate, &self.learning_rate);
        put(&mut recipe.warmup, &self.warmup);
        put(&mut recipe.groups.weight_decay, &self.weight_decay);
        put(&mut recipe.groups.backbone, &self.backbone_factor);
        if self.max_norm.is_some() {
            recipe.max_norm = self.max_norm;
        }
        put(&mut recipe.norm, &self.norm);
        put(&mut recipe.seed, &self.seed);
        put(&mut recipe.data.split, &self.split);
        put(&mut recipe.data.val_split, &self.val_split);
        put(&mut recipe.data.val_fraction, &self.val_fraction);
        if self.license.is_some() {
            recipe.data.license.clone_from(&self.license);
        }
        put(&mut recipe.evaluate_every, &self.evaluate_every);
        put(&mut recipe.checkpoint_every, &self.checkpoint_every);
        if let Some(name) = self.schedule {
            recipe.decay = match name {
                ScheduleName::Constant => Decay::Constant,
                ScheduleName::Poly => Decay::Poly { power: 0.9 },
                ScheduleName::Step => Decay::Step { every: recipe.steps.div_ceil(3), factor: 0.1 },
                ScheduleName::Cosine => Decay::Cosine,
            };
        }
        if let Some(name) = self.optimizer {
            recipe.optimizer = match name {
                OptimizerName::Sgd => Optimizer::SGD,
                OptimizerName::AdamW => Optimizer::ADAM_W,
            };
        }
        Ok(recipe)
    }

    /// Sets the number of steps so that they make `--epochs` passes over `images` images.
    pub(super) fn apply_epochs(&self, recipe: &mut Recipe, images: usize) {
        let Some(epochs) = self.epochs else { return };
        let images_per_step = recipe.batch as f64 * f64::from(recipe.accumulate);
        recipe.steps = (epochs * images as f64 / images_per_step).ceil().max(1.0) as u32;
        if self.schedule == Some(ScheduleName::Step) {
            recipe.decay = Decay::Step { every: recipe.steps.div_ceil(3), factor: 0.1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--activation` and `--license` were unknown, and the tips named unrelated options.
    #[test]
    fn activation_and_license_are_options_of_the_recipe() {
        let settings = Settings {
            activation: Some(OutputActivation::Sigmoid),
            license: Some("CC BY 4.0".to_owned()),
            ..Settings::default()
        };
        let recipe = settings.recipe(None).unwrap();
        assert_eq!(recipe.network.activation, Some(OutputActivation::Sigmoid));
        assert_eq!(recipe.data.license.as_deref(), Some("CC BY 4.0"));
    }

    #[test]
    fn epochs_become_steps_of_the_effective_batch() {
        let settings = Settings { epochs: Some(1.5), ..Settings::default() };
        let mut recipe = Recipe { batch: 4, accumulate: 2, ..Recipe::default() };
        settings.apply_epochs(&mut recipe, 100);
        assert_eq!(recipe.steps, 19, "150 images, 8 in a step");
        Settings::default().apply_epochs(&mut recipe, 1000);
        assert_eq!(recipe.steps, 19, "without --epochs nothing changes");
    }
}
