//! Modified Aligned Xception (arXiv 1802.02611, section 3.2) with 41, 65 or 71 layers.
//!
//! The paper's figure 4 draws batch norm and ReLU after every depthwise convolution. The code that
//! trained the released weights, which is followed here, has the ReLU there in the last unit alone;
//! the others begin each separable convolution with it.

use super::backbone::Features;
use super::config::{Config, LowLevel, PaddingRule};
use super::layer::{Builder, Layer, Step, Strides};
use crate::error::{Error, Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::Activation;
use serde::{Deserialize, Serialize};

/// A Modified Aligned Xception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xception {
    /// 41, 65 or 71 layers.
    pub depth: usize,
    /// Whose code it follows where they differ.
    pub variant: XceptionVariant,
}

/// Whose code an Xception follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XceptionVariant {
    /// TensorFlow's, and timm's after it.
    TensorFlow,
    /// jfzhang95's, which is Xception-65 with three differences: ReLUs work in place, so that the
    /// shortcut of a unit reads its input after the ReLU (and the low-level features lie behind
    /// one); the last convolution of `exit1` has rate 1 whatever the unit's is; `exit2` has no ReLU
    /// between depthwise and pointwise convolutions.
    InPlace,
}

/// What is added to what a unit's convolutions give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// A 1x1 convolution of the unit's input. The table decides, not the shapes: at output stride 8
    /// Xception-71 keeps that of `entry5`.
    Conv,
    /// The unit's input.
    Input,
    /// Nothing.
    None,
}

/// A unit: three separable convolutions and what goes around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// `entry1`, ..., `middle1`, ..., `exit2`.
    pub name: String,
    /// Channels of the three convolutions.
    pub channels: [usize; 3],
    /// Of the third convolution and of the shortcut.
    pub stride: usize,
    /// What is added.
    pub shortcut: Shortcut,
}

impl Xception {
    /// As TensorFlow has it.
    ///
    /// # Errors
    /// Where `depth` is none of 41, 65, 71.
    pub fn new(depth: usize) -> Result<Self> {
        let net = Self { depth, variant: XceptionVariant::TensorFlow };
        if net.units().is_empty() { Err(unknown(depth)) } else { Ok(net) }
    }

    pub(super) fn title(&self) -> String {
        format!("Xception-{}", self.depth)
    }

    /// The units in order; none where the depth is not known.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let (entry, middle): (&[(usize, usize)], _) = match self.depth {
            41 => (&[(128, 2), (256, 2), (728, 2)], 8),
            65 => (&[(128, 2), (256, 2), (728, 2)], 16),
            71 => (&[(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)], 16),
            _ => return Vec::new(),
        };
        let unit =
            |name: String, channels, stride, shortcut| Unit { name, channels, stride, shortcut };
        let entry = (1..)
            .zip(entry)
            .map(|(i, &(c, stride))| unit(format!("entry{i}"), [c; 3], stride, Shortcut::Conv));
        let middle = (1..=middle).map(|i| unit(format!("middle{i}"), [728; 3], 1, Shortcut::Input));
        let exit = [
            unit("exit1".to_owned(), [728, 1024, 1024], 2, Shortcut::Conv),
            unit("exit2".to_owned(), [1536, 1536, 2048], 1, Shortcut::None),
        ];
        entry.chain(middle).chain(exit).collect()
    }

    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        if self.units().is_empty() {
            return Err(unknown(self.depth));
        }
        if matches!(config.padding, PaddingRule::BeforeExpansion { .. }) {
            return Err(error!(
                Config,
                "padding before the expansion is for MobileNetV2, not {}",
                self.title()
            ));
        }
        Ok(())
    }

    /// `x` `[N, H, W, C]`. The last features have 2048 channels; the low-level features 256 at
    /// TensorFlow's tap, else 128 (Xception-71: 256).
    pub(super) fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        let mut stem = scope.scope("stem");
        let x = b.layer(&mut stem, "conv1", x, Layer::new(3, 32).stride(2).relu())?;
        let mut x = b.layer(&mut stem, "conv2", x, Layer::new(3, 64).relu())?;
        b.stage("stem", x);
        let mut strides = Strides::new(b.config, 2);
        let (mut low_level, mut aux) = (x, x);
        for unit in self.units() {
            let before = strides.reached();
            let step = strides.step(unit.stride);
            let mut here = scope.scope(&unit.name);
            let (sum, second) = self.unit(b, &mut here, x, &unit, step)?;
            x = match self.variant {
                XceptionVariant::InPlace if unit.shortcut != Shortcut::None => {
                    here.activate("relu", Activation::Relu, sum)?
                }
                _ => sum,
            };
            match (tap, before, strides.reached()) {
                (LowLevel::Stage, _, 4) => low_level = b.stage(&unit.name, x),
                // The unit that leaves a quarter of the image still has it in its second
                // convolution.
                (LowLevel::TensorFlow, 4, 8) => {
                    low_level = second;
                    b.stage(&unit.name, sum);
                }
                _ => _ = b.stage(&unit.name, sum),
            }
            if unit.shortcut == Shortcut::Input {
                aux = x;
            }
        }
        Ok(Features { last: x, low_level, aux })
    }

    /// Gives the unit's output, and its second convolution's.
    fn unit(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        unit: &Unit,
        step: Step,
    ) -> Result<(ValueId, ValueId)> {
        let in_place = self.variant == XceptionVariant::InPlace;
        let last = unit.shortcut == Shortcut::None;
        let rates = match (unit.name.as_str(), in_place) {
            ("exit1", true) => [step.dilation, step.dilation, 1],
            _ => [step.dilation; 3],
        };
        let grid =
            |i: usize| if last { b.config.multi_grid.get(i).copied().unwrap_or(1) } else { 1 };
        let rates: [usize; 3] = std::array::from_fn(|i| rates[i] * grid(i));
        let between = if last && !in_place { Activation::Relu } else { Activation::Identity };
        let after = if last { Activation::Relu } else { Activation::Identity };
        let (mut y, mut second) = (x, x);
        for (i, (channels, rate)) in unit.channels.into_iter().zip(rates).enumerate() {
            let mut here = scope.scope(format_args!("conv{}", i + 1));
            // In place, the unit before has applied the first one.
            if !last && (i > 0 || !in_place) {
                y = here.activate("relu", Activation::Relu, y)?;
            }
            let stride = if i == 2 { step.stride } else { 1 };
            let depthwise =
                Layer::depthwise(3, here.shape(y).c).stride(stride).dilation(rate).act(between);
            y = b.layer(&mut here, "depthwise", y, depthwise)?;
            y = b.layer(&mut here, "pointwise", y, Layer::pointwise(channels).act(after))?;
            if i == 1 {
                second = y;
            }
        }
        let shortcut = match unit.shortcut {
            Shortcut::None => return Ok((y, second)),
            Shortcut::Input => x,
            Shortcut::Conv => b.layer(
                scope,
                "shortcut",
                x,
                Layer::pointwise(unit.channels[2]).stride(step.stride),
            )?,
        };
        Ok((scope.add("add", y, shortcut)?, second))
    }
}

fn unknown(depth: usize) -> Error {
    error!(Config, "there is no Xception-{depth}").advice("41, 65 and 71 are known")
}
