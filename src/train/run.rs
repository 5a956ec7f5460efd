//! A training from its first step to its last, with everything that is kept of it in one folder.

use super::Need;
use super::checkpoint::{self, Checkpoint, Progress};
use super::clock::Clock;
use super::data::{Fed, Sets};
use super::event::{Ending, Event};
use super::folder::{Folder, Origin};
use super::init::Beginning;
use super::recipe::Recipe;
use super::scoring;
use super::trainer::{Outcome, Pictures, Trainer};
use crate::data::{Batch, Loader, Pair};
use crate::error::Result;
use crate::eval::{Confusion, Scores, count, ignored};
use crate::exec::Device;
use crate::image::{ClassTable, SizeRule};
use crate::report::html::{ReportData, Sample};
use crate::report::{self, EndRecord, EvaluationRecord, Record, Resumed, RunLog, StartRecord, StepRecord};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Steps that are told together.
pub(super) const TOLD: u64 = 10;
/// Validation pictures that the report shows.
const SHOWN: usize = 6;

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
    /// Begins a run in a folder, which is made where there is none, and writes what it begins with. `sets` are those of `origin`.
    ///
    /// # Errors
    /// Where the folder holds a run already, or anything does not fit together: the largest validation picture is segmented once, so that
    /// what cannot be scored is refused before the first step.
    pub fn begin(
        dir: &Path,
        recipe: Recipe,
        origin: Origin,
        sets: Sets,
        beginning: &Beginning,
        setting: Setting,
    ) -> Result<Self> {
        Folder::vacant(dir)?;
        // What does not fit together is found before anything is written.
        let trainer = Trainer::new(setting.device, &beginning.config, &beginning.weights, recipe.options()?)?;
        let progress = Progress { pictures: Some(sets.training.len()), ..Progress::default() };
        let fed = Fed::new(sets, &recipe, &trainer, 0, setting)?;
        scoring::rehearse(&trainer, &fed.validation, &fed.table, dir)?;
        let folder = Folder::begin(dir, &recipe, &origin)?;
        checkpoint::write(&folder.checkpoint(), &trainer, &progress)?;
        let log = RunLog::open(folder.path(), None)?;
        Self::new(folder, recipe, trainer, fed, log, progress, setting)
    }

    /// Goes on with the run of a folder from its last checkpoint.
    ///
    /// # Errors
    /// Where the folder holds no run, or the data is not there any more or has other classes.
    pub fn resume(dir: &Path, setting: Setting) -> Result<Self> {
        let (folder, recipe, origin) = Folder::open(dir)?;
        let found = Checkpoint::read(&folder.checkpoint())?;
        let mut trainer = Trainer::new(setting.device, &found.config, found.weights(), recipe.options()?)?;
        found.restore(&mut trainer)?;
        let progress = found.progress;
        let sets = Sets::open(&origin, &recipe)?;
        let now = sets.training.len();
        if let Some(then) = progress.pictures.filter(|&then| then != now) {
            log::warn!("the data has {now} pictures to train on, and had {then}: their order is another from here on");
        }
        let fed = Fed::new(sets, &recipe, &trainer, progress.step, setting)?;
        scoring::rehearse(&trainer, &fed.validation, &fed.table, dir)?;
        let resumed = Resumed { step: progress.step, evaluation_due: progress.evaluation_due };
        let log = RunLog::open(folder.path(), Some(resumed))?;
        Self::new(folder, recipe, trainer, fed, log, progress, setting)
    }

    fn new(
        folder: Folder,
        recipe: Recipe,
        trainer: Trainer,
        fed: Fed,
        mut log: RunLog,
        progress: Progress,
        setting: Setting,
    ) -> Result<Self> {
        let config = trainer.config();
        log.write(&Record::Start(StartRecord {
            step: progress.step,
            time: now(),
            command: setting.command.to_owned(),
            device: setting.device.to_string(),
            network: format!("DeepLab on {}, output stride {}", config.backbone.title(), config.output_stride),
            classes: fed.table.names.clone(),
            config: serde_json::to_value(&recipe).unwrap_or_default(),
        }))?;
        let clock = Clock::new(progress.seconds);
        let Fed { loader, validation, table } = fed;
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
        Trainer::need(self.trainer.device(), self.trainer.config(), self.trainer.options())
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
        let ended = self.log.write(&Record::End(EndRecord { step, time: now(), seconds, reason })).and_then(|()| {
            // Scores and pictures are of this process: a page that an earlier one left has more to show than one without them.
            if self.scores.is_some() || !self.folder.report().exists() { self.report() } else { Ok(()) }
        });
        // What went wrong first is what counts.
        ending.and_then(|ending| ended.map(|()| ending))
    }

    fn steps(&mut self, stop: &AtomicBool, tell: &mut dyn FnMut(Event)) -> Result<Ending> {
        let last = u64::from(self.recipe.steps);
        if self.progress.evaluation_due {
            self.score(tell)?;
        }
        while self.progress.step < last {
            let outcome = self.one()?;
            self.progress.step += 1;
            let step = self.progress.step;
            self.tell(&outcome, tell)?;
            let due = |every: u32| step == last || step.is_multiple_of(every.into());
            let stopping = stop.load(Ordering::Relaxed);
            self.progress.evaluation_due = due(self.recipe.evaluate_every);
            if stopping || self.progress.evaluation_due || due(self.recipe.checkpoint_every) {
                self.save(tell)?;
            }
            if stopping && step < last {
                return Ok(Ending::Stopped);
            }
            if self.progress.evaluation_due {
                self.score(tell)?;
            }
        }
        Ok(Ending::Finished)
    }

    /// Scores the network, and notes in a checkpoint that this is done.
    fn score(&mut self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        self.evaluate(tell)?;
        self.report()?;
        self.progress.evaluation_due = false;
        self.save(tell)
    }

    /// Makes one step.
    fn one(&mut self) -> Result<Outcome> {
        let waited = self.loader.waited();
        let batches: Vec<Batch> = (0..self.recipe.accumulate).map(|_| self.loader.next()).collect::<Result<_>>()?;
        self.clock.wait(self.loader.waited() - waited);
        let given = batches.iter().map(|b| Pictures { pictures: &b.pictures, labels: &b.labels, names: &b.names });
        self.trainer.step(&given.collect::<Vec<_>>())
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
        let segmenter = scoring::segmenter(&self.trainer, self.folder.last())?;
        let of = self.validation.len();
        let every = of.div_ceil(SHOWN).max(1);
        let mut samples = Vec::new();
        let mut predict = |picture: &_| Ok(segmenter.segment(picture, SizeRule::Native)?.labels);
        // Labels that are no class have no part in training either.
        let empty = Confusion::new(self.table.len(), &ignored(&self.table))?.lenient();
        let confusion = count(empty, &mut predict, &self.validation, &self.table, &mut |scored| {
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

    fn save(&mut self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let pause = Instant::now();
        self.progress.seconds = self.clock.seconds();
        checkpoint::write_weights(&self.folder.last(), self.trainer.config(), &self.trainer.weights()?)?;
        checkpoint::write(&self.folder.checkpoint(), &self.trainer, &self.progress)?;
        self.clock.pause(pause.elapsed());
        tell(Event::Saved { step: self.progress.step });
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
