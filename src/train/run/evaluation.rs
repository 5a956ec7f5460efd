//! Evaluation of the network between two steps of a run.

use super::super::event::Event;
use super::super::{checkpoint, validation};
use super::Run;
use super::validation_loss::ValidationLoss;
use crate::error::Result;
use crate::eval::{Confusion, Scores, evaluate_unless, ignored_labels};
use crate::report::html::Sample;
use crate::report::{EvaluationRecord, Record};
use crate::segmenter::Model;
use crate::train::BestScore;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Number of validation images in the report.
const SHOWN: usize = 6;

impl Run {
    /// Evaluates the current network, as `atrous eval` would with the saved weights. Returns
    /// `false` if stopped.
    pub(super) fn evaluate(
        &mut self,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<bool> {
        let pause = Instant::now();
        let segmenter = validation::segmenter(&self.trainer, self.directory.last())?;
        let total = self.validation.len();
        let every = total.div_ceil(SHOWN).max(1);
        let mut samples = Vec::new();
        let mut loss = ValidationLoss::new(self.trainer.options(), self.table.len());
        let mut predict = |image: &_, truth: &_| {
            let (segmentation, of_image) = segmenter.segment_scored(image, loss.target(truth))?;
            loss.add(of_image, truth);
            Ok(segmentation.labels)
        };
        // Training also ignores labels that are not a class.
        let empty = Confusion::new(self.table.len(), &ignored_labels(&self.table))?.lenient();
        let confusion = evaluate_unless(
            stop,
            empty,
            &mut predict,
            &self.validation,
            &self.table,
            &mut |scored| {
                on_event(Event::Scored { done: scored.index + 1, total });
                if scored.index % every == 0 {
                    samples.push(Sample {
                        name: scored.pair.name.clone(),
                        image: scored.image.clone(),
                        truth: scored.truth.clone(),
                        prediction: scored.prediction.clone(),
                    });
                }
                Ok(())
            },
        )?;
        let Some(confusion) = confusion else { return Ok(false) };
        let (scores, step) = (confusion.scores(&self.table), self.progress.step);
        let is_best = self.keep_best(segmenter.model(), &scores)?;
        if confusion.pixels() == 0 {
            self.note(format!(
                "step {step}: no score: all pixels of the {total} validation images are ignored or belong to no class; \
                 check the masks with `atrous doctor`"
            ))?;
        }
        let seconds = pause.elapsed().as_secs_f64();
        let record = EvaluationRecord::new(step, seconds, &scores, is_best);
        let record = EvaluationRecord { loss: loss.mean(), ..record };
        on_event(Event::Evaluated(&record));
        self.log.write(&Record::Evaluation(record))?;
        self.log.write_samples(step, &samples, &self.table.vivid())?;
        (self.scores, self.samples) = (Some(scores), samples);
        self.clock.pause(pause.elapsed());
        Ok(true)
    }

    /// Writes the network to `best.safetensors` if its score is the best so far. Returns whether it
    /// is.
    fn keep_best(&mut self, model: &Model, scores: &Scores) -> Result<bool> {
        self.progress.evaluations_since_best += 1;
        // If no pixel counts, there is no score to compare.
        let best = scores
            .mean_iou
            .filter(|&miou| self.progress.best.is_none_or(|best| miou > best.mean_iou));
        let Some(mean_iou) = best else { return Ok(false) };
        self.progress.evaluations_since_best = 0;
        self.progress.best = Some(BestScore { mean_iou, step: self.progress.step });
        let card = self.card(Some(scores));
        let (config, weights) = (model.config()?, &model.weights);
        checkpoint::write_weights(&self.directory.best(), config, weights, &card)?;
        Ok(true)
    }

    /// Whether the run has ended because its last evaluations were no better than those before (see
    /// [`Recipe::early_stopping`](crate::train::Recipe::early_stopping)).
    pub fn stopped_early(&self) -> bool {
        let since = self.progress.evaluations_since_best;
        self.recipe.early_stopping.is_some_and(|count| since >= count)
    }

    /// Number of evaluations since the best one.
    pub fn evaluations_since_best(&self) -> u32 {
        self.progress.evaluations_since_best
    }
}
