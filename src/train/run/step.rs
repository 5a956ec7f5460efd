//! A step of a run: its batches, one held at a time, and its records.

use super::super::event::Event;
use super::super::trainer::{Feed, Images, StepOutcome};
use super::{Run, TOLD};
use crate::data::{Batch, Loader};
use crate::error::{Result, error};
use crate::report::{Record, StepRecord};
use std::sync::atomic::AtomicBool;

/// The batches of a step, from the loader.
struct Stream<'l> {
    loader: &'l mut Loader,
    stop: &'l AtomicBool,
    /// Number of the step's first batch.
    first: u64,
    /// Batches of this step that were handed out.
    given: u64,
    held: Option<Batch>,
    /// Whether a pixel with this label counts in the loss.
    counts: &'l dyn Fn(u32) -> bool,
    /// Whether any pixel of the step counts.
    counted: bool,
    /// The images of the first batch without a pixel that counts.
    empty: Option<Vec<String>>,
}

impl Stream<'_> {
    /// The batch with a number; `None` where it was stopped while the batch was waited for.
    fn fetch(&mut self, index: u64) -> Result<Option<Batch>> {
        // A step that was given up, or ended by an error, has taken batches that the loader does
        // not give again.
        if self.loader.position() > index {
            self.loader.again(index).map(Some)
        } else {
            self.loader.next_unless(self.stop)
        }
    }
}

fn images(batch: &Batch) -> Images<'_> {
    Images { images: &batch.images, labels: &batch.labels, names: &batch.names }
}

impl Feed for Stream<'_> {
    fn next(&mut self) -> Result<Option<Images<'_>>> {
        // Gone before the next one comes: they are large.
        self.held = None;
        self.held = self.fetch(self.first + self.given)?;
        self.given += 1;
        let Some(batch) = &self.held else { return Ok(None) };
        // Ends at the first such pixel, which is all but always the first pixel.
        if batch.labels.u32().iter().any(|&label| (self.counts)(label)) {
            self.counted = true;
        } else if self.empty.is_none() {
            self.empty = Some(batch.names.clone());
        }
        Ok(Some(images(batch)))
    }

    fn again(&mut self, i: usize) -> Result<Images<'_>> {
        let index = self.first + i as u64;
        let batch = match self.held.take().filter(|held| held.index == index) {
            Some(held) => held,
            None => self.loader.again(index)?,
        };
        Ok(images(self.held.insert(batch)))
    }
}

impl Run {
    /// Makes one step. `None` where it was stopped while a batch was waited for: then no step was
    /// made.
    pub(super) fn one(&mut self, stop: &AtomicBool) -> Result<Option<StepOutcome>> {
        let waited = self.loader.waited();
        let (ignore, classes) = (self.recipe.loss.ignore, self.table.len());
        let weights = self.recipe.data.class_weights.clone();
        let weight = |label: u32| {
            weights.as_ref().and_then(|w| w.get(label as usize)).is_none_or(|&w| w > 0.0)
        };
        let counts = |label: u32| label != ignore && (label as usize) < classes && weight(label);
        let first = self.progress.step * u64::from(self.recipe.accumulate);
        let loader = &mut self.loader;
        let mut stream = Stream {
            loader,
            stop,
            first,
            given: 0,
            held: None,
            counts: &counts,
            counted: false,
            empty: None,
        };
        let outcome = self.trainer.step_from(&mut stream)?;
        let (counted, empty) = (stream.counted, stream.empty);
        if outcome.is_some() {
            self.clock.wait(self.loader.waited() - waited);
            self.progress.counted |= counted;
        }
        if let Some(names) = empty.filter(|_| !self.said_empty) {
            self.said_empty = true;
            let step = self.progress.step + 1;
            self.note(format!(
                "step {step}: no pixel of a batch counts in the loss, since each is ignored or of no class (images {}); \
                 `atrous doctor` checks a data set's masks",
                shortened(&names)
            ))?;
        }
        Ok(outcome)
    }

    /// Errors after the first epoch, or the whole run where that is shorter, where no pixel has
    /// counted: nothing can be learned from such data.
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
            "no pixel of the {batches} batches so far counts in the loss: each is ignored ({}), or none of the {} classes{weights}",
            self.recipe.loss.ignore,
            self.table.len()
        )
        .advice("check the masks by `atrous doctor`, and the classes by `--class-table`"))
    }

    pub(super) fn tell(
        &mut self,
        outcome: &StepOutcome,
        tell: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let step = self.progress.step;
        let losses = &mut self.progress.losses;
        losses.push_back(outcome.loss);
        while losses.len() > TOLD as usize {
            losses.pop_front();
        }
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        let images = self.recipe.batch as u64 * u64::from(self.recipe.accumulate);
        let (images_per_second, idle) = self.clock.step(images);
        tell(Event::Step { step, loss, rate: outcome.rate, images_per_second, idle });
        if !step.is_multiple_of(TOLD) && step != u64::from(self.recipe.steps) {
            return Ok(());
        }
        let epoch =
            (step * u64::from(self.recipe.accumulate)) as f64 / self.loader.batches_per_epoch();
        self.log.write(&Record::Step(StepRecord {
            step,
            epoch,
            loss,
            rate: outcome.rate,
            gradient_norm: Some(outcome.gradient_norm),
            images_per_second,
            idle,
            seconds: self.clock.seconds(),
        }))
    }
}

/// A list of names, of which a long one is cut.
fn shortened(names: &[String]) -> String {
    const MOST: usize = 8;
    match names.len().checked_sub(MOST) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..MOST].join(", ")),
    }
}
