//! The choice of backbones, and what each gives to the heads.

use super::config::{Config, DilationRule, LowLevel};
use super::layer::Builder;
use super::mobilenet_v2::MobileNetV2;
use super::mobilenet_v3::MobileNetV3;
use super::resnet::ResNet;
use super::xception::Xception;
use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use serde::{Deserialize, Serialize};

/// What computes the features. Each variant's builder lies in the file of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// ResNet-18 to -152.
    ResNet(ResNet),
    /// MobileNetV2 of any width.
    MobileNetV2(MobileNetV2),
    /// MobileNetV3-Large.
    MobileNetV3(MobileNetV3),
    /// Modified Aligned Xception-41, -65, -71.
    Xception(Xception),
}

/// What a backbone gives to the heads.
pub(super) struct Features {
    /// At the output stride.
    pub last: ValueId,
    /// At a quarter of the image.
    pub low_level: ValueId,
    /// For the auxiliary classifier.
    pub aux: ValueId,
}

impl Backbone {
    /// ResNet with the usual 7x7 stem.
    ///
    /// # Errors
    /// Where `depth` is none of 18, 34, 50, 101, 152.
    pub fn resnet(depth: usize) -> Result<Self> {
        Ok(Backbone::ResNet(ResNet::new(depth)?))
    }

    /// What people call it: `ResNet-50`.
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
                "the multi-grid has {got} factors, {} has {expected} units to which they go",
                self.title()
            ));
        }
        if config.dilation == DilationRule::AfterGroup && !matches!(self, Backbone::MobileNetV2(_))
        {
            return Err(error!(
                Config,
                "only MobileNetV2 has groups of blocks for the rule of dilation, not {}",
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

    /// Units of the last stage, to which the multi-grid goes.
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
