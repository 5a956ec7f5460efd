//! Length of a run: passes over the training images as steps, and runs that are extended.

use super::recipe::Recipe;
use crate::error::{Result, error};

/// Total length of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RunLength {
    /// Number of steps (updates of the weights).
    Steps(u32),
    /// Number of passes over the training images.
    Epochs(f64),
}

impl RunLength {
    /// Returns the number of steps with a recipe's batches of `images` training images, rounded up.
    ///
    /// # Errors
    /// Returns an error if the length is not above 0, or exceeds the steps that can be counted.
    pub fn steps(self, recipe: &Recipe, images: usize) -> Result<u32> {
        let steps = match self {
            Self::Steps(steps) => f64::from(steps),
            Self::Epochs(epochs) => epochs * images as f64 / images_per_step(recipe),
        };
        // NaN is refused as well.
        if steps > 0.0 && steps <= f64::from(u32::MAX) {
            return Ok(steps.ceil() as u32);
        }
        let length = match self {
            Self::Steps(steps) => format!("`steps` {steps}"),
            Self::Epochs(epochs) => format!("`epochs` {epochs}"),
        };
        Err(error!(Config, "a run has 1 to {} steps; {length} is out of range", u32::MAX))
    }
}

fn images_per_step(recipe: &Recipe) -> f64 {
    recipe.batch as f64 * f64::from(recipe.accumulate)
}

impl Recipe {
    /// Replaces `epochs` by the steps that it amounts to with `images` training images. Returns a
    /// line about it for people, or `None` if the recipe states steps.
    ///
    /// # Errors
    /// As [`RunLength::steps`].
    pub fn resolve_epochs(&mut self, images: usize) -> Result<Option<String>> {
        let Some(epochs) = self.epochs else { return Ok(None) };
        self.steps = RunLength::Epochs(epochs).steps(self, images)?;
        self.epochs = None;
        let (steps, each) = (self.steps, images_per_step(self));
        let passes = if epochs == 1.0 { "epoch is" } else { "epochs are" };
        Ok(Some(format!(
            "length: {epochs} {passes} {steps} steps ({images} training images, {each} in a step); the schedule follows"
        )))
    }

    /// Sets the length of a run after `done` steps. Returns a note about what becomes of the
    /// learning rate.
    ///
    /// # Errors
    /// As [`RunLength::steps`] and [`Recipe::options`], or if the run has at least this length.
    pub(super) fn extend(&mut self, length: RunLength, images: usize, done: u64) -> Result<String> {
        let steps = length.steps(self, images)?;
        if u64::from(steps) <= done {
            return Err(error!(
                Usage,
                "the run has completed {done} steps, and a total of {steps} is no more than that"
            )
            .advice(
                "`--steps` and `--epochs` state the total length of the run, not what is added",
            ));
        }
        let step = u32::try_from(done).unwrap_or(u32::MAX);
        let learning_rate =
            |recipe: &Self| recipe.options().map(|o| o.schedule.learning_rate(step));
        let (old, before) = (self.steps, learning_rate(self)?);
        (self.steps, self.epochs) = (steps, None);
        let after = learning_rate(self)?;
        Ok(format!(
            "the length of the run changed from {old} to {steps} steps: the learning rate follows the schedule of \
             {steps} steps from here on, which has {after:.2e} after step {done} instead of {before:.2e}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_become_steps_of_the_effective_batch() {
        let mut recipe = Recipe { batch: 4, accumulate: 2, epochs: Some(1.5), ..Recipe::default() };
        let line = recipe.resolve_epochs(100).unwrap().unwrap();
        assert_eq!((recipe.steps, recipe.epochs), (19, None), "150 images, 8 in a step");
        assert!(line.contains("1.5 epochs are 19 steps (100 training images, 8"), "{line}");
        assert_eq!(recipe.resolve_epochs(1000).unwrap(), None, "steps are not changed");
        assert_eq!(recipe.steps, 19);
    }

    #[test]
    fn lengths_that_are_no_number_of_steps_are_refused() {
        for epochs in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12] {
            let mut recipe = Recipe { epochs: Some(epochs), ..Recipe::default() };
            let error = recipe.resolve_epochs(100).unwrap_err().to_string();
            assert!(error.contains("`epochs`"), "{error}");
        }
        assert!(RunLength::Steps(0).steps(&Recipe::default(), 100).is_err());
    }

    #[test]
    fn an_extended_run_follows_the_schedule_of_its_new_length() {
        let mut recipe = Recipe { steps: 100, ..Recipe::default() };
        let note = recipe.extend(RunLength::Steps(200), 50, 100).unwrap();
        // 0.01 * 0.5^0.9, and the floor.
        assert!(note.contains("5.36e-3") && note.contains("instead of 1.00e-6"), "{note}");
        assert_eq!(recipe.steps, 200);
        let error = recipe.extend(RunLength::Steps(100), 50, 100).unwrap_err().to_string();
        assert!(error.contains("completed 100 steps") && error.contains("total length"), "{error}");
        assert!(recipe.extend(RunLength::Epochs(16.0), 50, 100).is_err(), "100 steps");
        recipe.extend(RunLength::Epochs(17.0), 50, 100).unwrap();
        assert_eq!(recipe.steps, 107);
    }
}
