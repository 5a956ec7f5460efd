//! Settings of a training on the command line: each overrides one of the recipe.

use crate::error::Result;
use crate::train::{Decay, ModelName, NormMode, Optimizer, PreprocessName, Recipe};
use std::path::Path;

/// What of a recipe can be said by flags. Anything else is for the recipe's file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// The part from features to classes [default: deeplabv3plus, or that of `--init`]
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,

    /// What computes the features: mobilenet_v2, resnet50, resnet101, xception65, ... [default:
    /// mobilenet_v2, or that of `--init`]
    #[arg(long, value_name = "NAME")]
    backbone: Option<String>,

    /// Pixels of the image to a pixel of the last features [default: 16]
    #[arg(long, value_name = "8|16|32")]
    output_stride: Option<usize>,

    /// How images become numbers, where the weights of `--init` do not say it right
    #[arg(long, value_name = "NAME")]
    preprocess: Option<PreprocessName>,

    /// Steps (updates of the weights) of the whole run [default: 10000]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,

    /// Images of a batch [default: 8]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,

    /// Batches whose gradients are added up for a step, 1 to 65536: each takes the time of a step,
    /// and one is in memory at a time [default: 1]
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,

    /// Computes activations again for the backward part: less than half of their memory for the
    /// time of most of a second forward pass, and the same bits
    #[arg(long)]
    recompute: bool,

    /// Pixels of the crops: one side, or width x height [default: 513]
    #[arg(long, value_name = "N|WxH", value_parser = crop)]
    crop: Option<(usize, usize)>,

    /// Learning rate [default: 0.01]
    #[arg(long, value_name = "X")]
    rate: Option<f64>,

    /// How the rate falls [default: poly]
    #[arg(long, value_name = "NAME")]
    schedule: Option<ScheduleName>,

    /// Steps in which the rate rises [default: 0]
    #[arg(long, value_name = "N")]
    warm_up: Option<u32>,

    /// What turns gradients into changes [default: sgd]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<OptimizerName>,

    /// Weight decay of the kernels [default: 0.0001]
    #[arg(long, value_name = "X")]
    decay: Option<f64>,

    /// Factor of the learning rate in the backbone [default: 1]
    #[arg(long, value_name = "X")]
    backbone_rate: Option<f64>,

    /// Scales gradients with a larger norm down to it [default: never]
    #[arg(long, value_name = "X")]
    max_norm: Option<f64>,

    /// Which batch norms take the statistics of the batch [default: train]
    #[arg(long, value_name = "MODE")]
    norm: Option<NormMode>,

    /// Decides about first weights, order of the images, augmentation and dropout [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,

    /// Part of the data set to train on [default: train]
    #[arg(long, value_name = "NAME")]
    part: Option<String>,

    /// Part of the data set to evaluate on [default: val, or a share held out of the other]
    #[arg(long, value_name = "NAME")]
    val_part: Option<String>,

    /// Share of the images that is held out where there is no part to evaluate on [default: 0.1]
    #[arg(long, value_name = "X")]
    val_share: Option<f64>,

    /// Steps between evaluations [default: 1000]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u32>,

    /// Steps between checkpoints [default: 250]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ScheduleName {
    /// It stays
    Constant,
    /// (1 - t)^0.9
    Poly,
    /// A tenth after every third of the steps
    Step,
    /// Half a wave of the cosine
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OptimizerName {
    /// Gradient descent with a momentum of 0.9
    Sgd,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
}

/// Height and width of crops.
fn crop(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
    let found = match text.split_once('x') {
        Some((w, h)) => side(h).zip(side(w)),
        None => side(text).map(|n| (n, n)),
    };
    found.ok_or_else(|| {
        "must be one side, such as 513, or width x height, such as 480x360".to_owned()
    })
}

/// Puts what was given in the place of what was there.
fn put<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(given) = given {
        *place = given.clone();
    }
}

impl Settings {
    /// The recipe of a file, or the usual one, with what the flags say otherwise.
    pub(super) fn recipe(&self, file: Option<&Path>) -> Result<Recipe> {
        let mut recipe = file.map_or_else(|| Ok(Recipe::default()), Recipe::read)?;
        if self.model.is_some() {
            recipe.network.model = self.model;
        }
        if self.backbone.is_some() {
            recipe.network.backbone = self.backbone.clone();
        }
        put(&mut recipe.network.output_stride, &self.output_stride);
        if self.preprocess.is_some() {
            recipe.network.preprocess = self.preprocess;
        }
        put(&mut recipe.steps, &self.steps);
        put(&mut recipe.batch, &self.batch);
        put(&mut recipe.accumulate, &self.accumulate);
        recipe.recompute |= self.recompute;
        put(&mut recipe.augmentation.crop, &self.crop);
        put(&mut recipe.learning_rate, &self.rate);
        put(&mut recipe.warm_up, &self.warm_up);
        put(&mut recipe.groups.weight_decay, &self.decay);
        put(&mut recipe.groups.backbone, &self.backbone_rate);
        if self.max_norm.is_some() {
            recipe.max_norm = self.max_norm;
        }
        put(&mut recipe.norm, &self.norm);
        put(&mut recipe.seed, &self.seed);
        put(&mut recipe.data.split, &self.part);
        put(&mut recipe.data.val_split, &self.val_part);
        put(&mut recipe.data.hold_out, &self.val_share);
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

    /// Whether any flag was given; which ones only the command line knows.
    pub(super) fn given(&self) -> Option<&'static str> {
        (*self != Self::default()).then_some("--steps and its like")
    }
}
