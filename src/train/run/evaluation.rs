//! Evaluation of the network between two steps of a run.

use super::super::event::Event;
use super::super::{checkpoint, validation};
use super::Run;
use crate::error::Result;
use crate::eval::{Confusion, evaluate_unless, ignored_labels};
use crate::image::SizeRule;
use crate::report::html::Sample;
use crate::report::{EvaluationRecord, Record};
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
        let mut predict = |image: &_| Ok(segmenter.segment(image, SizeRule::Native)?.labels);
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
        // If no pixel counts, there is no score to compare.
        let best = scores
            .mean_iou
            .filter(|&miou| self.progress.best.is_none_or(|best| miou > best.mean_iou));
        if let Some(miou) = best {
            self.progress.best = Some(BestScore { mean_iou: miou, step });
            let model = segmenter.model();
            let card = self.card(Some(&scores));
            let (config, weights) = (model.config()?, &model.weights);
            checkpoint::write_weights(&self.directory.best(), config, weights, &card)?;
        }
        if confusion.pixels() == 0 {
            self.note(format!(
                "step {step}: no score: all pixels of the {total} validation images are ignored or belong to no class; \
                 check the masks with `atrous doctor`"
            ))?;
        }
        let record =
            EvaluationRecord::new(step, pause.elapsed().as_secs_f64(), &scores, best.is_some());
        on_event(Event::Evaluated(&record));
        self.log.write(&Record::Evaluation(record))?;
        (self.scores, self.samples) = (Some(scores), samples);
        self.clock.pause(pause.elapsed());
        Ok(true)
    }
}
