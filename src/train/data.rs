//! The training and validation images of a run.

use super::context::RunContext;
use super::directory::Origin;
use super::recipe::{DataRecipe, Recipe};
use super::trainer::Trainer;
use crate::data::doctor::unnamed_colors;
use crate::data::{self, DataSource, Listing, Loader, LoaderOptions, Pair, is_split_named};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::text;
use std::fmt;

/// Training and validation images, with their classes.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Training images.
    pub training: Vec<Pair>,
    /// Validation images.
    pub validation: Vec<Pair>,
    /// Names and colors of the classes; at least one.
    pub table: ClassTable,
    /// What was assumed about the masks, for people.
    pub notes: Vec<String>,
    /// Number of different training images; more entries if rare classes are oversampled.
    pub(super) images: usize,
    /// Whether images with rare classes are repeated.
    pub(super) is_oversampled: bool,
    /// One-line summary for people.
    summary: String,
}

impl TrainingData {
    /// Opens the training and validation splits of a recipe, of all data sets of `origin`. If a data
    /// set has no validation split, a fraction of its training split is held out.
    ///
    /// # Errors
    /// Returns an error if a directory is not a data set or lacks a requested split, if neither the
    /// data nor `origin` defines the classes, or if data sets have different classes.
    pub fn open(origin: &Origin, recipe: &Recipe) -> Result<Self> {
        let mut all = Self::open_source(&origin.data, origin, recipe)?;
        for source in &origin.more_data {
            all.add(Self::open_source(source, origin, recipe)?, &origin.data)
                .map_err(|e| e.file(source.directory()))?;
        }
        if !origin.more_data.is_empty() {
            all.summary = format!(
                "data: {} training images, {} validation images of {} data sets",
                all.training.len(),
                all.validation.len(),
                1 + origin.more_data.len()
            );
        }
        all.images = all.training.len();
        Ok(all)
    }

    /// Adds another data set with the same classes. `first` is where this one is.
    fn add(&mut self, other: Self, first: &DataSource) -> Result<()> {
        if let Some(differences) = differences(&self.table, &other.table) {
            return Err(error!(
                Data,
                "its classes differ from those of {first}: {differences}"
            )
            .advice(
                "give all data sets the same classes.txt, or name one for all with `--class-table`",
            ));
        }
        self.training.extend(other.training);
        self.validation.extend(other.validation);
        self.notes.extend(other.notes);
        self.notes.dedup();
        Ok(())
    }

    fn open_source(source: &DataSource, origin: &Origin, recipe: &Recipe) -> Result<Self> {
        let (settings, default) = (&recipe.data, DataRecipe::default());
        let (root, splits) = (source.directory(), data::splits(source)?);
        // Only a default name may be missing; a name that the user chose must exist.
        let is_default = settings.split == default.split;
        let split = match &splits[..] {
            [] if is_default => None,
            // Such as `default` of CVAT.
            [only] if is_default && !["val", "test"].iter().any(|n| is_split_named(only, n)) => {
                Some(only.as_str())
            }
            _ => Some(settings.split.as_str()),
        };
        let table = origin.classes.as_ref();
        let training = data::open_with_classes(source, split, table)?;
        let hold_out = settings.val_split == default.val_split
            && !splits.iter().any(|split| is_split_named(split, &settings.val_split));
        let (training, validation) = if hold_out {
            training.hold_out(settings.val_fraction, recipe.seed.into())?
        } else {
            (training, data::open_with_classes(source, Some(&settings.val_split), table)?)
        };
        if table.is_none() {
            training.check_same_classes(&validation)?;
        }
        let (training, validation) = same_meaning(training, validation)?;
        let table = origin.classes.clone().or_else(|| training.classes.clone());
        let table = table.ok_or_else(|| {
            if let Some(colors) = unnamed_colors(&training.pairs) {
                return colors.file(root);
            }
            error!(Data, "the data set does not define its classes")
                .file(root)
                .advice("add a classes.txt next to the images (a class per line), or pass `--class-table` or `--classes`")
        })?;
        if table.is_empty() {
            return Err(error!(Data, "the data set has no classes").file(root));
        }
        let summary = format!(
            "data: {} training images{}, {} validation images ({})",
            training.pairs.len(),
            split.map_or_else(String::new, |split| format!(" (split {split})")),
            validation.pairs.len(),
            if hold_out { "held out".to_owned() } else { format!("split {}", settings.val_split) }
        );
        let mut notes = [training.notes, validation.notes].concat();
        notes.dedup();
        let (training, validation) = (training.pairs, validation.pairs);
        let images = training.len();
        let is_oversampled = false;
        Ok(Self { training, validation, table, notes, images, is_oversampled, summary })
    }
}

impl fmt::Display for TrainingData {
    /// `data: 367 training images (split train), 101 validation images (split val)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)
    }
}

/// Lists how the classes of another data set differ; `None` if they do not. Colors differ if one has
/// another meaning in each.
fn differences(first: &ClassTable, other: &ClassTable) -> Option<String> {
    const MAX_LISTED: usize = 6;
    let name = |table: &ClassTable, class: usize| match table.names.get(class) {
        Some(name) => format!("`{}`", text::excerpt(name)),
        None => "missing".to_owned(),
    };
    let classes = 0..first.len().max(other.len());
    let by_name =
        classes.filter(|&class| first.names.get(class) != other.names.get(class)).map(|class| {
            format!("class {class} is {} instead of {}", name(other, class), name(first, class))
        });
    let of_color =
        |table: &ClassTable, color: &[u8; 3]| table.colors.iter().position(|c| c == color);
    let by_color = first.colors.iter().enumerate().filter_map(|(class, color)| {
        let also = of_color(other, color)?;
        let is_first = of_color(first, color) == Some(class);
        let [r, g, b] = color;
        (is_first && also != class).then(|| {
            format!("color {r} {g} {b} is {} instead of {}", name(other, also), name(first, class))
        })
    });
    let mut all: Vec<String> = by_name.collect();
    if all.is_empty() {
        all.extend(by_color);
    }
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    (!all.is_empty()).then(|| all.join(", "))
}

/// Data of a run: the loader of the training images, and the validation images.
pub(super) struct DataFeed {
    pub loader: Loader,
    pub validation: Vec<Pair>,
    pub table: ClassTable,
    /// Number of different training images.
    pub images: usize,
}

impl DataFeed {
    /// Starts loading for the step after `step`. Refuses data whose classes differ from those of
    /// the network in training.
    ///
    /// # Errors
    /// Returns an error if the classes differ, or if the loader cannot be started.
    pub fn new(
        data: TrainingData,
        recipe: &Recipe,
        trainer: &Trainer,
        step: u64,
        context: RunContext,
    ) -> Result<Self> {
        let TrainingData { training, validation, table, images, .. } = data;
        let config = trainer.config();
        let classes = config.classes().unwrap_or(0);
        let names = config.head.as_ref().map_or(&[][..], |head| &head.class_names);
        if table.len() != classes || (!names.is_empty() && names != table.names) {
            return Err(error!(
                Data,
                "the data set has the classes {}, but the network is trained on {}",
                table.names.join(", "),
                names.join(", ")
            )
            .advice("restore the classes of the data set, or start a new run with `--init` and the weights of this one"));
        }
        let options = LoaderOptions {
            batch: recipe.batch,
            workers: context.workers,
            seed: recipe.seed.into(),
            start: step * u64::from(recipe.accumulate),
            ignore: recipe.loss.ignore,
            ..LoaderOptions::default()
        };
        let (preprocess, augmentation) = (config.preprocess, recipe.augmentation.clone());
        let loader =
            Loader::new(training, Some(table.clone()), classes, preprocess, augmentation, options)?;
        Ok(Self { loader, validation, table, images })
    }
}

/// Gives 255 the same meaning in both splits: one may have no foreground at all.
fn same_meaning(training: Listing, validation: Listing) -> Result<(Listing, Listing)> {
    let name = |listing: &Listing| listing.split.clone().unwrap_or_default();
    match (training.is_binary(), validation.is_binary()) {
        (true, false) => {
            let validation = validation.with_meaning_of_other_split(&name(&training))?;
            Ok((training, validation))
        }
        (false, true) => {
            Ok((training.with_meaning_of_other_split(&name(&validation))?, validation))
        }
        _ => Ok((training, validation)),
    }
}
