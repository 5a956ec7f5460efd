//! Focal loss: a factor of the cross entropy that is small for pixels with a likely label.

use super::PixelLoss;
use super::term::{LossTerm, is_valid};
use crate::error::{Result, error};

/// Least probability of the other classes in a focal loss: neither 0, because it is a divisor, nor
/// negative by rounding.
pub(super) const LEAST_MISSING: f32 = 1e-30;

/// `(1 - p)^gamma` times the cross entropy (Lin et al. 2017, equation 5).
pub(super) struct Focal;

impl LossTerm for Focal {
    fn name(&self) -> &'static str {
        "focal"
    }

    fn setting(&self) -> &'static str {
        "gamma"
    }

    fn is_set(&self, loss: &PixelLoss) -> bool {
        loss.gamma > 0.0
    }

    fn validate(&self, loss: &PixelLoss) -> Result<()> {
        if !is_valid(loss.gamma) {
            return Err(error!(Graph, "focal-loss gamma must be 0 or more, got {}", loss.gamma));
        }
        if self.is_set(loss) && loss.smoothing > 0.0 {
            return Err(error!(Graph, "label smoothing and focal loss cannot be combined")
                .advice("set one of them to 0"));
        }
        Ok(())
    }

    fn attributes(&self, loss: &PixelLoss) -> String {
        format!("focal {}", loss.gamma)
    }
}

/// Returns the factor of the cross entropy, and that of its slope; `missing` is `1 - p` and
/// `surprise` is `-ln p` of the label. `focal` in the shader.
pub(super) fn value_and_slope(missing: f32, surprise: f32, gamma: f32) -> (f32, f32) {
    let missing = if missing < LEAST_MISSING { LEAST_MISSING } else { missing };
    let focus = missing.powf(gamma);
    (focus, focus * (1.0 + gamma * (1.0 - missing) * surprise / missing))
}
