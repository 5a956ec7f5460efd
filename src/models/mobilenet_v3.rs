//! MobileNetV3-Large (Howard et al., arXiv 1905.02244).

use super::conventions::LowLevel;
use super::layer::{Builder, Layer, StrideSchedule};
use super::mobilenet_v2::make_divisible;
use super::spec::{BackboneSpec, Family, Features};
use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::ops::Activation;
use serde::{Deserialize, Serialize};

pub(super) static FAMILY: Family = Family {
    title: "MobileNetV3",
    names: &["mobilenet_v3"],
    more_names: None,
    pads_before_expansion: false,
    dilates_after_group: false,
    low_level_inside_unit: false,
};

/// MobileNetV3-Large at width 1, with the layer of 960 channels after its blocks. It has no
/// parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MobileNetV3 {}

/// A row of the paper's table 1: kernel size, expanded channels, output channels,
/// squeeze-and-excite, activation, stride.
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

/// Optional layers of a block.
pub(crate) struct BlockLayers {
    /// Whether the block has a 1x1 expansion.
    pub expansion: bool,
    /// Whether the block has squeeze-and-excite.
    pub squeeze_excite: bool,
}

/// Returns the optional layers of a block, on which the layer numbers of the dialects depend.
/// `None` for a block that does not exist.
pub(crate) fn block_layers(block: usize) -> Option<BlockLayers> {
    let &(_, expanded, _, squeeze_excite, _, _) = ROWS.get(block)?;
    let input_channels = if block == 0 { 16 } else { ROWS[block - 1].2 };
    Some(BlockLayers { expansion: expanded != input_channels, squeeze_excite })
}

impl BackboneSpec for MobileNetV3 {
    fn parse(name: &str) -> Option<Self> {
        (name == "mobilenet_v3").then_some(Self {})
    }

    fn title(&self) -> String {
        "MobileNetV3-Large".to_owned()
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        _tap: LowLevel,
    ) -> Result<Features> {
        let mut x =
            b.layer(&mut scope.scope("stem"), "conv1", x, Layer::new(3, 16).stride(2).act(HS))?;
        b.stage("stem", x);
        let mut strides = StrideSchedule::new(&b.conventions, 2);
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
    strides: &mut StrideSchedule,
) -> Result<ValueId> {
    let &(kernel, expanded, channels, squeeze, activation, stride) = row;
    let c = scope.shape(x).c;
    let unit = strides.advance(stride);
    let mut y = x;
    if expanded != c {
        y = b.layer(scope, "expand", y, Layer::pointwise(expanded).act(activation))?;
    }
    let depthwise = Layer::depthwise(kernel, expanded)
        .stride(unit.stride)
        .dilation(unit.dilation)
        .act(activation);
    y = b.layer(scope, "depthwise", y, depthwise)?;
    if squeeze {
        y = squeeze_excite(b, &mut scope.scope("se"), y)?;
    }
    y = b.layer(scope, "project", y, Layer::pointwise(channels))?;
    // The residual depends on the stride of the table, before dilation, as in torchvision.
    if stride == 1 && c == channels { scope.add("add", y, x) } else { Ok(y) }
}

/// Adds squeeze-and-excite (section 5.3): scales each channel by a gate, which two 1x1 layers
/// compute from the channel means.
fn squeeze_excite(b: &mut Builder, scope: &mut Scope, x: ValueId) -> Result<ValueId> {
    let c = scope.shape(x).c;
    let squeezed = make_divisible((c / 4) as f64, 8);
    let y = scope.global_avg_pool("mean", x)?;
    let y = b.layer(scope, "fc1", y, Layer::pointwise(squeezed).biased().relu())?;
    let y = b.layer(scope, "fc2", y, Layer::pointwise(c).biased().act(Activation::HardSigmoid))?;
    scope.mul("scale", x, y)
}
