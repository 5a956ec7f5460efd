//! Label smoothing: a part of the loss counts all classes alike.

use super::PixelLoss;
use super::term::LossTerm;
use crate::error::{Result, error};

/// A part `s` of the mean of `-ln p` over all classes, and `1 - s` of the cross entropy.
pub(super) struct Smoothing;

impl LossTerm for Smoothing {
    fn name(&self) -> &'static str {
        "smoothing"
    }

    fn setting(&self) -> &'static str {
        "smoothing"
    }

    fn is_set(&self, loss: &PixelLoss) -> bool {
        loss.smoothing > 0.0
    }

    fn validate(&self, loss: &PixelLoss) -> Result<()> {
        if (0.0..=1.0).contains(&loss.smoothing) {
            return Ok(());
        }
        Err(error!(Graph, "label smoothing must be 0 to 1, got {}", loss.smoothing))
    }

    fn attributes(&self, loss: &PixelLoss) -> String {
        format!("smoothing {}", loss.smoothing)
    }
}

/// Returns `s / C`, the factor of each class.
pub(super) fn factor(smoothing: f32, classes: usize) -> f32 {
    smoothing / classes as f32
}

/// Returns the value of the term; `surprises` is the weighted sum of `-ln p` over all classes.
/// `smoothing_value` in the shader.
pub(super) fn value(factor: f32, surprises: f32) -> f32 {
    factor * surprises
}

/// Returns the derivative of the term with respect to a score of probability `p`. `smoothing_slope`
/// in the shader.
pub(super) fn slope(factor: f32, p: f32, weight: f32, all_weights: f32) -> f32 {
    factor * (all_weights * p - weight)
}
