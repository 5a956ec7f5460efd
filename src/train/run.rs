//! A training from its first step to its last, with everything that is kept of it in one directory.

mod context;
mod evaluation;
mod step;

pub use context::RunContext;

use super::Need;
use super::changes::Changes;
use super::checkpoint::{self, Checkpoint, RunProgress};
use super::clock::Clock;
use super::data::{DataFeed, TrainingData};
use super::directory::{Origin, RunDirectory};
use super::event::{Ending, Event};
use super::init::InitialModel;
use super::recipe::Recipe;
use super::scoring;
use super::trainer::Trainer;
use crate::data::{Loader, Pair};
use crate::error::Result;
use crate::eval::Scores;
use crate::image::ClassTable;
use crate::report::html::{ReportData, Sample};
use crate::report::{self, EndRecord, NoteRecord, Record, Resumed, RunLog, StartRecord};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Steps that are told together.
pub(super) const TOLD: u64 = 10;

/// A training in its directory.
pub struct Run {
    recipe: Recipe,
    trainer: Trainer,
    loader: Loader,
    validation: Vec<Pair>,
    table: ClassTable,
    log: RunLog,
    progress: RunProgress,
    clock: Clock,
    scores: Option<Scores>,
    samples: Vec<Sample>,
    /// The step that the checkpoint is of.
    saved: u64,
    /// Whether it was said that no pixel of a batch counts.
    said_empty: bool,
    /// The last to be dropped: its lock is released when nothing is written any more.
    directory: RunDirectory,
}

impl Run {
    /// Begins a run in a directory, and writes what it begins with. `sets` are those of `origin`.
    ///
    /// # Errors
    /// Where anything does not fit together: the largest validation image is segmented once, so
    /// that what cannot be scored is refused before the first step. The directory is left as it was
    /// found then.
    pub fn begin(
        mut directory: RunDirectory,
        mut recipe: Recipe,
        origin: Origin,
        sets: TrainingData,
        beginning: &InitialModel,
        setting: RunContext,
    ) -> Result<Self> {
        directory.check_vacant()?;
        if let Some(moved) = recipe.ignore_none_of(sets.table.len()) {
            log::warn!("{moved}");
        }
        // What does not fit together is found before anything is written.
        let trainer =
            Trainer::new(setting.device, &beginning.config, &beginning.weights, recipe.options()?)?;
        setting.check()?;
        let progress = RunProgress {
            images: Some(sets.training.len()),
            recipe: Some(recipe.to_json()),
            device: Some(setting.device_name()),
            ..RunProgress::default()
        };
        let fed = DataFeed::new(sets, &recipe, &trainer, 0, setting)?;
        scoring::rehearse(&trainer, &fed.validation, &fed.table, directory.path(), setting)?;
        setting.check()?;
        directory.write(&recipe, &origin)?;
        checkpoint::write(&directory.checkpoint(), &trainer, &progress)?;
        let log = RunLog::open(directory.path(), None)?;
        Self::new(directory, recipe, trainer, fed, log, progress, setting, Vec::new())
    }

    /// Goes on with the run of a directory from its last checkpoint. What differs from how the run
    /// began (recipe, device, number of images) is said and recorded.
    ///
    /// # Errors
    /// Where the data is not there any more or has other classes, or the recipe does not fit the
    /// checkpoint.
    pub fn resume(directory: RunDirectory, setting: RunContext) -> Result<Self> {
        let (recipe, origin) = directory.read()?;
        let found = Checkpoint::read(&directory.checkpoint())?;
        let mut notes = Changes::new(&found.progress, &recipe, setting).notes();
        let mut trainer =
            Trainer::new(setting.device, &found.config, found.weights(), recipe.options()?)?;
        found.restore(&mut trainer)?;
        setting.check()?;
        let mut progress = found.progress;
        let sets = TrainingData::open(&origin, &recipe)?;
        let now = sets.training.len();
        if let Some(then) = progress.images.filter(|&then| then != now) {
            notes.push(format!("the data has {now} images to train on, and had {then}: their order is another from here on"));
        }
        if progress.best.is_some() && !directory.best().exists() {
            notes.push(
                "best.safetensors is gone: the next evaluation writes it anew, however good it is"
                    .to_owned(),
            );
            progress.best = None;
        }
        (progress.recipe, progress.device, progress.images) =
            (Some(recipe.to_json()), Some(setting.device_name()), Some(now));
        let fed = DataFeed::new(sets, &recipe, &trainer, progress.step, setting)?;
        scoring::rehearse(&trainer, &fed.validation, &fed.table, directory.path(), setting)?;
        setting.check()?;
        directory.sweep()?;
        let resumed = Resumed { step: progress.step, evaluation_due: progress.evaluation_due };
        let log = RunLog::open(directory.path(), Some(resumed))?;
        Self::new(directory, recipe, trainer, fed, log, progress, setting, notes)
    }

    fn new(
        mut directory: RunDirectory,
        recipe: Recipe,
        trainer: Trainer,
        fed: DataFeed,
        mut log: RunLog,
        progress: RunProgress,
        setting: RunContext,
        notes: Vec<String>,
    ) -> Result<Self> {
        let config = trainer.config();
        log.write(&Record::Start(StartRecord {
            step: progress.step,
            time: now(),
            command: setting.command.to_owned(),
            device: setting.device.to_string(),
            network: format!(
                "DeepLab on {}, output stride {}",
                config.backbone.title(),
                config.output_stride
            ),
            classes: fed.table.names.clone(),
            config: recipe.to_json(),
        }))?;
        directory.begin();
        let clock = Clock::new(progress.seconds);
        let DataFeed { loader, validation, table } = fed;
        let (scores, samples, saved, said_empty) = (None, Vec::new(), progress.step, false);
        let mut run = Self {
            recipe,
            trainer,
            loader,
            validation,
            table,
            log,
            progress,
            clock,
            scores,
            samples,
            saved,
            said_empty,
            directory,
        };
        notes.into_iter().try_for_each(|text| run.note(text))?;
        Ok(run)
    }

    /// How the run is set.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// The best mIoU so far, and after which step.
    pub fn best(&self) -> Option<(f64, u64)> {
        self.progress.best
    }

    /// Whether the network after the last step is still to be scored.
    pub fn evaluation_due(&self) -> bool {
        self.progress.evaluation_due
    }

    /// The network in training.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Memory that the training takes.
    ///
    /// # Errors
    /// Never for a run that could begin.
    pub fn need(&self) -> Result<Need> {
        Trainer::need(self.trainer.device(), self.trainer.config(), self.trainer.options())
    }

    /// Makes the steps that are left. `stop` asks for an end: after the step in work, or after the
    /// image that is being scored (the evaluation is made when the run is resumed), or at once
    /// where the next batch is waited for. A checkpoint holds everything then.
    ///
    /// # Errors
    /// Where an image cannot be read, the device fails, a file cannot be written, the training
    /// diverges, or no pixel of a whole epoch has a label that counts. The last checkpoint stays.
    pub fn go(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<Ending> {
        let ending = self.steps(stop, tell);
        let reason = match &ending {
            Ok(Ending::Finished) => "finished".to_owned(),
            Ok(Ending::Stopped) => "stopped by the user".to_owned(),
            Err(e) => e.to_string(),
        };
        let (step, seconds) = (self.progress.step, self.clock.seconds());
        let ended = self
            .log
            .write(&Record::End(EndRecord { step, time: now(), seconds, reason }))
            .and_then(|()| {
                // Scores and images are of this process: a page that an earlier one left has more
                // to show than one without them.
                if self.scores.is_some() || !self.directory.report().exists() {
                    self.report()
                } else {
                    Ok(())
                }
            });
        // What went wrong first is what counts.
        ending.and_then(|ending| ended.map(|()| ending))
    }

    fn steps(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<Ending> {
        let last = u64::from(self.recipe.steps);
        if self.progress.evaluation_due && !self.score(stop, tell)? {
            return Ok(Ending::Stopped);
        }
        while self.progress.step < last {
            let outcome = if stop.load(Ordering::Relaxed) { None } else { self.one(stop)? };
            let Some(outcome) = outcome else {
                if self.saved != self.progress.step {
                    self.save(tell)?;
                }
                return Ok(Ending::Stopped);
            };
            self.progress.step += 1;
            let step = self.progress.step;
            self.tell(&outcome, tell)?;
            self.check_counted()?;
            let due = |every: u32| step == last || step.is_multiple_of(every.into());
            self.progress.evaluation_due = due(self.recipe.evaluate_every);
            if stop.load(Ordering::Relaxed)
                || self.progress.evaluation_due
                || due(self.recipe.checkpoint_every)
            {
                self.save(tell)?;
            }
            if self.progress.evaluation_due && !self.score(stop, tell)? {
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Finished)
    }

    /// Scores the network, and notes in a checkpoint that this is done. `false` where it was
    /// stopped.
    fn score(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<bool> {
        if !self.evaluate(stop, tell)? {
            return Ok(false);
        }
        self.report()?;
        self.progress.evaluation_due = false;
        self.save(tell)?;
        Ok(true)
    }

    fn save(&mut self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let pause = Instant::now();
        self.progress.seconds = self.clock.seconds();
        checkpoint::write_weights(
            &self.directory.last(),
            self.trainer.config(),
            &self.trainer.weights()?,
        )?;
        checkpoint::write(&self.directory.checkpoint(), &self.trainer, &self.progress)?;
        self.saved = self.progress.step;
        self.clock.pause(pause.elapsed());
        tell(Event::Saved { step: self.progress.step });
        Ok(())
    }

    /// Says something that whoever looks at the run should know, and records it.
    fn note(&mut self, text: String) -> Result<()> {
        log::warn!("{text}");
        self.log.write(&Record::Note(NoteRecord { step: self.progress.step, text }))
    }

    fn report(&self) -> Result<()> {
        let (scores, samples) = (self.scores.clone(), self.samples.clone());
        let data = ReportData {
            records: report::read(self.directory.path())?,
            table: self.table.clone(),
            scores,
            samples,
        };
        report::html::write(&self.directory.report(), &data)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}
