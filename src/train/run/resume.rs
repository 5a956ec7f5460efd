//! Resuming a run from its last checkpoint.

use super::super::changes::Changes;
use super::super::checkpoint::{Checkpoint, RunProgress};
use super::super::context::RunContext;
use super::super::data::{DataFeed, TrainingData};
use super::super::directory::RunDirectory;
use super::super::length::RunLength;
use super::super::trainer::Trainer;
use super::super::validation;
use super::{Run, resolve};
use crate::error::Result;
use crate::report::{Resumed, RunLog};

impl Run {
    /// Resumes the run of a directory from its last checkpoint. Differences from how the run was
    /// started (recipe, device, number of images) are reported and recorded.
    ///
    /// # Errors
    /// Returns an error if the data is missing or has other classes, or the recipe does not fit the
    /// checkpoint.
    pub fn resume(directory: RunDirectory, context: RunContext) -> Result<Self> {
        Self::resume_to(directory, None, context)
    }

    /// As [`Run::resume`], with a new total length of the run, which its recipe states from then on.
    /// The learning rate follows the schedule of a run of that length from the next step on; the
    /// count of early stopping starts anew.
    ///
    /// # Errors
    /// As [`Run::resume`], or if the run has completed that length.
    pub fn resume_to(
        directory: RunDirectory,
        length: Option<RunLength>,
        context: RunContext,
    ) -> Result<Self> {
        let (mut recipe, origin) = directory.read()?;
        let checkpoint = Checkpoint::read(&directory.checkpoint())?;
        let mut data = TrainingData::open(&origin, &recipe)?;
        let mut notes = resolve(&mut recipe, &mut data, context)?;
        notes.extend(Changes::new(&checkpoint.progress, &recipe, context).notes());
        let (done, images) = (checkpoint.progress.step, data.training.len());
        if let Some(length) = length {
            notes.push(recipe.extend(length, images, done)?);
        }
        let mut trainer = Trainer::new(
            context.device,
            &checkpoint.config,
            checkpoint.weights(),
            recipe.options()?,
        )?;
        checkpoint.restore(&mut trainer)?;
        context.check()?;
        let mut progress = checkpoint.progress;
        if length.is_some() {
            progress.evaluations_since_best = 0;
        }
        notes.extend(missing(&directory, &mut progress, images));
        progress.recipe = Some(recipe.to_json());
        progress.device = Some(context.device_name());
        progress.images = Some(images);
        let feed = DataFeed::new(data, &recipe, &trainer, done, context)?;
        validation::dry_run(&trainer, &feed.validation, &feed.table, directory.path(), context)?;
        context.check()?;
        directory.sweep()?;
        if length.is_some() {
            directory.write_recipe(&recipe)?;
        }
        let resumed = Resumed { step: done, evaluation_due: progress.evaluation_due };
        let log = RunLog::open(directory.path(), Some(resumed))?;
        let mut run = Self::new(directory, recipe, trainer, feed, log, progress, context)?;
        for note in notes {
            run.note(note)?;
        }
        Ok(run)
    }
}

/// Notes about images and files that are no longer what they were.
fn missing(directory: &RunDirectory, progress: &mut RunProgress, now: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(then) = progress.images.filter(|&then| then != now) {
        notes.push(format!("the data set now has {now} training images instead of {then}: their order changes from here on"));
    }
    if progress.best.is_some() && !directory.best().exists() {
        notes.push(
            "best.safetensors is missing: the next evaluation writes it again, whatever its score"
                .to_owned(),
        );
        progress.best = None;
    }
    notes
}
