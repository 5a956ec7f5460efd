//! A training run, from the first step to the last, with all its files in one directory.

pub(super) mod batches;
mod evaluation;
mod resume;
mod step;
mod validation_loss;

use super::changes::HARMLESS;
use super::checkpoint::{self, BestScore, RunProgress};
use super::clock::Clock;
use super::context::RunContext;
use super::data::{DataFeed, TrainingData};
use super::directory::{Origin, RunDirectory};
use super::event::{Ending, Event};
use super::init::InitialModel;
use super::memory_estimate::MemoryEstimate;
use super::recipe::Recipe;
use super::trainer::Trainer;
use super::validation;
use crate::data::{Loader, Pair};
use crate::error::Result;
use crate::eval::Scores;
use crate::image::ClassTable;
use crate::models::{CardScores, ModelCard};
use crate::report::html::{ReportData, Sample};
use crate::report::{self, EndRecord, NoteRecord, Record, RunLog, StartRecord};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A training run in its directory.
pub struct Run {
    recipe: Recipe,
    trainer: Trainer,
    loader: Loader,
    validation: Vec<Pair>,
    /// Number of different training images.
    images: usize,
    table: ClassTable,
    log: RunLog,
    progress: RunProgress,
    clock: Clock,
    scores: Option<Scores>,
    origin: Origin,
    samples: Vec<Sample>,
    /// Step of the last checkpoint.
    saved: u64,
    /// Whether the warning about a batch without labeled pixels was issued.
    warned_empty: bool,
    /// Dropped last: releases its lock after all files are written.
    directory: RunDirectory,
}

impl Run {
    /// Starts a run in a directory, and writes the first checkpoint. `data` is that of `origin`.
    ///
    /// # Errors
    /// Returns an error if the arguments contradict each other. The largest validation image is
    /// segmented once, so that data that cannot be evaluated is refused before the first step. The
    /// directory is then restored to its previous state.
    pub fn begin(
        mut directory: RunDirectory,
        mut recipe: Recipe,
        origin: Origin,
        mut data: TrainingData,
        initial: &InitialModel,
        context: RunContext,
    ) -> Result<Self> {
        directory.check_free()?;
        if let Some(note) = recipe.adjust_ignore_label(data.table.len()) {
            log::warn!("{note}");
        }
        recipe.network.record_separable(&initial.config);
        let notes = resolve(&mut recipe, &mut data, context)?;
        // Check everything before anything is written.
        let trainer =
            Trainer::new(context.device, &initial.config, &initial.weights, recipe.options()?)?;
        context.check()?;
        let progress = RunProgress {
            images: Some(data.training.len()),
            recipe: Some(recipe.to_json()),
            device: Some(context.device_name()),
            ..RunProgress::default()
        };
        let feed = DataFeed::new(data, &recipe, &trainer, 0, context)?;
        validation::dry_run(&trainer, &feed.validation, &feed.table, directory.path(), context)?;
        context.check()?;
        directory.write(&recipe, &origin)?;
        checkpoint::write(&directory.checkpoint(), &trainer, &progress)?;
        let log = RunLog::open(directory.path(), None)?;
        let mut run = Self::new(directory, recipe, trainer, feed, log, progress, context)?;
        notes.into_iter().try_for_each(|note| run.record(note))?;
        Ok(run)
    }

    fn new(
        mut directory: RunDirectory,
        recipe: Recipe,
        trainer: Trainer,
        feed: DataFeed,
        mut log: RunLog,
        progress: RunProgress,
        context: RunContext,
    ) -> Result<Self> {
        let (_, origin) = directory.read()?;
        let config = trainer.config();
        log.write(&Record::Start(StartRecord {
            step: progress.step,
            time: now(),
            command: context.command.to_owned(),
            device: context.device.to_string(),
            network: format!(
                "DeepLab on {}, output stride {}",
                config.backbone.title(),
                config.output_stride
            ),
            classes: feed.table.names.clone(),
            config: recipe.to_json(),
        }))?;
        directory.mark_started();
        Ok(Self {
            recipe,
            trainer,
            loader: feed.loader,
            validation: feed.validation,
            images: feed.images,
            table: feed.table,
            log,
            clock: Clock::new(progress.seconds),
            scores: None,
            origin,
            samples: Vec::new(),
            saved: progress.step,
            warned_empty: false,
            progress,
            directory,
        })
    }

    /// Returns what the weights of this step are, for their files.
    fn card(&self, scores: Option<&Scores>) -> ModelCard {
        let path = |path: &Path| path.display().to_string();
        let mut recipe = self.recipe.to_json();
        if let Some(fields) = recipe.as_object_mut() {
            // What does not affect the weights must not make their files differ.
            fields.retain(|name, _| !HARMLESS.contains(&name.as_str()));
        }
        ModelCard {
            data: self.origin.sources().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            images: Some(self.images),
            init: self.origin.init.as_deref().map(path),
            command: self.origin.command.clone(),
            license: self.recipe.data.license.clone(),
            step: self.progress.step,
            scores: scores.map(|scores| CardScores {
                images: self.validation.len(),
                mean_iou: scores.mean_iou,
                pixel_accuracy: scores.pixel_accuracy,
            }),
            recipe,
        }
    }

    /// Recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Number of completed steps.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Best mIoU so far, and its step.
    pub fn best(&self) -> Option<BestScore> {
        self.progress.best
    }

    /// Whether the network after the last step still has to be evaluated.
    pub fn evaluation_due(&self) -> bool {
        self.progress.evaluation_due
    }

    /// The trainer of the network.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Estimates the memory that the training takes.
    ///
    /// # Errors
    /// Does not fail for a run that was started.
    pub fn estimate_memory(&self) -> Result<MemoryEstimate> {
        Trainer::estimate_memory(
            &self.trainer.device(),
            self.trainer.config(),
            self.trainer.options(),
        )
    }

    /// Trains for the remaining steps. Setting `stop` ends the run: after the current step; after
    /// the image being scored (the evaluation is repeated when the run is resumed); or immediately
    /// while waiting for the next batch. A checkpoint is then up to date.
    ///
    /// # Errors
    /// Returns an error if an image cannot be read, the device fails, a file cannot be written, the
    /// training diverges, or no pixel of a whole epoch has a label that counts. The last checkpoint
    /// is kept.
    pub fn train(&mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(Event)) -> Result<Ending> {
        let ending = self.steps(stop, on_event);
        let reason = match &ending {
            Ok(Ending::Finished) => "finished".to_owned(),
            Ok(Ending::Stopped) => "stopped by the user".to_owned(),
            Ok(Ending::StoppedEarly) => format!(
                "stopped early: {} evaluations without a better mIoU",
                self.progress.evaluations_since_best
            ),
            Err(e) => e.to_string(),
        };
        let (step, seconds) = (self.progress.step, self.clock.seconds());
        let ended = self
            .log
            .write(&Record::End(EndRecord { step, time: now(), seconds, reason }))
            .and_then(|()| {
                // Scores and samples are those of this process: the report of an earlier one has
                // more to show than a new one without them.
                if self.scores.is_some() || !self.directory.report().exists() {
                    self.report()
                } else {
                    Ok(())
                }
            });
        // The first error takes precedence.
        ending.and_then(|ending| ended.map(|()| ending))
    }

    fn steps(&mut self, stop: &AtomicBool, on_event: &mut dyn FnMut(Event)) -> Result<Ending> {
        let last = u64::from(self.recipe.steps);
        if self.progress.evaluation_due && !self.evaluate_and_save(stop, on_event)? {
            return Ok(Ending::Stopped);
        }
        let before = self.progress.step;
        while self.progress.step < last && !self.stopped_early() {
            let outcome = if stop.load(Ordering::Relaxed) { None } else { self.train_step(stop)? };
            let Some(outcome) = outcome else {
                if self.saved != self.progress.step {
                    self.save(on_event)?;
                }
                return Ok(Ending::Stopped);
            };
            self.progress.step += 1;
            let step = self.progress.step;
            self.record_step(&outcome, on_event)?;
            self.check_counted()?;
            let due = |every: u32| step == last || step.is_multiple_of(every.into());
            self.progress.evaluation_due = due(self.recipe.evaluate_every);
            if stop.load(Ordering::Relaxed)
                || self.progress.evaluation_due
                || due(self.recipe.checkpoint_every)
            {
                self.save(on_event)?;
            }
            if self.progress.evaluation_due && !self.evaluate_and_save(stop, on_event)? {
                return Ok(Ending::Stopped);
            }
        }
        // Once: not again if a finished run is resumed.
        if self.progress.step > before {
            self.note_empty_batches()?;
        }
        Ok(if self.progress.step < last { Ending::StoppedEarly } else { Ending::Finished })
    }

    /// Evaluates the network, and records in a checkpoint that this is done. Returns `false` if
    /// stopped.
    fn evaluate_and_save(
        &mut self,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<bool> {
        if !self.evaluate(stop, on_event)? {
            return Ok(false);
        }
        self.report()?;
        self.progress.evaluation_due = false;
        self.save(on_event)?;
        Ok(true)
    }

    fn save(&mut self, on_event: &mut dyn FnMut(Event)) -> Result<()> {
        let pause = Instant::now();
        self.progress.seconds = self.clock.seconds();
        checkpoint::write_weights(
            &self.directory.last(),
            self.trainer.config(),
            &self.trainer.averaged_weights()?,
            // Scores are best's: a resumed run does not know those of earlier steps.
            &self.card(None),
        )?;
        checkpoint::write(&self.directory.checkpoint(), &self.trainer, &self.progress)?;
        self.saved = self.progress.step;
        self.clock.pause(pause.elapsed());
        on_event(Event::Saved { step: self.progress.step });
        Ok(())
    }

    /// Warns the user, and records the warning in the log.
    fn note(&mut self, text: String) -> Result<()> {
        log::warn!("{text}");
        self.record(text)
    }

    /// Records a note in the log.
    ///
    /// # Errors
    /// Returns an error if the log cannot be written.
    pub fn record(&mut self, text: String) -> Result<()> {
        self.log.write(&Record::Note(NoteRecord { step: self.progress.step, text }))
    }

    fn report(&self) -> Result<()> {
        let data = ReportData {
            records: report::read(self.directory.path())?,
            table: self.table.vivid(),
            scores: self.scores.clone(),
            samples: self.samples.clone(),
        };
        report::html::write(&self.directory.report(), &data)
    }
}

/// Completes a recipe and its data (see [`Recipe::resolve`]). Returns notes about it.
fn resolve(
    recipe: &mut Recipe,
    data: &mut TrainingData,
    context: RunContext,
) -> Result<Vec<String>> {
    let (mut of, mut with) = (recipe.clone(), data.clone());
    let notes;
    (*recipe, *data, notes) = context.wait_for(move || {
        let notes = of.resolve(&mut with, || {})?;
        Ok((of, with, notes))
    })?;
    Ok(notes)
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}
