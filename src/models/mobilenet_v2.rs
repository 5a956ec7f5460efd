//! MobileNetV2 (Sandler et al., arXiv 1801.04381) with any width multiplier.

use super::conventions::{DilationRule, LowLevel, PaddingRule};
use super::layer::{Builder, Layer, StrideSchedule, UnitStride};
use super::spec::{BackboneSpec, Family, Features};
use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::{Activation, Padding};
use serde::{Deserialize, Serialize};

pub(super) static FAMILY: Family = Family {
    title: "MobileNetV2",
    names: &["mobilenet_v2"],
    more_names: Some("mobilenet_v2_W with a width multiplier W such as 0.5"),
    pads_before_expansion: true,
    dilates_after_group: true,
    low_level_inside_unit: true,
};

/// Channels, repeats and stride of the groups of blocks at width 1 (the paper's table 2).
const GROUPS: [(usize, usize, usize); 7] =
    [(16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)];

/// A MobileNetV2, described by its channels: implementations round them differently at widths other
/// than 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MobileNetV2 {
    /// Channels of the first convolution.
    pub stem: usize,
    /// Channels of the seven groups of blocks.
    pub channels: [usize; 7],
    /// Expansion factor of the blocks. The first block has no expansion.
    pub expansion: usize,
    /// Channels of the last 1x1 layer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// Whether the features are the output of the last 1x1 layer (SMP) instead of the last block.
    #[serde(default)]
    pub last_is_features: bool,
}

impl MobileNetV2 {
    /// Index of the last block of each of the seven groups.
    pub const LAST_BLOCKS: [usize; 7] = [0, 2, 5, 9, 12, 15, 16];

    /// Creates a MobileNetV2 with all channels multiplied by `width` and rounded to a multiple of
    /// `divisor`, but down by at most 10 % (as in the paper's code). TensorFlow's DeepLab uses
    /// divisor 1 at widths below 1, torchvision and Hugging Face use 8.
    pub fn with_width(width: f64, divisor: usize) -> Self {
        let round = |channels: usize| make_divisible(channels as f64 * width, divisor);
        Self {
            stem: round(32),
            channels: GROUPS.map(|g| round(g.0)),
            expansion: 6,
            last: None,
            last_is_features: false,
        }
    }

    /// Adds a block: 1x1 expansion, 3x3 depthwise, 1x1 projection. Returns the output of the block
    /// and that of its depthwise layer.
    fn block(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        channels: usize,
        unit: UnitStride,
        expand: bool,
    ) -> Result<(ValueId, ValueId)> {
        let c = scope.shape(x).c;
        let expanded = if expand { c * self.expansion } else { c };
        let mut expansion = Layer::pointwise(expanded).act(Activation::Relu6);
        let mut depthwise = Layer::depthwise(3, expanded)
            .stride(unit.stride)
            .dilation(unit.dilation)
            .act(Activation::Relu6);
        if expand && matches!(b.conventions.padding, PaddingRule::BeforeExpansion { .. }) {
            expansion = expansion.padding(Padding::same(3, unit.dilation));
            depthwise = depthwise.padding(Padding::default());
        }
        let y = if expand { b.layer(scope, "expand", x, expansion)? } else { x };
        let inner = b.layer(scope, "depthwise", y, depthwise)?;
        let y = b.layer(scope, "project", inner, Layer::pointwise(channels))?;
        // The residual depends on the stride after dilation, as in TensorFlow, Hugging Face and
        // VainF.
        let y = if unit.stride == 1 && c == channels { scope.add("add", y, x)? } else { y };
        Ok((y, inner))
    }
}

impl BackboneSpec for MobileNetV2 {
    fn parse(name: &str) -> Option<Self> {
        let width = match name.strip_prefix("mobilenet_v2")? {
            "" => 1.0,
            width => width.strip_prefix('_')?.parse().ok().filter(|w| (0.05..=4.0).contains(w))?,
        };
        Some(Self::with_width(width, 8))
    }

    fn title(&self) -> String {
        match self.channels[6] as f64 / 320.0 {
            1.0 => "MobileNetV2".to_owned(),
            width => format!("MobileNetV2 x{width:.2}"),
        }
    }

    fn validate(&self) -> Result<()> {
        const MAX_CHANNELS: usize = 1 << 14;
        const MAX_EXPANSION: usize = 16;
        let other_channels = [self.stem, self.last.unwrap_or(1)];
        let mut channels = other_channels.iter().chain(&self.channels);
        if !channels.all(|c| (1..=MAX_CHANNELS).contains(c))
            || !(1..=MAX_EXPANSION).contains(&self.expansion)
        {
            return Err(error!(
                Config,
                "MobileNetV2 channels must be 1 to {MAX_CHANNELS} and the expansion 1 to {MAX_EXPANSION}, got {self:?}"
            ));
        }
        if self.last_is_features && self.last.is_none() {
            return Err(error!(Config, "`last_is_features` requires the last 1x1 layer"));
        }
        Ok(())
    }

    fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        let mut stem = Layer::new(3, self.stem).stride(2).act(Activation::Relu6);
        if let PaddingRule::BeforeExpansion { stem: padding } = b.conventions.padding {
            stem = stem.padding(Padding::all(padding));
        }
        let mut x = b.layer(&mut scope.scope("stem"), "conv1", x, stem)?;
        b.stage("stem", x);
        let mut strides = StrideSchedule::new(&b.conventions, 2);
        let (mut low_level, mut aux, mut block) = (x, x, 0);
        for ((_, repeats, first_stride), channels) in GROUPS.into_iter().zip(self.channels) {
            let first = strides.advance(first_stride);
            for i in 0..repeats {
                let unit = match b.conventions.dilation {
                    _ if i == 0 => first,
                    DilationRule::AfterGroup => UnitStride { stride: 1, ..first },
                    _ => strides.advance(1),
                };
                let (y, inner) = self.block(
                    b,
                    &mut scope.scope(format_args!("block{block}")),
                    x,
                    channels,
                    unit,
                    block > 0,
                )?;
                x = b.stage(format!("block{block}"), y);
                match block {
                    2 => low_level = if tap == LowLevel::InsideUnit { inner } else { x },
                    5 => aux = x,
                    _ => {}
                }
                block += 1;
            }
        }
        let mut last = x;
        if let Some(channels) = self.last {
            let y = b.layer(scope, "last", x, Layer::pointwise(channels).act(Activation::Relu6))?;
            b.stage("last", y);
            if self.last_is_features {
                last = y;
            }
        }
        Ok(Features { last, low_level, aux })
    }
}

/// Rounds `value` to the nearest multiple of `divisor` that is at least 90 % of it.
pub(super) fn make_divisible(value: f64, divisor: usize) -> usize {
    let d = divisor.max(1) as f64;
    let rounded = ((value + d / 2.0) / d).floor().max(1.0) * d;
    (if rounded < 0.9 * value { rounded + d } else { rounded }) as usize
}
