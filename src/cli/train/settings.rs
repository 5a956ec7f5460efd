//! Training settings on the command line: each overrides one of the recipe.

use super::values::{self, OptimizerName, ScheduleName};
use crate::cli::args::output_stride;
use crate::cli::registries::backbones;
use crate::error::Result;
use crate::geometry::Size;
use crate::models::OutputActivation;
use crate::train::{
    ClassWeights, Decay, Freeze, ModelName, NormMode, Optimizer, PreprocessName, Recipe, RunLength,
};
use std::path::Path;

/// The length of a run: in settings of a new one, or the new length of one that is resumed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Length {
    /// Number of training steps (weight updates); with --resume the new total of the run [default:
    /// 10000]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,

    /// Number of passes over the training set, instead of --steps
    #[arg(long, value_name = "X", help_heading = TRAINING, conflicts_with = "steps", value_parser = values::epochs)]
    epochs: Option<f64>,
}

impl Length {
    /// The length, if an option states one.
    pub(super) fn total(&self) -> Option<RunLength> {
        let epochs = self.epochs.map(RunLength::Epochs);
        epochs.or_else(|| self.steps.map(RunLength::Steps))
    }
}

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

    /// Images per batch [default: 8]
    #[arg(long, value_name = "N", help_heading = TRAINING, alias = "batch-size", value_parser = values::batch)]
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
    #[arg(long, value_name = "N|WxH", help_heading = TRAINING, value_parser = values::crop)]
    crop: Option<Size>,

    /// Learning rate [default: 0.01]
    #[arg(long, value_name = "X", help_heading = TRAINING, aliases = ["lr", "rate"], value_parser = values::positive)]
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

    /// Keep parameters and batch norms of this part of the network as they are, and skip its
    /// backward pass [default: train all]
    #[arg(long, value_name = "backbone", help_heading = TRAINING, hide_possible_values = true)]
    freeze: Option<Freeze>,

    /// Evaluate and keep an exponential moving average of the weights with this decay, such as 0.999
    /// [default: no average]
    #[arg(long, value_name = "X", help_heading = TRAINING, value_parser = values::decay)]
    ema: Option<f64>,

    /// Clip the gradient to this norm [default: no clipping]
    #[arg(long, value_name = "X", help_heading = TRAINING)]
    max_norm: Option<f64>,

    /// Random seed (initial weights, shuffling, augmentation, dropout) [default: 1]
    #[arg(long, value_name = "N", help_heading = TRAINING)]
    seed: Option<u32>,

    /// Steps between evaluations [default: 1000]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    evaluate_every: Option<u32>,

    /// Stop after N evaluations in a row without a better mIoU [default: train all steps]
    #[arg(long, value_name = "N", help_heading = TRAINING, value_parser = clap::value_parser!(u32).range(1..))]
    early_stopping: Option<u32>,

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

    /// Weights of the classes in the loss: median-frequency (SegNet) or inverse-log (ENet), computed
    /// from the training masks, or a number for each class such as 1,3.5,0.2 [default: all equal]
    #[arg(long, value_name = "RULE|W,..", help_heading = TRAINING)]
    class_weights: Option<ClassWeights>,

    /// Draw images with rare classes more often: repeat factor sampling
    #[arg(long, help_heading = SPLITS)]
    oversample: bool,

    /// License of the trained network, for the model card in its files; the data decides it
    /// [default: not stated]
    #[arg(long, value_name = "TEXT", help_heading = SPLITS)]
    license: Option<String>,
}

const NETWORK: &str = "Network";
const TRAINING: &str = "Training";
const SPLITS: &str = "Data";

/// Overrides a setting if the option was given.
fn put<T: Clone>(setting: &mut T, option: &Option<T>) {
    if let Some(value) = option {
        *setting = value.clone();
    }
}

/// Overrides a setting without a default value if the option was given.
fn put_some<T: Clone>(setting: &mut Option<T>, option: &Option<T>) {
    if option.is_some() {
        setting.clone_from(option);
    }
}

impl Settings {
    /// Returns the recipe of a file, or the default one, with the options applied, and whether the
    /// crop is the default one because neither states it.
    pub(super) fn recipe(&self, file: Option<&Path>, length: &Length) -> Result<(Recipe, bool)> {
        let (mut recipe, text) = match file {
            Some(file) => {
                let text = Recipe::read_text(file)?;
                (Recipe::parse(&text).map_err(|e| e.file(file))?, text)
            }
            None => (Recipe::default(), String::new()),
        };
        let is_default_crop = self.crop.is_none() && !Recipe::states_crop(&text);
        match length.total() {
            Some(RunLength::Steps(steps)) => (recipe.steps, recipe.epochs) = (steps, None),
            Some(RunLength::Epochs(epochs)) => recipe.epochs = Some(epochs),
            None => {}
        }
        self.apply_to_network(&mut recipe);
        self.apply_to_data(&mut recipe);
        self.apply_to_steps(&mut recipe);
        Ok((recipe, is_default_crop))
    }

    fn apply_to_network(&self, recipe: &mut Recipe) {
        let network = &mut recipe.network;
        put_some(&mut network.model, &self.model);
        put_some(&mut network.backbone, &self.backbone);
        put_some(&mut network.like, &self.like);
        put(&mut network.output_stride, &self.output_stride);
        put_some(&mut network.preprocess, &self.preprocess);
        put_some(&mut network.activation, &self.activation);
    }

    fn apply_to_data(&self, recipe: &mut Recipe) {
        let data = &mut recipe.data;
        put(&mut data.split, &self.split);
        put(&mut data.val_split, &self.val_split);
        put(&mut data.val_fraction, &self.val_fraction);
        put_some(&mut data.license, &self.license);
        put_some(&mut data.class_weights, &self.class_weights);
        data.oversample |= self.oversample;
        put(&mut recipe.augmentation.crop, &self.crop);
    }

    fn apply_to_steps(&self, recipe: &mut Recipe) {
        put(&mut recipe.batch, &self.batch);
        put(&mut recipe.accumulate, &self.accumulate);
        recipe.recompute |= self.recompute;
        put(&mut recipe.learning_rate, &self.learning_rate);
        put(&mut recipe.warmup, &self.warmup);
        put(&mut recipe.groups.weight_decay, &self.weight_decay);
        put(&mut recipe.groups.backbone, &self.backbone_factor);
        put_some(&mut recipe.max_norm, &self.max_norm);
        put(&mut recipe.norm, &self.norm);
        put_some(&mut recipe.freeze, &self.freeze);
        put_some(&mut recipe.ema, &self.ema);
        put(&mut recipe.seed, &self.seed);
        put(&mut recipe.evaluate_every, &self.evaluate_every);
        put_some(&mut recipe.early_stopping, &self.early_stopping);
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
    }

    /// Fits the decay of `--schedule` to the number of steps, once epochs are known in steps.
    pub(super) fn fit_schedule(&self, recipe: &mut Recipe) {
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
        let recipe = settings.recipe(None, &Length::default()).unwrap().0;
        assert_eq!(recipe.network.activation, Some(OutputActivation::Sigmoid));
        assert_eq!(recipe.data.license.as_deref(), Some("CC BY 4.0"));
    }

    #[test]
    fn a_crop_that_a_file_or_an_option_states_is_not_the_default() {
        let is_default = |text: &str, crop: Option<Size>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, text).unwrap();
            let settings = Settings { crop, ..Settings::default() };
            settings.recipe(Some(file.path()), &Length::default()).unwrap().1
        };
        assert!(is_default("steps = 3\n[augmentation]\nflip = 0.5\n", None));
        assert!(!is_default("[augmentation]\ncrop = [513, 513]\n", None));
        assert!(!is_default("augmentation.crop = [513, 513]\n", None));
        assert!(!is_default("steps = 3\n", Some(Size::square(513))));
    }

    #[test]
    fn options_override_the_length_of_a_recipe_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "epochs = 3.0\n").unwrap();
        let recipe =
            |length: Length| Settings::default().recipe(Some(file.path()), &length).unwrap().0;
        assert_eq!(recipe(Length::default()).epochs, Some(3.0));
        let steps = recipe(Length { steps: Some(7), epochs: None });
        assert_eq!((steps.steps, steps.epochs), (7, None));
        let epochs = recipe(Length { steps: None, epochs: Some(2.0) });
        assert_eq!(epochs.epochs, Some(2.0));
    }
}
