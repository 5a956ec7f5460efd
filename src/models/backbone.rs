//! The supported backbones, and the features that they pass to the head.

use super::config::{Config, DilationRule, LowLevel};
use super::layer::Builder;
use super::mobilenet_v2::MobileNetV2;
use super::mobilenet_v3::MobileNetV3;
use super::resnet::ResNet;
use super::xception::Xception;
use crate::error::{Error, Result, error};
use crate::graph::{Scope, ValueId};
use serde::{Deserialize, Serialize};

/// The feature extractor. Each variant is built in the module of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// ResNet-18 to -152.
    ResNet(ResNet),
    /// MobileNetV2 with any width multiplier.
    MobileNetV2(MobileNetV2),
    /// MobileNetV3-Large.
    MobileNetV3(MobileNetV3),
    /// Modified Aligned Xception-41, -65 or -71.
    Xception(Xception),
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

/// Error of a backbone other than MobileNetV2 with `PaddingRule::BeforeExpansion`.
pub(super) fn padding_error(backbone: &str) -> Error {
    error!(
        Config,
        "the padding rule `before_expansion` requires MobileNetV2, the backbone is {backbone}"
    )
}

impl Backbone {
    /// Creates a ResNet with the standard 7x7 stem.
    ///
    /// # Errors
    /// Returns an error if `depth` is not 18, 34, 50, 101 or 152.
    pub fn resnet(depth: usize) -> Result<Self> {
        Ok(Backbone::ResNet(ResNet::new(depth)?))
    }

    /// Returns the display name, such as `ResNet-50`.
    pub fn title(&self) -> String {
        match self {
            Backbone::ResNet(net) => net.title(),
            Backbone::MobileNetV2(net) => net.title(),
            Backbone::MobileNetV3(net) => net.title(),
            Backbone::Xception(net) => net.title(),
        }
    }

    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        if !config.multi_grid.is_empty() && config.multi_grid.len() != self.grid_units() {
            let (got, expected) = (config.multi_grid.len(), self.grid_units());
            return Err(error!(
                Config,
                "{} expects a multi-grid of {expected} factors, got {got}",
                self.title()
            ));
        }
        if config.dilation == DilationRule::AfterGroup && !matches!(self, Backbone::MobileNetV2(_))
        {
            return Err(error!(
                Config,
                "the dilation rule `after_group` requires MobileNetV2, the backbone is {}",
                self.title()
            ));
        }
        match self {
            Backbone::ResNet(net) => net.validate(config),
            Backbone::MobileNetV2(net) => net.validate(),
            Backbone::MobileNetV3(net) => net.validate(config),
            Backbone::Xception(net) => net.validate(config),
        }
    }

    /// Returns the number of units that the multi-grid applies to, those of the last stage.
    fn grid_units(&self) -> usize {
        match self {
            Backbone::ResNet(net) => net.units()[3],
            Backbone::MobileNetV2(_) | Backbone::MobileNetV3(_) => 0,
            // The three convolutions of the last unit.
            Backbone::Xception(_) => 3,
        }
    }

    pub(super) fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        match self {
            Backbone::ResNet(net) => net.build(b, scope, x, tap),
            Backbone::MobileNetV2(net) => net.build(b, scope, x, tap),
            Backbone::MobileNetV3(net) => net.build(b, scope, x, tap),
            Backbone::Xception(net) => net.build(b, scope, x, tap),
        }
    }
}
