//! Soft Dice loss.

use super::PixelLoss;
use super::term::{LossTerm, is_valid};
use crate::error::{Result, error};
use serde::{Deserialize, Serialize};

/// Soft Dice loss of all classes over the whole batch, added to the mean of the pixel losses
/// (Milletari et al. 2016, without their squares; segmentation-models-pytorch's `DiceLoss`, whose
/// `smooth` in version 0.6 is half of this one).
///
/// With `I` the sum of the softmax probability of a class over the pixels that have this label, `P`
/// its sum over all pixels that count and `T` the number of pixels that have the label, a class's
/// loss is `1 - (2 I + smooth) / (P + T + smooth)`, and 0 if `T` is 0. The loss is the mean over
/// the classes, including those without a pixel. `background: false` leaves out class 0, as Dice
/// losses of binary networks do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dice {
    /// Factor of the Dice loss in the sum.
    pub weight: f32,
    /// Added to numerator and denominator, so that small classes weigh less; 0 or more.
    #[serde(default)]
    pub smooth: f32,
    /// Whether class 0 counts like the others.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub background: bool,
}

fn yes() -> bool {
    true
}

impl Dice {
    /// The loss with a factor of 1 and without smoothing, over all classes.
    pub const PLAIN: Self = Self { weight: 1.0, smooth: 0.0, background: true };

    /// Returns the first class that counts.
    pub(super) fn first_class(&self) -> usize {
        usize::from(!self.background)
    }
}

/// [`Dice`] as a term.
pub(super) struct DiceTerm;

impl LossTerm for DiceTerm {
    fn name(&self) -> &'static str {
        "dice"
    }

    fn setting(&self) -> &'static str {
        "dice"
    }

    fn is_set(&self, loss: &PixelLoss) -> bool {
        loss.dice.is_some()
    }

    fn validate(&self, loss: &PixelLoss) -> Result<()> {
        match loss.dice {
            Some(Dice { weight, smooth, .. }) if !is_valid(weight) || !is_valid(smooth) => {
                Err(error!(
                    Graph,
                    "Dice weight and smoothing must be 0 or more, got {weight} and {smooth}"
                ))
            }
            _ => Ok(()),
        }
    }

    fn attributes(&self, loss: &PixelLoss) -> String {
        let Dice { weight, smooth, background } = loss.dice.unwrap_or(Dice::PLAIN);
        let without = if background { "" } else { " without class 0" };
        format!("dice {weight} smooth {smooth}{without}")
    }
}

/// Dice loss and its derivatives. The derivative with respect to a probability of class `c` is
/// `all[c]`, plus `own[c]` at a pixel with the label `c`.
pub(super) struct DiceSlopes {
    pub(super) loss: f32,
    pub(super) own: Vec<f32>,
    pub(super) all: Vec<f32>,
}

impl DiceSlopes {
    /// Computes loss and slopes from the sums over the pixels: for each class the probability at
    /// the pixels with its label, the probability at all pixels, and the number of pixels with its
    /// label. `dice_slopes` in the shader.
    pub(super) fn new(sums: &[f32], classes: usize, dice: Dice) -> Self {
        let (first, smooth) = (dice.first_class(), dice.smooth);
        let class_factor = 1.0 / (classes - first.min(classes)).max(1) as f32;
        let mut slopes = Self { loss: 0.0, own: vec![0.0; classes], all: vec![0.0; classes] };
        for c in first..classes {
            let (inside, everywhere, count) = (sums[c], sums[classes + c], sums[2 * classes + c]);
            if count > 0.0 {
                let (above, below) = (2.0 * inside + smooth, everywhere + count + smooth);
                slopes.loss += class_factor * (1.0 - above / below);
                slopes.own[c] = -2.0 * class_factor / below;
                slopes.all[c] = class_factor * above / below / below;
            }
        }
        slopes
    }
}
