//! Which share of the pixels counts as training goes on.

use crate::error::{Result, error};
use crate::tensor::{Data, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Hard-pixel mining as in TensorFlow's DeepLab (`hard_example_mining_step`,
/// `top_k_percent_pixels`): the share of the pixels whose losses are kept falls in a straight line
/// from 1 at the first step to `top`, and stays there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mining {
    /// The share in the end, more than 0 and at most 1; 0.25 in the original's example.
    pub top: f32,
    /// Steps until then; 0 begins with it.
    #[serde(default)]
    pub steps: u32,
}

impl Mining {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// Where the share is not one.
    pub fn validate(&self) -> Result<()> {
        match self.top > 0.0 && self.top <= 1.0 {
            true => Ok(()),
            false => Err(error!(
                Config,
                "the share of hard pixels must be more than 0 and at most 1, got {}", self.top
            )),
        }
    }

    /// The share at a step, counted from 0.
    pub fn share(&self, step: u32) -> f32 {
        if step >= self.steps {
            return self.top;
        }
        // Steps are counted past what f32 holds exactly.
        let done = (f64::from(step) / f64::from(self.steps)) as f32;
        done * self.top + (1.0 - done)
    }

    /// The share as the graph of a step takes it, its input `mining`: `[1, 1, 1, 4]`, of which the
    /// first number is read.
    pub fn input(&self, step: u32) -> Tensor {
        let data = Data::F32(vec![self.share(step), 0.0, 0.0, 0.0]);
        Tensor::from_data(Shape::vector(4), data).expect("invariant: four numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::Mining;

    #[test]
    fn the_share_falls_in_a_straight_line() {
        let mining = Mining { top: 0.25, steps: 100 };
        for (step, share) in [(0, 1.0), (50, 0.625), (100, 0.25), (1_000_000, 0.25)] {
            assert_eq!(mining.share(step), share, "step {step}");
        }
        assert_eq!(Mining { top: 0.15, steps: 0 }.share(0), 0.15);
        assert_eq!(mining.input(50).f32()[0], 0.625);
    }

    #[test]
    fn a_share_of_nothing_or_of_more_than_all_is_refused() {
        for (top, right) in [
            (0.0, false),
            (-0.5, false),
            (1.5, false),
            (f32::NAN, false),
            (1.0, true),
            (0.01, true),
        ] {
            assert_eq!(Mining { top, steps: 10 }.validate().is_ok(), right, "{top}");
        }
    }
}
