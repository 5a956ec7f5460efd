//! A training from its first step to its last, with everything that is kept of it in one folder.

use super::checkpoint::{self, Checkpoint, Progress};
use super::clock::Clock;
use super::folder::{Folder, Origin};
use super::init::Beginning;
use super::recipe::Recipe;
use super::trainer::{Outcome, Pictures, Trainer};
use super::{Need, data};
use crate::data::{Batch, Loader, LoaderOptions, Pair};
use crate::error::{Result, error};
use crate::eval::{Scores, evaluate};
use crate::exec::Device;
use crate::image::{ClassTable, SizeRule};
use crate::report::html::{ReportData, Sample};
use crate::report::{self, EndRecord, EvaluationRecord, Record, RunLog, StartRecord, StepRecord};
use crate::segmenter::{Model, Segmenter};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Steps that are told together.
pub(super) const TOLD: u64 = 10;
/// Validation pictures that the report shows.
const SHOWN: usize = 6;

/// What a run says about itself as it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was made: its number from 1, the loss of late, the rate, pictures per second.
    Step {
        /// Steps done.
        step: u64,
        /// Mean of the last steps' losses.
        loss: f64,
        /// Learning rate.
        rate: f64,
        /// Pictures trained on per second.
        pictures_per_second: f64,
        /// Share of the time in which the device waited for pictures.
        idle: f64,
    },
    /// A validation picture was scored: its number from 1.
    Scored {
        /// Pictures scored.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// All were.
    Evaluated(&'a EvaluationRecord),
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: u64,
    },
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All the steps are made.
    Finished,
    /// It was asked to stop; it can be resumed.
    Stopped,
}

/// A training in its folder.
pub struct Run {
    folder: Folder,
    recipe: Recipe,
    trainer: Trainer,
    loader: Loader,
    validation: Vec<Pair>,
    table: ClassTable,
    log: RunLog,
    progress: Progress,
    clock: Clock,
    scores: Option<Scores>,
    samples: Vec<Sample>,
    /// Losses of the last steps.
    losses: VecDeque<f64>,
}

/// What a run needs to know beside its recipe.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where the training runs.
    pub device: &'a Device,
    /// Threads that make batches; 0 lets the loader choose.
    pub workers: usize,
    /// The command line, for the records.
    pub command: &'a str,
}

impl Run {
    /// Begins a run in a folder, which is made where there is none, and writes what it begins with.
    ///
    /// # Errors
    /// Where the folder holds a run already, or anything does not fit together.
    pub fn begin(dir: &Path, recipe: Recipe, origin: Origin, beginning: &Beginning, setting: Setting) -> Result<Self> {
        Folder::vacant(dir)?;
        // What does not fit together is found before anything is written.
        let trainer = Trainer::new(setting.device, &beginning.config, &beginning.weights, recipe.options()?)?;
        let folder = Folder::begin(dir, &recipe, &origin)?;
        checkpoint::write(&folder.checkpoint(), &trainer, &Progress::default())?;
        Self::new(folder, recipe, origin, trainer, Progress::default(), setting)
    }

    /// Goes on with the run of a folder from its last checkpoint.
    ///
    /// # Errors
    /// Where the folder holds no run, or the data is not there any more.
    pub fn resume(dir: &Path, setting: Setting) -> Result<Self> {
        let (folder, recipe, origin) = Folder::open(dir)?;
        let found = Checkpoint::read(&folder.checkpoint())?;
        let mut trainer = Trainer::new(setting.device, &found.config, found.weights(), recipe.options()?)?;
        found.restore(&mut trainer)?;
        Self::new(folder, recipe, origin, trainer, found.progress, setting)
    }

    fn new(
        folder: Folder,
        recipe: Recipe,
        origin: Origin,
        trainer: Trainer,
        progress: Progress,
        setting: Setting,
    ) -> Result<Self> {
        let data::Sets { training, validation, table } = data::Sets::open(&origin, &recipe)?;
        let config = trainer.config();
        let options = LoaderOptions {
            batch: recipe.batch,
            workers: setting.workers,
            seed: recipe.seed.into(),
            start: progress.step * u64::from(recipe.accumulate),
            ignore: recipe.loss.ignore,
            ..LoaderOptions::default()
        };
        let (how, augmentation) = (config.preprocess, recipe.augmentation.clone());
        let loader = Loader::new(training, Some(table.clone()), table.len(), how, augmentation, options)?;
        let mut log = RunLog::open(folder.path(), Some(progress.step))?;
        log.write(&Record::Start(StartRecord {
            step: progress.step,
            time: now(),
            command: setting.command.to_owned(),
            device: setting.device.to_string(),
            network: format!("DeepLab on {}, output stride {}", config.backbone.title(), config.output_stride),
            classes: table.names.clone(),
            config: serde_json::to_value(&recipe).unwrap_or_default(),
        }))?;
        let clock = Clock::new(progress.seconds);
        let (scores, samples, losses) = (None, Vec::new(), VecDeque::new());
        Ok(Self { folder, recipe, trainer, loader, validation, table, log, progress, clock, scores, samples, losses })
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

    /// The network in training.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Memory that the training takes.
    ///
    /// # Errors
    /// Never for a run that could begin.
    pub fn need(&self) -> Result<Need> {
        Trainer::need(self.trainer.config(), self.trainer.options())
    }

    /// Makes the steps that are left. `stop` asks for an end after the step in work, which a checkpoint is then written after.
    ///
    /// # Errors
    /// Where a picture cannot be read, the device fails, a file cannot be written, or the training diverges. The last checkpoint stays.
    pub fn go(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<Ending> {
        let ending = self.steps(stop, tell);
        let reason = match &ending {
            Ok(Ending::Finished) => "finished".to_owned(),
            Ok(Ending::Stopped) => "stopped by the user".to_owned(),
            Err(e) => e.to_string(),
        };
        let (step, seconds) = (self.progress.step, self.clock.seconds());
        let ended = self.log.write(&Record::End(EndRecord { step, time: now(), seconds, reason })).and_then(|()| self.report());
        // What went wrong first is what counts.
        ending.and_then(|ending| ended.map(|()| ending))
    }

    fn steps(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<Ending> {
        let last = u64::from(self.recipe.steps);
        while self.progress.step < last {
            let outcome = self.one()?;
            self.progress.step += 1;
            let step = self.progress.step;
            self.tell(&outcome, tell)?;
            let due = |every: u32| step == last || step.is_multiple_of(every.into());
            let stopping = stop.load(Ordering::Relaxed);
            if due(self.recipe.evaluate_every) {
                self.evaluate(tell)?;
                self.report()?;
            }
            if stopping || due(self.recipe.evaluate_every) || due(self.recipe.checkpoint_every) {
                self.save()?;
                tell(Event::Saved { step });
            }
            if stopping && step < last {
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Finished)
    }

    /// Makes one step.
    fn one(&mut self) -> Result<Outcome> {
        let waited = self.loader.waited();
        let batches: Vec<Batch> = (0..self.recipe.accumulate).map(|_| self.loader.next()).collect::<Result<_>>()?;
        self.clock.wait(self.loader.waited() - waited);
        let given: Vec<Pictures> = batches.iter().map(|b| Pictures { pictures: &b.pictures, labels: &b.labels }).collect();
        self.trainer.step(&given).map_err(|e| {
            let names: Vec<&str> = batches.iter().flat_map(|b| &b.names).map(String::as_str).collect();
            e.at(format!("pictures {}", names.join(", ")))
        })
    }

    fn tell(&mut self, outcome: &Outcome, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let step = self.progress.step;
        self.losses.push_back(outcome.loss);
        if self.losses.len() > TOLD as usize {
            self.losses.pop_front();
        }
        let loss = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
        let pictures = self.recipe.batch as u64 * u64::from(self.recipe.accumulate);
        let (pictures_per_second, idle) = self.clock.step(pictures);
        tell(Event::Step { step, loss, rate: outcome.rate, pictures_per_second, idle });
        if !step.is_multiple_of(TOLD) && step != u64::from(self.recipe.steps) {
            return Ok(());
        }
        let epoch = (step * u64::from(self.recipe.accumulate)) as f64 / self.loader.batches_per_epoch();
        self.log.write(&Record::Step(StepRecord {
            step,
            epoch,
            loss,
            rate: outcome.rate,
            gradient_norm: Some(outcome.gradient_norm),
            pictures_per_second,
            idle,
            seconds: self.clock.seconds(),
        }))
    }

    /// Scores the network as it is now, as `atrous eval` does with the weights that are written.
    fn evaluate(&mut self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let pause = Instant::now();
        let (config, weights) = (self.trainer.config().clone(), self.trainer.weights()?);
        let model = Model { config, weights, dialect: "atrous", path: self.folder.last() };
        let segmenter = Segmenter::on(model, self.trainer.device())?;
        let of = self.validation.len();
        let every = of.div_ceil(SHOWN).max(1);
        let mut samples = Vec::new();
        let mut predict = |picture: &_| Ok(segmenter.segment(picture, SizeRule::Native)?.labels);
        let confusion = evaluate(&mut predict, &self.validation, &self.table, &mut |scored| {
            tell(Event::Scored { done: scored.index + 1, of });
            if scored.index % every == 0 {
                let (name, picture) = (scored.pair.name.clone(), scored.picture.clone());
                samples.push(Sample { name, picture, truth: scored.truth.clone(), prediction: scored.prediction.clone() });
            }
            Ok(())
        })?;
        let (scores, step) = (confusion.scores(&self.table), self.progress.step);
        let miou = scores.mean_iou.unwrap_or(0.0);
        let best = self.progress.best.is_none_or(|(most, _)| miou > most);
        if best {
            self.progress.best = Some((miou, step));
            let model = segmenter.model();
            checkpoint::write_weights(&self.folder.best(), &model.config, &model.weights)?;
        }
        let record = EvaluationRecord::new(step, pause.elapsed().as_secs_f64(), &scores, best);
        tell(Event::Evaluated(&record));
        self.log.write(&Record::Evaluation(record))?;
        (self.scores, self.samples) = (Some(scores), samples);
        self.clock.pause(pause.elapsed());
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let pause = Instant::now();
        self.progress.seconds = self.clock.seconds();
        checkpoint::write_weights(&self.folder.last(), self.trainer.config(), &self.trainer.weights()?)?;
        checkpoint::write(&self.folder.checkpoint(), &self.trainer, &self.progress)?;
        self.clock.pause(pause.elapsed());
        Ok(())
    }

    fn report(&self) -> Result<()> {
        let (scores, samples) = (self.scores.clone(), self.samples.clone());
        let data = ReportData { records: report::read(self.folder.path())?, table: self.table.clone(), scores, samples };
        report::html::write(&self.folder.report(), &data)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// What [`Run::begin`] needs to build a network: the table of the data's classes.
///
/// # Errors
/// Where the data has no classes, and none are given.
pub fn class_table(origin: &Origin, recipe: &Recipe) -> Result<ClassTable> {
    let table = data::Sets::open(origin, recipe)?.table;
    match table.is_empty() {
        true => Err(error!(Data, "has no classes").file(&origin.data)),
        false => Ok(table),
    }
}
