//! The residual units of ResNets.

use super::layer::{Builder, Layer};
use super::resnet::ResNet;
use crate::error::Result;
use crate::geometry::{Size, Spacing};
use crate::graph::{Scope, ValueId};
use crate::ops::{Activation, MaxPool, Padding};

/// Factor by which squeeze-and-excite reduces the channels.
const REDUCTION: usize = 16;

/// Parameters of a unit.
pub(super) struct Unit<'n> {
    pub net: &'n ResNet,
    /// Number of the stage, from 0.
    pub stage: usize,
    pub stride: usize,
    /// Dilation of the strided layer.
    pub dilation: usize,
    /// Dilation of the layers after it.
    pub next_dilation: usize,
}

impl Unit<'_> {
    /// Returns the channels of the stage before the expansion of bottlenecks.
    fn channels(&self) -> usize {
        64 << self.stage
    }
}

/// Adds a max pooling with a window, a stride and a padding.
pub(super) fn max_pool(
    scope: &mut Scope,
    name: &str,
    x: ValueId,
    (kernel, stride, padding): (usize, usize, Padding),
    ceil_mode: bool,
) -> Result<ValueId> {
    let pool = MaxPool {
        kernel: Size::square(kernel),
        stride: Spacing::square(stride),
        dilation: Spacing::ONE,
        padding,
        ceil_mode,
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
        (true, _) => max_pool(scope, "subsample", x, (1, stride, Padding::default()), false),
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
pub(super) fn basic(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    unit: &Unit,
) -> Result<(ValueId, ValueId)> {
    let c = unit.channels();
    let pad = |d| Padding::same(3, d);
    let first =
        Layer::new(3, c).stride(unit.stride).dilation(unit.dilation).padding(pad(unit.dilation));
    let y = b.layer(scope, "conv1", x, first.relu())?;
    let dilation = if unit.net.second_undilated { 1 } else { unit.next_dilation };
    let second = Layer::new(3, c).dilation(dilation).padding(pad(dilation));
    let y = b.layer(scope, "conv2", y, second)?;
    residual(b, scope, x, y, unit)
}

/// Adds a bottleneck unit: 1x1, 3x3, 1x1, of which the second (or the first) has the stride. Returns
/// the output of the unit and that of its last convolution, before the sum.
pub(super) fn bottleneck(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    unit: &Unit,
) -> Result<(ValueId, ValueId)> {
    let ResNet { groups, group_width, first_strided, .. } = *unit.net;
    let width = groups * (group_width << unit.stage);
    let (first_stride, stride) = if first_strided { (unit.stride, 1) } else { (1, unit.stride) };
    let first = Layer::pointwise(width).stride(first_stride).padding(Padding::default());
    let y = b.layer(scope, "conv1", x, first.relu())?;
    let second = Layer::new(3, width).groups(groups).stride(stride).dilation(unit.dilation);
    let y = b.layer(scope, "conv2", y, second.padding(Padding::same(3, unit.dilation)).relu())?;
    let y = b.layer(scope, "conv3", y, Layer::pointwise(4 * unit.channels()))?;
    residual(b, scope, x, y, unit)
}

/// Adds the shortcut and the final ReLU of a unit with input `x` and last convolution `y`. Returns
/// the output of the unit and `y`.
fn residual(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    y: ValueId,
    unit: &Unit,
) -> Result<(ValueId, ValueId)> {
    let channels = scope.shape(y).c;
    let gated =
        if unit.net.squeeze_excite { squeeze_excite(b, &mut scope.scope("se"), y)? } else { y };
    let x = shortcut(b, scope, x, unit.stride, channels)?;
    let sum = scope.add("add", gated, x)?;
    Ok((scope.activate("relu", Activation::Relu, sum)?, y))
}

/// Adds squeeze-and-excite: scales each channel by a gate, which two 1x1 layers compute from the
/// channel means.
fn squeeze_excite(b: &mut Builder, scope: &mut Scope, x: ValueId) -> Result<ValueId> {
    let c = scope.shape(x).c;
    let y = scope.global_avg_pool("mean", x)?;
    let y = b.layer(scope, "fc1", y, Layer::pointwise(c / REDUCTION).biased().relu())?;
    let y = b.layer(scope, "fc2", y, Layer::pointwise(c).biased().act(Activation::Sigmoid))?;
    scope.mul("scale", x, y)
}
