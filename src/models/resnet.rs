//! ResNet (He et al., arXiv 1512.03385): 18, 34, 50, 101, 152; with the 7x7 stem or TensorFlow's
//! three 3x3 ("beta").

use super::backbone::Features;
use super::config::{Config, LowLevel, PaddingRule};
use super::layer::{Builder, Layer, Strides};
use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::{Activation, MaxPool, Padding};
use serde::{Deserialize, Serialize};

/// A ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNet {
    /// 18, 34 (two 3x3 in a unit), 50, 101 or 152 (1x1, 3x3, 1x1).
    pub depth: usize,
    /// The first convolutions.
    pub stem: Stem,
    /// Which unit of a stage strides.
    pub strided: Strided,
}

/// The first convolutions, before the pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 7x7 with stride 2 to 64 channels.
    Single,
    /// 3x3 with stride 2 to 64, 3x3 to 64, 3x3 to 128 (TensorFlow's `resnet_v1_*_beta`).
    Beta,
}

/// Which unit of a stage strides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strided {
    /// The first one of `layer2` to `layer4` (PyTorch).
    First,
    /// The last one of `layer1` to `layer3` (TensorFlow).
    Last,
}

/// A unit's place.
struct Unit {
    channels: usize,
    stride: usize,
    dilation: usize,
    after: usize,
}

impl ResNet {
    /// The usual one.
    ///
    /// # Errors
    /// Where `depth` is none of 18, 34, 50, 101, 152.
    pub fn new(depth: usize) -> Result<Self> {
        let net = Self { depth, stem: Stem::Single, strided: Strided::First };
        match net.known_units() {
            Some(_) => Ok(net),
            None => Err(unknown(depth)),
        }
    }

    pub(super) fn title(&self) -> String {
        format!("ResNet-{}{}", self.depth, if self.stem == Stem::Beta { " (beta)" } else { "" })
    }

    fn known_units(&self) -> Option<[usize; 4]> {
        match self.depth {
            18 => Some([2, 2, 2, 2]),
            34 | 50 => Some([3, 4, 6, 3]),
            101 => Some([3, 4, 23, 3]),
            152 => Some([3, 8, 36, 3]),
            _ => None,
        }
    }

    /// Units of `layer1` to `layer4`.
    pub fn units(&self) -> [usize; 4] {
        self.known_units().unwrap_or_default()
    }

    /// Whether a unit is 1x1, 3x3, 1x1 with four times the channels at its end.
    pub fn bottleneck(&self) -> bool {
        self.depth >= 50
    }

    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        if self.known_units().is_none() {
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

    pub(super) fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        let mut x = self.stem(b, &mut scope.scope("stem"), x)?;
        let mut strides = Strides::new(b.config, 4);
        let (mut low_level, mut aux) = (x, x);
        for (stage, units) in self.units().into_iter().enumerate() {
            for i in 0..units {
                let stride = match self.strided {
                    Strided::First => 1 + usize::from(stage > 0 && i == 0),
                    Strided::Last => 1 + usize::from(stage < 3 && i + 1 == units),
                };
                let step = strides.step(stride);
                let grid =
                    if stage == 3 { b.config.multi_grid.get(i).copied().unwrap_or(1) } else { 1 };
                let unit = Unit {
                    channels: 64 << stage,
                    stride: step.stride,
                    dilation: step.dilation * grid,
                    after: step.after * grid,
                };
                let mut here = scope.scope(format_args!("layer{}.{i}", stage + 1));
                let (y, inner) = if self.bottleneck() {
                    bottleneck(b, &mut here, x, &unit)?
                } else {
                    basic(b, &mut here, x, &unit)?
                };
                x = y;
                if stage == 0 && strides.reached() == 4 {
                    low_level = if tap == LowLevel::TensorFlow { inner } else { x };
                }
            }
            b.stage(format!("layer{}", stage + 1), x);
            if stage == 2 {
                aux = x;
            }
        }
        Ok(Features { last: x, low_level, aux })
    }

    fn stem(&self, b: &mut Builder, scope: &mut Scope, x: ValueId) -> Result<ValueId> {
        // TensorFlow pads strided convolutions of ResNets by hand, the same on all sides; its
        // pooling is SAME.
        let symmetric = |k: usize| Padding::same(k, 1);
        let y = match self.stem {
            Stem::Single => b.layer(
                scope,
                "conv1",
                x,
                Layer::new(7, 64).stride(2).padding(symmetric(7)).relu(),
            )?,
            Stem::Beta => {
                let y = b.layer(
                    scope,
                    "conv1",
                    x,
                    Layer::new(3, 64).stride(2).padding(symmetric(3)).relu(),
                )?;
                let y = b.layer(scope, "conv2", y, Layer::new(3, 64).relu())?;
                b.layer(scope, "conv3", y, Layer::new(3, 128).relu())?
            }
        };
        b.stage("stem", y);
        let padding = match b.config.padding {
            PaddingRule::TfSame => Padding::tf_same(scope.shape(y), 3, 2, 1),
            _ => symmetric(3),
        };
        max_pool(scope, "pool", y, 3, 2, padding)
    }
}

fn unknown(depth: usize) -> crate::Error {
    error!(Config, "there is no ResNet-{depth}").advice("18, 34, 50, 101 and 152 are known")
}

fn max_pool(
    scope: &mut Scope,
    name: &str,
    x: ValueId,
    kernel: usize,
    stride: usize,
    padding: Padding,
) -> Result<ValueId> {
    let pool = MaxPool {
        kernel: (kernel, kernel),
        stride: (stride, stride),
        dilation: (1, 1),
        padding,
        ceil_mode: false,
    };
    scope.max_pool(name, x, pool)
}

/// The input as the sum wants it: itself, its every other pixel, or a convolution of it.
fn shortcut(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    stride: usize,
    channels: usize,
) -> Result<ValueId> {
    match (scope.shape(x).c == channels, stride) {
        (true, 1) => Ok(x),
        (true, _) => max_pool(scope, "subsample", x, 1, stride, Padding::default()),
        (false, _) => b.layer(
            scope,
            "downsample",
            x,
            Layer::pointwise(channels).stride(stride).padding(Padding::default()),
        ),
    }
}

/// 3x3, 3x3. Gives the unit's output, and its last convolution's before the sum.
fn basic(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    unit: &Unit,
) -> Result<(ValueId, ValueId)> {
    let c = unit.channels;
    let pad = |d| Padding::same(3, d);
    let first =
        Layer::new(3, c).stride(unit.stride).dilation(unit.dilation).padding(pad(unit.dilation));
    let y = b.layer(scope, "conv1", x, first.relu())?;
    let y =
        b.layer(scope, "conv2", y, Layer::new(3, c).dilation(unit.after).padding(pad(unit.after)))?;
    finish(b, scope, x, y, unit.stride)
}

/// 1x1, 3x3 with the stride, 1x1. Gives the unit's output, and its last convolution's before the
/// sum.
fn bottleneck(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    unit: &Unit,
) -> Result<(ValueId, ValueId)> {
    let c = unit.channels;
    let y = b.layer(scope, "conv1", x, Layer::pointwise(c).relu())?;
    let second = Layer::new(3, c).stride(unit.stride).dilation(unit.dilation);
    let y = b.layer(scope, "conv2", y, second.padding(Padding::same(3, unit.dilation)).relu())?;
    let y = b.layer(scope, "conv3", y, Layer::pointwise(4 * c))?;
    finish(b, scope, x, y, unit.stride)
}

fn finish(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    y: ValueId,
    stride: usize,
) -> Result<(ValueId, ValueId)> {
    let channels = scope.shape(y).c;
    let x = shortcut(b, scope, x, stride, channels)?;
    let sum = scope.add("add", y, x)?;
    Ok((scope.activate("relu", Activation::Relu, sum)?, y))
}
