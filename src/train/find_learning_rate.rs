//! Learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks",
//! section 3.3): some steps with a learning rate that rises exponentially, and what the loss does.

use super::context::RunContext;
use super::data::{DataFeed, TrainingData};
use super::init::InitialModel;
use super::recipe::Recipe;
use super::run::batches::LoaderBatches;
use super::trainer::Trainer;
use crate::error::{ErrorKind, Result, error};
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Weight of the previous mean in the smoothed loss: about the last ten steps.
const SMOOTHING: f64 = 0.9;
/// The test ends where the smoothed loss exceeds its minimum by this factor.
const DIVERGED: f64 = 4.0;
/// The suggested learning rate as a fraction of that with the lowest smoothed loss.
const FRACTION: f64 = 0.1;

/// Result of a learning-rate range test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearningRateSearch {
    /// Rule of the suggestion.
    pub rule: &'static str,
    /// Suggested learning rate; `None` if the loss did not fall.
    pub suggestion: Option<f64>,
    /// Whether the loss diverged before the largest learning rate.
    pub diverged: bool,
    /// The steps, in order.
    pub points: Vec<SearchPoint>,
}

/// A step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SearchPoint {
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Loss before the step.
    pub loss: f64,
    /// Mean of the losses so far, of which each weighs 0.9 times the next one.
    pub smoothed: f64,
}

impl LearningRateSearch {
    /// Steps of a test.
    pub const STEPS: u32 = 100;
    /// Smallest and largest learning rate.
    pub const RANGE: [f64; 2] = [1e-6, 1.0];
    /// Rule of the suggestion.
    pub const RULE: &'static str = "a tenth of the learning rate with the lowest smoothed loss";

    /// Trains a network for some steps with the settings of a recipe, except for the learning rate.
    /// Nothing is written. Calls `on_step` after each step.
    ///
    /// # Errors
    /// As a run, or if it is stopped. A loss that is no longer finite ends the test.
    pub fn run(
        mut recipe: Recipe,
        data: TrainingData,
        initial: &InitialModel,
        context: RunContext,
        mut on_step: impl FnMut(&SearchPoint),
    ) -> Result<Self> {
        // The schedule is not used, so a warm-up may be longer than the test.
        recipe.warmup = 0;
        let options = recipe.options()?;
        let mut trainer = Trainer::new(context.device, &initial.config, &initial.weights, options)?;
        let mut feed = DataFeed::new(data, &recipe, &trainer, 0, context)?;
        let (never, counts) = (AtomicBool::new(false), |_| true);
        let stop = context.stop.unwrap_or(&never);
        let mut curve = Curve::default();
        for step in 0..Self::STEPS {
            let learning_rate = learning_rate(step);
            trainer.set_learning_rate(learning_rate);
            let first = u64::from(step) * u64::from(recipe.accumulate);
            let mut batches = LoaderBatches::new(&mut feed.loader, stop, first, &counts);
            let outcome = match trainer.step_from(&mut batches) {
                Err(e) if e.kind() == ErrorKind::Training && !curve.points.is_empty() => {
                    curve.diverged = true;
                    break;
                }
                outcome => outcome?,
            };
            let Some(outcome) = outcome else { return Err(error!(Training, "stopped")) };
            on_step(curve.add(learning_rate, outcome.loss));
            context.check().map_err(|_| error!(Training, "stopped"))?;
            if curve.diverged {
                break;
            }
        }
        Ok(curve.finish())
    }
}

/// Learning rate of a step.
fn learning_rate(step: u32) -> f64 {
    let [least, most] = LearningRateSearch::RANGE;
    let done = f64::from(step) / f64::from(LearningRateSearch::STEPS - 1);
    least * (most / least).powf(done)
}

/// The losses so far.
#[derive(Default)]
struct Curve {
    points: Vec<SearchPoint>,
    sum: f64,
    weight: f64,
    diverged: bool,
}

impl Curve {
    fn add(&mut self, learning_rate: f64, loss: f64) -> &SearchPoint {
        self.sum = SMOOTHING * self.sum + loss;
        self.weight = SMOOTHING * self.weight + 1.0;
        let smoothed = self.sum / self.weight;
        let least = self.points.iter().map(|p| p.smoothed).fold(f64::INFINITY, f64::min);
        self.diverged = smoothed > DIVERGED * least;
        self.points.push(SearchPoint { learning_rate, loss, smoothed });
        &self.points[self.points.len() - 1]
    }

    fn finish(self) -> LearningRateSearch {
        let lowest =
            self.points.iter().enumerate().min_by(|a, b| a.1.smoothed.total_cmp(&b.1.smoothed));
        let lowest = lowest.filter(|(index, _)| *index > 0);
        LearningRateSearch {
            rule: LearningRateSearch::RULE,
            suggestion: lowest.map(|(_, point)| FRACTION * point.learning_rate),
            diverged: self.diverged,
            points: self.points,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(loss: impl Fn(f64) -> f64) -> LearningRateSearch {
        let mut curve = Curve::default();
        for step in 0..LearningRateSearch::STEPS {
            let rate = learning_rate(step);
            curve.add(rate, loss(rate));
            if curve.diverged {
                break;
            }
        }
        curve.finish()
    }

    #[test]
    fn learning_rates_rise_exponentially_over_the_range() {
        assert_eq!(learning_rate(0), 1e-6);
        assert!((learning_rate(99) - 1.0).abs() < 1e-12);
        assert!((learning_rate(33) - 1e-4).abs() < 1e-12);
    }

    #[test]
    fn the_suggestion_is_a_tenth_of_where_the_loss_is_lowest() {
        // A parabola in the logarithm, with its minimum at 0.01: smoothing delays it by half a decade.
        let result = search(|rate| 1.0 + (rate.log10() + 2.0).powi(2) / 4.0);
        let suggestion = result.suggestion.unwrap();
        assert!((1e-3..5e-3).contains(&suggestion), "{suggestion}");
        assert!(!result.diverged && result.points.len() == 100);
    }

    #[test]
    fn a_loss_that_explodes_ends_the_test_and_one_that_only_rises_has_no_suggestion() {
        let result = search(|rate| if rate > 0.1 { 1e6 } else { 2.0 - rate });
        assert!(result.diverged && result.points.len() < 90, "{}", result.points.len());
        assert!(result.suggestion.is_some());
        assert_eq!(search(|rate| 1.0 + rate).suggestion, None);
    }
}
