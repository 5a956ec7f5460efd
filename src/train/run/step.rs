//! A step of a run: streams its batches, one at a time, and writes its record.

use super::super::event::{Event, LOG_INTERVAL};
use super::super::trainer::StepOutcome;
use super::Run;
use super::batches::LoaderBatches;
use crate::error::{Result, error};
use crate::report::{Record, StepRecord};
use std::sync::atomic::AtomicBool;

impl Run {
    /// Trains one step. Returns `None` if stopped while waiting for a batch; nothing has changed
    /// then.
    pub(super) fn train_step(&mut self, stop: &AtomicBool) -> Result<Option<StepOutcome>> {
        let waited = self.loader.waited();
        let (ignore, classes) = (self.recipe.loss.ignore, self.table.len());
        let weights = self.trainer.options().class_weights.clone();
        let has_weight = |label: u32| {
            weights.as_ref().and_then(|w| w.get(label as usize)).is_none_or(|&w| w > 0.0)
        };
        let counts =
            |label: u32| label != ignore && (label as usize) < classes && has_weight(label);
        let first = self.progress.step * u64::from(self.recipe.accumulate);
        let mut batches = LoaderBatches::new(&mut self.loader, stop, first, &counts);
        let outcome = self.trainer.step_from(&mut batches)?;
        let LoaderBatches { counted, empty, first_empty, .. } = batches;
        if outcome.is_some() {
            self.clock.wait(self.loader.waited() - waited);
            self.progress.counted |= counted;
            self.progress.empty_batches += empty;
        }
        if let Some(names) = first_empty.filter(|_| !self.warned_empty) {
            self.warned_empty = true;
            let step = self.progress.step + 1;
            self.note(format!(
                "step {step}: no pixel of a batch counts in the loss: all are ignored or belong to no class (images {}); \
                 check the masks with `atrous doctor`",
                abbreviated(&names)
            ))?;
        }
        Ok(outcome)
    }

    /// Notes at the end of a run how many of its batches had no pixel that counts.
    pub(super) fn note_empty_batches(&mut self) -> Result<()> {
        let all = self.progress.step * u64::from(self.recipe.accumulate);
        match self.progress.empty_batches {
            0 => Ok(()),
            empty => self.note(format!(
                "no pixel counted in {empty} of {all} batches, which taught nothing"
            )),
        }
    }

    /// Returns an error if no pixel has counted in the first epoch, or in the whole run if that is
    /// shorter: nothing can be learned from such data.
    pub(super) fn check_counted(&self) -> Result<()> {
        let batches = self.progress.step * u64::from(self.recipe.accumulate);
        let over = batches as f64 >= self.loader.batches_per_epoch()
            || self.progress.step >= u64::from(self.recipe.steps);
        if self.progress.counted || !over {
            return Ok(());
        }
        let weights = if self.recipe.data.class_weights.is_some() {
            ", or of a class whose weight is 0"
        } else {
            ""
        };
        Err(error!(
            Data,
            "no pixel of the first {batches} batches counts in the loss: each is ignored ({}), or of none of the {} classes{weights}",
            self.recipe.loss.ignore,
            self.table.len()
        )
        .advice("check the masks with `atrous doctor`, and the classes with `--class-table`"))
    }

    /// Reports a step, and writes a record every [`LOG_INTERVAL`] steps and after the last.
    pub(super) fn record_step(
        &mut self,
        outcome: &StepOutcome,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let step = self.progress.step;
        let losses = &mut self.progress.losses;
        losses.push_back(outcome.loss);
        while losses.len() > LOG_INTERVAL as usize {
            losses.pop_front();
        }
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let images = self.recipe.batch as u64 * u64::from(self.recipe.accumulate);
        let (images_per_second, idle) = self.clock.step(images);
        let learning_rate = outcome.learning_rate;
        on_event(Event::Step { step, loss, learning_rate, images_per_second, idle });
        if !step.is_multiple_of(LOG_INTERVAL) && step != u64::from(self.recipe.steps) {
            return Ok(());
        }
        let epoch =
            (step * u64::from(self.recipe.accumulate)) as f64 / self.loader.batches_per_epoch();
        self.log.write(&Record::Step(StepRecord {
            step,
            epoch,
            loss,
            learning_rate,
            gradient_norm: Some(outcome.gradient_norm),
            images_per_second,
            idle,
            seconds: self.clock.seconds(),
        }))
    }
}

/// Joins names, and abbreviates a long list.
fn abbreviated(names: &[String]) -> String {
    const MAX_NAMES: usize = 8;
    match names.len().checked_sub(MAX_NAMES) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..MAX_NAMES].join(", ")),
    }
}
