//! The threshold of sigmoid outputs.

use crate::error::{Error, Result, error};
use crate::tensor::TensorType;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The probability that a sigmoid output must exceed for its class to hold, above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32")]
pub struct Threshold(f32);

impl Threshold {
    /// 0.5: the sign of the logit decides.
    pub const HALF: Self = Self(0.5);

    /// Creates a threshold.
    ///
    /// # Errors
    /// Returns an error unless `probability` is above 0 and below 1.
    pub fn new(probability: f32) -> Result<Self> {
        if probability > 0.0 && probability < 1.0 {
            return Ok(Self(probability));
        }
        Err(error!(Usage, "a threshold is a probability above 0 and below 1, got {probability}"))
    }

    /// Returns the probability.
    pub fn probability(self) -> f32 {
        self.0
    }

    /// Returns whether this is 0.5.
    pub fn is_half(&self) -> bool {
        *self == Self::HALF
    }

    /// Returns the logit whose sigmoid is the probability.
    pub fn logit(self) -> f32 {
        let p = f64::from(self.0);
        (p / (1.0 - p)).ln() as f32
    }

    /// Returns a probability on the scale where this threshold is one half: the sigmoid of the logit
    /// minus [`Threshold::logit`], `p (1 - t) / (p (1 - t) + t (1 - p))`. It grows with `p`, from 0 at 0
    /// to 1 at 1.
    pub fn centered(self, probability: f32) -> f32 {
        if self.is_half() {
            return probability;
        }
        let (above, below) = (probability * (1.0 - self.0), self.0 * (1.0 - probability));
        above / (above + below)
    }
}

impl TryFrom<f32> for Threshold {
    type Error = Error;

    fn try_from(probability: f32) -> Result<Self> {
        Self::new(probability)
    }
}

impl Default for Threshold {
    fn default() -> Self {
        Self::HALF
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Threshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number: f32 = text.parse().map_err(|_| {
            error!(Usage, "a threshold is a probability above 0 and below 1, got `{text}`")
        })?;
        Self::new(number)
    }
}

/// The logistic function, `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Checks that logits have an output besides the background's channel.
pub(super) fn check_outputs(is_sigmoid: bool, logits: TensorType) -> Result<()> {
    if is_sigmoid && logits.shape.c < 2 {
        return Err(error!(
            Graph,
            "sigmoids need a channel for the background and one more, got {}", logits.shape
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_becomes_one_half_and_the_ends_stay() {
        for t in [1e-3, 0.3, 0.495, 0.5, 0.9] {
            let threshold = Threshold::new(t).unwrap();
            assert_eq!((threshold.centered(0.0), threshold.centered(1.0)), (0.0, 1.0), "{t}");
            assert!((threshold.centered(t) - 0.5).abs() < 1e-6, "{t}");
            let all: Vec<f32> = (0..=1000).map(|i| threshold.centered(i as f32 / 1e3)).collect();
            assert!(all.is_sorted() && all.windows(2).all(|w| w[0] < w[1]), "{t}");
            // As the live view does it: on the logits.
            let shifted = sigmoid(1.5 - threshold.logit());
            assert!((threshold.centered(sigmoid(1.5)) - shifted).abs() < 1e-6, "{t}");
        }
    }

    #[test]
    fn a_threshold_is_between_0_and_1() {
        assert_eq!(Threshold::HALF.logit(), 0.0);
        for p in [1e-6, 0.3, 0.5, 0.9] {
            let threshold: Threshold = p.to_string().parse().unwrap();
            assert!((sigmoid(threshold.logit()) / p - 1.0).abs() < 1e-5, "{p}");
        }
        for wrong in ["0", "1", "-0.5", "nan", "inf", "", "half"] {
            assert!(wrong.parse::<Threshold>().is_err(), "{wrong}");
        }
    }
}
