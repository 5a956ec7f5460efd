//! The images of a run: those it trains on and those it is scored on.

use super::directory::Origin;
use super::recipe::{DataRecipe, Recipe};
use super::run::RunContext;
use super::trainer::Trainer;
use crate::data::{self, Listing, Loader, LoaderOptions, Pair};
use crate::error::{Result, error};
use crate::image::ClassTable;
use std::fmt;

/// Training and validation images with their classes.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Images to train on.
    pub training: Vec<Pair>,
    /// Images to be scored on.
    pub validation: Vec<Pair>,
    /// Names and colors of the classes; one at least.
    pub table: ClassTable,
    /// Which images these are, in words.
    told: String,
}

impl TrainingData {
    /// Opens a data set as the recipe says: its two parts, or one of which a share is held out.
    ///
    /// # Errors
    /// Where the directory is no data set or lacks a part that is asked for, or the data has no
    /// classes and none are given.
    pub fn open(origin: &Origin, recipe: &Recipe) -> Result<Self> {
        let (root, how, usual) = (&origin.data, &recipe.data, DataRecipe::default());
        let parts = data::parts(root)?;
        // A name that was given is meant: only the usual one may be missing.
        let part = (!parts.is_empty() || how.part != usual.part).then_some(how.part.as_str());
        let training = data::open(root, part)?;
        let held_out = how.validation == usual.validation && !is_named(&parts, &how.validation);
        let (training, validation) = if held_out {
            training.hold_out(how.hold_out, recipe.seed.into())?
        } else {
            (training, data::open(root, Some(&how.validation))?)
        };
        let table = origin.classes.clone().or_else(|| training.classes.clone());
        let table = table.ok_or_else(|| {
            error!(Data, "does not say which classes it has")
                .file(root)
                .advice("put a classes.txt beside the images (number, name, color), or give `--class-table` or `--classes`")
        })?;
        if table.is_empty() {
            return Err(error!(Data, "has no classes").file(root));
        }
        let told = format!(
            "data: {} images to train on{}, {} to be scored on ({})",
            training.pairs.len(),
            part.map_or_else(String::new, |part| format!(" (part {part})")),
            validation.pairs.len(),
            if held_out { "held out".to_owned() } else { format!("part {}", how.validation) }
        );
        let pairs = |listing: Listing| listing.pairs;
        Ok(Self { training: pairs(training), validation: pairs(validation), table, told })
    }
}

impl fmt::Display for TrainingData {
    /// `data: 367 images to train on (part train), 101 to be scored on (part val)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

/// What a run reads.
pub(super) struct DataFeed {
    pub loader: Loader,
    pub validation: Vec<Pair>,
    pub table: ClassTable,
}

impl DataFeed {
    /// Starts to read, for the step after `step`. What does not fit the network in training is
    /// refused.
    pub fn new(
        sets: TrainingData,
        recipe: &Recipe,
        trainer: &Trainer,
        step: u64,
        setting: RunContext,
    ) -> Result<Self> {
        let TrainingData { training, validation, table, .. } = sets;
        let config = trainer.config();
        let classes = config.classes().unwrap_or(0);
        let names = config.head.as_ref().map_or(&[][..], |head| &head.class_names);
        if table.len() != classes || (!names.is_empty() && names != table.names) {
            return Err(error!(
                Data,
                "the data has the classes {}; the network is trained on {}",
                table.names.join(", "),
                names.join(", ")
            )
            .advice("bring the data's classes back, or begin another run with `--init` and the weights of this one"));
        }
        let options = LoaderOptions {
            batch: recipe.batch,
            workers: setting.workers,
            seed: recipe.seed.into(),
            start: step * u64::from(recipe.accumulate),
            ignore: recipe.loss.ignore,
            ..LoaderOptions::default()
        };
        let (how, augmentation) = (config.preprocess, recipe.augmentation.clone());
        let loader =
            Loader::new(training, Some(table.clone()), classes, how, augmentation, options)?;
        Ok(Self { loader, validation, table })
    }
}

/// Whether a part has this name, or the longer one that stands for it.
fn is_named(parts: &[String], name: &str) -> bool {
    parts.iter().any(|p| p == name || (name == "val" && p == "validation"))
}
