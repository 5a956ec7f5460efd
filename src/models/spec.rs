//! What every backbone provides. [`backbone`](super::backbone) lists them.

use super::conventions::LowLevel;
use super::layer::Builder;
use crate::error::Result;
use crate::graph::{Scope, ValueId};

/// A feature extractor.
pub(super) trait BackboneSpec {
    /// Returns the backbone of a name on the command line, `None` for a name of another one.
    fn parse(name: &str) -> Option<Self>
    where
        Self: Sized;

    /// Returns the display name, such as `ResNet-50`.
    fn title(&self) -> String;

    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid one.
    fn validate(&self) -> Result<()>;

    /// Returns the number of units that the multi-grid applies to, those of the last stage.
    fn grid_units(&self) -> usize {
        0
    }

    /// Returns the multi-grid of the code that trained the paper's networks.
    fn paper_multi_grid(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Adds the network on `x` `[N, H, W, C]`. `tap` is the source of the low-level features.
    ///
    /// # Errors
    /// Returns an error if the image is too small.
    fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features>;
}

/// Outputs of a backbone.
pub(super) struct Features {
    /// The last features, at the output stride.
    pub last: ValueId,
    /// The low-level features, at a quarter of the image size.
    pub low_level: ValueId,
    /// The input of the auxiliary classifier.
    pub aux: ValueId,
}

/// A family of backbones: the networks of one file, of several sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Display name.
    pub title: &'static str,
    /// Names on the command line.
    pub names: &'static [&'static str],
    /// Description of further names, of which there are too many to list.
    pub more_names: Option<&'static str>,
    /// Whether a block can be padded before its expansion
    /// ([`PaddingRule::BeforeExpansion`](super::PaddingRule::BeforeExpansion)).
    pub pads_before_expansion: bool,
    /// Whether a group of blocks can keep the dilation of the previous one
    /// ([`DilationRule::AfterGroup`](super::DilationRule::AfterGroup)).
    pub dilates_after_group: bool,
    /// Whether a value inside a unit can be the low-level features ([`LowLevel::InsideUnit`]).
    pub low_level_inside_unit: bool,
}
