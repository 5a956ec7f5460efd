//! Terms of the loss, and the list of them.

use super::PixelLoss;
use super::dice::DiceTerm;
use super::focal::Focal;
use super::smoothing::Smoothing;
use crate::error::Result;

/// A term that changes the cross entropy or adds to it. Its file has the value and the slope on the
/// CPU; the shader of the same name has them for devices.
pub trait LossTerm: Sync {
    /// Name of the file and of the shader: `focal`.
    fn name(&self) -> &'static str;

    /// Setting of `[loss]` in a recipe that the term depends on.
    fn setting(&self) -> &'static str;

    /// Returns whether a loss has the term.
    fn is_set(&self, loss: &PixelLoss) -> bool;

    /// Checks the settings of the term.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    fn validate(&self, loss: &PixelLoss) -> Result<()>;

    /// Settings of the term in short form, for tables: `focal 2`. Read only if the term is set.
    fn attributes(&self, loss: &PixelLoss) -> String;
}

/// All terms.
pub static LOSS_TERMS: [&dyn LossTerm; 3] = [&Smoothing, &Focal, &DiceTerm];

/// Returns whether a factor or a summand is valid.
pub(super) fn is_valid(x: f32) -> bool {
    x.is_finite() && x >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_term_is_a_file_and_a_shader() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for term in LOSS_TERMS {
            for file in [
                format!("src/ops/train/pixel_loss/{}.rs", term.name()),
                format!("shaders/train/pixel_loss/{}.wesl", term.name()),
            ] {
                assert!(root.join(&file).exists(), "{file}");
            }
            assert!(!term.is_set(&PixelLoss::default()), "{}", term.name());
        }
    }

    #[test]
    fn the_documentation_has_the_setting_of_every_term() {
        let training = include_str!("../../../../docs/training.md");
        for term in LOSS_TERMS {
            assert!(training.contains(&format!("\n| `{}` |", term.setting())), "{}", term.name());
        }
    }
}
