//! The loss as a recipe states it.

use crate::error::{Error, error};
use crate::ops::{Denominator, Dice, PixelLoss};
use serde::{Deserialize, Serialize};

/// Settings of the loss: cross entropy with the terms that differ from their defaults (see
/// [`PixelLoss`]). Class weights and hard pixels have settings of their own, of the data and of
/// [`Mining`](super::Mining).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct LossRecipe {
    /// Label to ignore; 255 in most data sets.
    pub ignore: u32,
    /// Label smoothing, 0 to 1.
    pub smoothing: f32,
    /// Normalization of the sum.
    pub denominator: Denominator,
    /// Exponent of the focal loss, usually 2; 0 is cross entropy. Cannot be combined with
    /// smoothing.
    pub gamma: f32,
    /// Dice loss in addition to the pixel loss.
    pub dice: Option<Dice>,
}

impl Default for LossRecipe {
    /// PyTorch's `cross_entropy`, with 255 ignored.
    fn default() -> Self {
        let PixelLoss { ignore, smoothing, denominator, gamma, dice, .. } = PixelLoss::default();
        Self { ignore, smoothing, denominator, gamma, dice }
    }
}

impl LossRecipe {
    /// Returns the loss of a step, with class weights and only hard pixels if the step has such
    /// inputs.
    pub fn pixel_loss(&self, weighted: bool, mined: bool) -> PixelLoss {
        let Self { ignore, smoothing, denominator, gamma, dice } = *self;
        PixelLoss { ignore, smoothing, weighted, denominator, gamma, mined, dice }
    }
}

/// The fields of a file. Runs of earlier versions recorded `weighted` and `mined`, always as false.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    ignore: u32,
    smoothing: f32,
    denominator: Denominator,
    gamma: f32,
    dice: Option<Dice>,
    weighted: bool,
    mined: bool,
}

impl Default for Written {
    fn default() -> Self {
        let LossRecipe { ignore, smoothing, denominator, gamma, dice } = LossRecipe::default();
        Self { ignore, smoothing, denominator, gamma, dice, weighted: false, mined: false }
    }
}

impl TryFrom<Written> for LossRecipe {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self, Error> {
        let Written { ignore, smoothing, denominator, gamma, dice, weighted, mined } = written;
        if weighted || mined {
            return Err(error!(
                Config,
                "`loss.weighted` and `loss.mined` follow from `data.class_weights` and `[mining]`; remove them"
            ));
        }
        Ok(Self { ignore, smoothing, denominator, gamma, dice })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;

    #[test]
    fn what_follows_from_other_settings_cannot_be_set() {
        let recorded =
            Recipe::parse("[loss]\nweighted = false\nmined = false\ngamma = 2.0\n").unwrap();
        assert_eq!(recorded.loss.gamma, 2.0);
        let text = recorded.to_toml().unwrap();
        assert!(!text.contains("weighted") && !text.contains("mined"), "{text}");
        let error = Recipe::parse("[loss]\nmined = true\n").unwrap_err().to_string();
        assert!(error.contains("[mining]"), "{error}");
        let step = recorded.options().unwrap().step;
        assert!(!step.loss.weighted && !step.loss.mined);
    }
}
