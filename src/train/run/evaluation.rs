//! Scoring the network of a run, between two steps.

use super::super::event::Event;
use super::super::{checkpoint, scoring};
use super::Run;
use crate::error::Result;
use crate::eval::{Confusion, count_unless, ignored};
use crate::image::SizeRule;
use crate::report::html::Sample;
use crate::report::{EvaluationRecord, Record};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Validation images that the report shows.
const SHOWN: usize = 6;

impl Run {
    /// Scores the network as it is now, as `atrous eval` does with the weights that are written.
    /// `false` where it was stopped.
    pub(super) fn evaluate(
        &mut self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<bool> {
        let pause = Instant::now();
        let segmenter = scoring::segmenter(&self.trainer, self.directory.last())?;
        let of = self.validation.len();
        let every = of.div_ceil(SHOWN).max(1);
        let mut samples = Vec::new();
        let mut predict = |image: &_| Ok(segmenter.segment(image, SizeRule::Native)?.labels);
        // Labels that are no class have no part in training either.
        let empty = Confusion::new(self.table.len(), &ignored(&self.table))?.lenient();
        let confusion = count_unless(
            stop,
            empty,
            &mut predict,
            &self.validation,
            &self.table,
            &mut |scored| {
                tell(Event::Scored { done: scored.index + 1, of });
                if scored.index % every == 0 {
                    let (name, image) = (scored.pair.name.clone(), scored.image.clone());
                    samples.push(Sample {
                        name,
                        image,
                        truth: scored.truth.clone(),
                        prediction: scored.prediction.clone(),
                    });
                }
                Ok(())
            },
        )?;
        let Some(confusion) = confusion else { return Ok(false) };
        let (scores, step) = (confusion.scores(&self.table), self.progress.step);
        // Where no pixel counts there is no score, and nothing that could be the best.
        let best =
            scores.mean_iou.filter(|&miou| self.progress.best.is_none_or(|(most, _)| miou > most));
        if let Some(miou) = best {
            self.progress.best = Some((miou, step));
            let model = segmenter.model();
            checkpoint::write_weights(&self.directory.best(), &model.config, &model.weights)?;
        }
        if confusion.pixels() == 0 {
            self.note(format!(
                "step {step}: no pixel of the {of} validation images counts, since each is ignored or of no class: there is no score; \
                 `atrous doctor` checks a data set's masks"
            ))?;
        }
        let record =
            EvaluationRecord::new(step, pause.elapsed().as_secs_f64(), &scores, best.is_some());
        tell(Event::Evaluated(&record));
        self.log.write(&Record::Evaluation(record))?;
        (self.scores, self.samples) = (Some(scores), samples);
        self.clock.pause(pause.elapsed());
        Ok(true)
    }
}
