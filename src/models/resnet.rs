//! ResNet (He et al., arXiv 1512.03385) with 18, 34, 50, 101 or 152 layers, and the 7x7 stem or
//! TensorFlow's three 3x3 convolutions ("beta").

use super::conventions::{LowLevel, PaddingRule};
use super::layer::{Builder, Layer, StrideSchedule};
use super::spec::{BackboneSpec, Family, Features};
use crate::error::{Result, error};
use crate::geometry::{Size, Spacing};
use crate::graph::{Scope, ValueId};
use crate::ops::{Activation, MaxPool, Padding};
use serde::{Deserialize, Serialize};

pub(super) static FAMILY: Family = Family {
    title: "ResNet",
    names: &[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnet50_beta",
        "resnet101_beta",
    ],
    more_names: None,
    pads_before_expansion: false,
    dilates_after_group: false,
    low_level_inside_unit: true,
};

/// A ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNet {
    /// Number of layers: 18 or 34 (units of 3x3, 3x3), 50, 101 or 152 (units of 1x1, 3x3, 1x1).
    pub depth: usize,
    /// Convolutions before the pooling.
    pub stem: Stem,
    /// The unit of each stage that has the stride.
    pub strided: Strided,
}

/// Convolutions before the pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 7x7 with stride 2 to 64 channels.
    Single,
    /// 3x3 with stride 2 to 64, 3x3 to 64, 3x3 to 128 (TensorFlow's `resnet_v1_*_beta`).
    Beta,
}

/// The unit of each stage that has the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strided {
    /// The first unit of `layer2` to `layer4` (PyTorch).
    First,
    /// The last unit of `layer1` to `layer3` (TensorFlow).
    Last,
}

/// Parameters of a unit.
struct Unit {
    channels: usize,
    stride: usize,
    /// Dilation of the strided layer.
    dilation: usize,
    /// Dilation of the layers after it.
    next_dilation: usize,
}

impl ResNet {
    /// Creates a ResNet with the 7x7 stem and PyTorch's strides.
    ///
    /// # Errors
    /// Returns an error if `depth` is not 18, 34, 50, 101 or 152.
    pub fn new(depth: usize) -> Result<Self> {
        let net = Self { depth, stem: Stem::Single, strided: Strided::First };
        match net.known_units() {
            Some(_) => Ok(net),
            None => Err(unknown(depth)),
        }
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

    /// Returns the number of units of `layer1` to `layer4`.
    pub fn units(&self) -> [usize; 4] {
        self.known_units().unwrap_or_default()
    }

    /// Returns whether the units are bottlenecks: 1x1, 3x3, then 1x1 to four times the channels.
    pub fn bottleneck(&self) -> bool {
        self.depth >= 50
    }

    fn stem(&self, b: &mut Builder, scope: &mut Scope, x: ValueId) -> Result<ValueId> {
        // TensorFlow pads the strided convolutions of ResNets explicitly, with the same padding on
        // all sides; its pooling uses SAME.
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
        let padding = match b.conventions.padding {
            PaddingRule::TfSame => Padding::tf_same(scope.shape(y).size(), 3, 2, 1),
            _ => symmetric(3),
        };
        max_pool(scope, "pool", y, 3, 2, padding)
    }
}

impl BackboneSpec for ResNet {
    fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix("resnet")? {
            "50_beta" => Some(Self { depth: 50, stem: Stem::Beta, strided: Strided::Last }),
            "101_beta" => Some(Self { depth: 101, stem: Stem::Beta, strided: Strided::Last }),
            depth => Self::new(depth.parse().ok()?).ok(),
        }
    }

    fn title(&self) -> String {
        format!("ResNet-{}{}", self.depth, if self.stem == Stem::Beta { " (beta)" } else { "" })
    }

    fn validate(&self) -> Result<()> {
        self.known_units().map(drop).ok_or_else(|| unknown(self.depth))
    }

    fn grid_units(&self) -> usize {
        self.units()[3]
    }

    fn paper_multi_grid(&self) -> Vec<usize> {
        if self.stem == Stem::Beta { vec![1, 2, 4] } else { Vec::new() }
    }

    fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        let mut x = self.stem(b, &mut scope.scope("stem"), x)?;
        let mut strides = StrideSchedule::new(&b.conventions, 4);
        let (mut low_level, mut aux) = (x, x);
        for (stage, units) in self.units().into_iter().enumerate() {
            for i in 0..units {
                let stride = match self.strided {
                    Strided::First => 1 + usize::from(stage > 0 && i == 0),
                    Strided::Last => 1 + usize::from(stage < 3 && i + 1 == units),
                };
                let unit_stride = strides.advance(stride);
                let grid = if stage == 3 {
                    b.conventions.multi_grid.get(i).copied().unwrap_or(1)
                } else {
                    1
                };
                let unit = Unit {
                    channels: 64 << stage,
                    stride: unit_stride.stride,
                    dilation: unit_stride.dilation * grid,
                    next_dilation: unit_stride.next_dilation * grid,
                };
                let mut scope = scope.scope(format_args!("layer{}.{i}", stage + 1));
                let (y, inner) = if self.bottleneck() {
                    bottleneck(b, &mut scope, x, &unit)?
                } else {
                    basic(b, &mut scope, x, &unit)?
                };
                x = y;
                if stage == 0 && strides.total_stride() == 4 {
                    low_level = if tap == LowLevel::InsideUnit { inner } else { x };
                }
            }
            b.stage(format!("layer{}", stage + 1), x);
            if stage == 2 {
                aux = x;
            }
        }
        Ok(Features { last: x, low_level, aux })
    }
}

fn unknown(depth: usize) -> crate::Error {
    error!(Config, "unknown ResNet-{depth}").advice("the depth must be 18, 34, 50, 101 or 152")
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
        kernel: Size::square(kernel),
        stride: Spacing::square(stride),
        dilation: Spacing::ONE,
        padding,
        ceil_mode: false,
    };
    scope.max_pool(name, x, pool)
}

/// Adds the shortcut of a unit: its input, the input subsampled, or a 1x1 convolution of it.
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

/// Adds a basic unit: 3x3, 3x3. Returns the output of the unit and that of its last convolution,
/// before the sum.
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
    let second = Layer::new(3, c).dilation(unit.next_dilation).padding(pad(unit.next_dilation));
    let y = b.layer(scope, "conv2", y, second)?;
    residual(b, scope, x, y, unit.stride)
}

/// Adds a bottleneck unit: 1x1, 3x3 with the stride, 1x1. Returns the output of the unit and that
/// of its last convolution, before the sum.
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
    residual(b, scope, x, y, unit.stride)
}

/// Adds the shortcut and the final ReLU of a unit with input `x` and last convolution `y`. Returns
/// the output of the unit and `y`.
fn residual(
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
