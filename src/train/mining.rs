//! Schedule of hard-pixel mining.

use crate::error::{Result, error};
use crate::tensor::{Data, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Hard-pixel mining as in TensorFlow's DeepLab (`hard_example_mining_step`,
/// `top_k_percent_pixels`): the fraction of the pixels whose losses are kept falls linearly from 1
/// at the first step to `top`, and stays there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mining {
    /// Final fraction of pixels, more than 0 and at most 1; 0.25 in the original's example.
    pub top: f32,
    /// Steps until `top` is reached; 0 starts with it.
    #[serde(default)]
    pub steps: u32,
}

impl Mining {
    /// Checks the fraction.
    ///
    /// # Errors
    /// Returns an error if the fraction is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.top > 0.0 && self.top <= 1.0 {
            return Ok(());
        }
        Err(error!(
            Config,
            "the fraction of hard pixels must be more than 0 and at most 1, got {}", self.top
        ))
    }

    /// Fraction of the pixels to keep at a step, counted from 0.
    pub fn fraction(&self, step: u32) -> f32 {
        if step >= self.steps {
            return self.top;
        }
        // In f64: step numbers may exceed what f32 represents exactly.
        let done = (f64::from(step) / f64::from(self.steps)) as f32;
        done * self.top + (1.0 - done)
    }

    /// Input `mining` of the graph of a step: `[1, 1, 1, 4]`, of which the first element is the
    /// fraction.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn input(&self, step: u32) -> Tensor {
        let data = Data::F32(vec![self.fraction(step), 0.0, 0.0, 0.0]);
        Tensor::from_data(Shape::vector(4), data).expect("invariant: four elements")
    }
}

#[cfg(test)]
mod tests {
    use super::Mining;

    #[test]
    fn the_fraction_falls_linearly() {
        let mining = Mining { top: 0.25, steps: 100 };
        for (step, fraction) in [(0, 1.0), (50, 0.625), (100, 0.25), (1_000_000, 0.25)] {
            assert_eq!(mining.fraction(step), fraction, "step {step}");
        }
        assert_eq!(Mining { top: 0.15, steps: 0 }.fraction(0), 0.15);
        assert_eq!(mining.input(50).f32()[0], 0.625);
    }

    #[test]
    fn a_fraction_of_nothing_or_of_more_than_all_is_refused() {
        for (top, valid) in [
            (0.0, false),
            (-0.5, false),
            (1.5, false),
            (f32::NAN, false),
            (1.0, true),
            (0.01, true),
        ] {
            assert_eq!(Mining { top, steps: 10 }.validate().is_ok(), valid, "{top}");
        }
    }
}
