//! MobileNetV3-Large (Howard et al., arXiv 1905.02244).

use super::backbone::Features;
use super::config::{Config, Decoder, LowLevel, PaddingRule};
use super::layer::{Builder, Layer, Strides};
use super::mobilenet_v2::make_divisible;
use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::Activation;
use serde::{Deserialize, Serialize};

/// MobileNetV3-Large at width 1, with the layer of 960 channels after its blocks. Its only form:
/// nothing to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MobileNetV3 {}

/// A row of table 1 of the paper: kernel, channels inside, channels, squeeze-and-excite,
/// activation, stride.
type Row = (usize, usize, usize, bool, Activation, usize);

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSwish;
const ROWS: [Row; 15] = [
    (3, 16, 16, false, RE, 1),
    (3, 64, 24, false, RE, 2),
    (3, 72, 24, false, RE, 1),
    (5, 72, 40, true, RE, 2),
    (5, 120, 40, true, RE, 1),
    (5, 120, 40, true, RE, 1),
    (3, 240, 80, false, HS, 2),
    (3, 200, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 480, 112, true, HS, 1),
    (3, 672, 112, true, HS, 1),
    (5, 672, 160, true, HS, 2),
    (5, 960, 160, true, HS, 1),
    (5, 960, 160, true, HS, 1),
];
const LAST: usize = 960;

/// Whether a block has layers of these kinds, for the dialects' numbering: expansion,
/// squeeze-and-excite.
pub(crate) fn block_has(block: usize) -> Option<(bool, bool)> {
    let &(_, inside, _, squeeze, _, _) = ROWS.get(block)?;
    let before = if block == 0 { 16 } else { ROWS[block - 1].2 };
    Some((inside != before, squeeze))
}

impl MobileNetV3 {
    pub(super) fn title(&self) -> String {
        "MobileNetV3-Large".to_owned()
    }

    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        if matches!(config.padding, PaddingRule::BeforeExpansion { .. }) {
            return Err(error!(
                Config,
                "padding before the expansion is for MobileNetV2, not {}",
                self.title()
            ));
        }
        match config.head.as_ref().map(|h| &h.decoder) {
            Some(Decoder::Plus(plus)) if plus.low_level == LowLevel::TensorFlow => {
                Err(error!(Config, "{} has no inner place for low-level features", self.title()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        _tap: LowLevel,
    ) -> Result<Features> {
        let mut x =
            b.layer(&mut scope.scope("stem"), "conv1", x, Layer::new(3, 16).stride(2).act(HS))?;
        b.stage("stem", x);
        let mut strides = Strides::new(b.config, 2);
        let (mut low_level, mut aux) = (x, x);
        for (i, row) in ROWS.iter().enumerate() {
            x = block(b, &mut scope.scope(format_args!("block{i}")), x, row, &mut strides)?;
            b.stage(format!("block{i}"), x);
            match i {
                2 => low_level = x,
                3 => aux = x,
                _ => {}
            }
        }
        let last = b.layer(scope, "last", x, Layer::pointwise(LAST).act(HS))?;
        b.stage("last", last);
        Ok(Features { last, low_level, aux })
    }
}

fn block(
    b: &mut Builder,
    scope: &mut Scope,
    x: ValueId,
    row: &Row,
    strides: &mut Strides,
) -> Result<ValueId> {
    let &(kernel, inside, channels, squeeze, activation, stride) = row;
    let c = scope.shape(x).c;
    let step = strides.step(stride);
    let mut y = x;
    if inside != c {
        y = b.layer(scope, "expand", y, Layer::pointwise(inside).act(activation))?;
    }
    let depthwise = Layer::depthwise(kernel, inside)
        .stride(step.stride)
        .dilation(step.dilation)
        .act(activation);
    y = b.layer(scope, "depthwise", y, depthwise)?;
    if squeeze {
        y = squeeze_excite(b, &mut scope.scope("se"), y)?;
    }
    y = b.layer(scope, "project", y, Layer::pointwise(channels))?;
    // torchvision decides by the stride that the table states, before dilation.
    if stride == 1 && c == channels { scope.add("add", y, x) } else { Ok(y) }
}

/// Scales channels by what two 1x1 layers make of their means (section 5.3).
fn squeeze_excite(b: &mut Builder, scope: &mut Scope, x: ValueId) -> Result<ValueId> {
    let c = scope.shape(x).c;
    let y = scope.global_avg_pool("mean", x)?;
    let y = b.layer(
        scope,
        "fc1",
        y,
        Layer::pointwise(make_divisible((c / 4) as f64, 8)).biased().relu(),
    )?;
    let y = b.layer(scope, "fc2", y, Layer::pointwise(c).biased().act(Activation::HardSigmoid))?;
    scope.mul("scale", x, y)
}
