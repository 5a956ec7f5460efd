//! Modified Aligned Xception (arXiv 1802.02611, section 3.2) with 41, 65 or 71 layers.
//!
//! Figure 4 of the paper shows batch norm and ReLU after every depthwise convolution. This module
//! follows the code that trained the released weights instead: it has that ReLU in the last unit
//! only; the other units start each separable convolution with a ReLU.

use super::conventions::LowLevel;
use super::layer::{Builder, Layer, StrideSchedule, UnitStride};
use super::spec::{BackboneSpec, Family, Features};
use crate::error::{Error, Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::Activation;
use serde::{Deserialize, Serialize};

pub(super) static FAMILY: Family = Family {
    title: "Xception",
    names: &["xception41", "xception65", "xception71"],
    more_names: None,
    pads_before_expansion: false,
    dilates_after_group: false,
    low_level_inside_unit: true,
};

/// A Modified Aligned Xception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xception {
    /// Number of layers: 41, 65 or 71.
    pub depth: usize,
    /// How its ReLUs work.
    pub variant: XceptionVariant,
}

/// How the ReLUs of an Xception work, on which two implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XceptionVariant {
    /// ReLUs leave their input as it is: TensorFlow, and timm, which is based on it.
    #[serde(rename = "tensor_flow", alias = "out_of_place")]
    OutOfPlace,
    /// ReLUs work in place, so that the shortcut of a unit reads the unit's input after the ReLU,
    /// as do the low-level features: jfzhang95's Xception-65. It differs in two more points: the last
    /// convolution of `exit1` has dilation 1 regardless of the unit's dilation; `exit2` has no ReLU
    /// between depthwise and pointwise convolutions.
    InPlace,
}

/// The shortcut of a unit, added to the output of its convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// A 1x1 convolution of the unit's input. Defined by the table instead of the shapes: at output
    /// stride 8, `entry5` of Xception-71 keeps its convolution.
    Conv,
    /// The unit's input.
    Input,
    /// No shortcut.
    None,
}

/// The flow that a unit belongs to (figure 4 of the paper).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Reduces the size of the features.
    Entry,
    /// Repeats one unit.
    Middle,
    /// Widens the features.
    Exit,
}

/// A unit: three separable convolutions and a shortcut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Name: `entry1`, ..., `middle1`, ..., `exit2`.
    pub name: String,
    /// Flow that it belongs to.
    pub flow: Flow,
    /// Output channels of the three convolutions.
    pub channels: [usize; 3],
    /// Stride of the third convolution and of the shortcut.
    pub stride: usize,
    /// Shortcut.
    pub shortcut: Shortcut,
}

impl Xception {
    /// Creates an Xception as in the paper's code.
    ///
    /// # Errors
    /// Returns an error if `depth` is not 41, 65 or 71.
    pub fn new(depth: usize) -> Result<Self> {
        let net = Self { depth, variant: XceptionVariant::OutOfPlace };
        if net.units().is_empty() { Err(unknown(depth)) } else { Ok(net) }
    }

    /// Returns the units in order. Empty if the depth is unknown.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let (entry, middle): (&[(usize, usize)], _) = match self.depth {
            41 => (&[(128, 2), (256, 2), (728, 2)], 8),
            65 => (&[(128, 2), (256, 2), (728, 2)], 16),
            71 => (&[(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)], 16),
            _ => return Vec::new(),
        };
        let unit = |flow, number, channels, stride, shortcut| {
            let name = format!("{}{number}", flow_name(flow));
            Unit { name, flow, channels, stride, shortcut }
        };
        let entry = (1..)
            .zip(entry)
            .map(|(i, &(c, stride))| unit(Flow::Entry, i, [c; 3], stride, Shortcut::Conv));
        let middle = (1..=middle).map(|i| unit(Flow::Middle, i, [728; 3], 1, Shortcut::Input));
        let exit = [
            unit(Flow::Exit, 1, [728, 1024, 1024], 2, Shortcut::Conv),
            unit(Flow::Exit, 2, [1536, 1536, 2048], 1, Shortcut::None),
        ];
        entry.chain(middle).chain(exit).collect()
    }

    /// Adds a unit. Returns its output and that of its second convolution.
    fn unit(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        unit: &Unit,
        unit_stride: UnitStride,
    ) -> Result<(ValueId, ValueId)> {
        let in_place = self.variant == XceptionVariant::InPlace;
        let last = unit.shortcut == Shortcut::None;
        let dilation = unit_stride.dilation;
        let mut dilations = match unit.flow {
            Flow::Exit if in_place && !last => [dilation, dilation, 1],
            _ => [dilation; 3],
        };
        if last {
            for (dilation, factor) in dilations.iter_mut().zip(b.conventions.multi_grid) {
                *dilation *= factor;
            }
        }
        let between = if last && !in_place { Activation::Relu } else { Activation::Identity };
        let after = if last { Activation::Relu } else { Activation::Identity };
        let (mut y, mut second) = (x, x);
        for (i, (channels, dilation)) in unit.channels.into_iter().zip(dilations).enumerate() {
            let mut scope = scope.scope(format_args!("conv{}", i + 1));
            // With in-place ReLUs, the previous unit has already applied the first one.
            if !last && (i > 0 || !in_place) {
                y = scope.activate("relu", Activation::Relu, y)?;
            }
            let stride = if i == 2 { unit_stride.stride } else { 1 };
            let depthwise = Layer::depthwise(3, scope.shape(y).c)
                .stride(stride)
                .dilation(dilation)
                .act(between);
            y = b.layer(&mut scope, "depthwise", y, depthwise)?;
            y = b.layer(&mut scope, "pointwise", y, Layer::pointwise(channels).act(after))?;
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
                Layer::pointwise(unit.channels[2]).stride(unit_stride.stride),
            )?,
        };
        Ok((scope.add("add", y, shortcut)?, second))
    }
}

impl BackboneSpec for Xception {
    fn parse(name: &str) -> Option<Self> {
        Self::new(name.strip_prefix("xception")?.parse().ok()?).ok()
    }

    fn title(&self) -> String {
        format!("Xception-{}", self.depth)
    }

    fn validate(&self) -> Result<()> {
        if self.units().is_empty() { Err(unknown(self.depth)) } else { Ok(()) }
    }

    fn grid_units(&self) -> usize {
        // The three convolutions of the last unit.
        3
    }

    /// Builds the network on `x` `[N, H, W, C]`. The last features have 2048 channels. The
    /// low-level features have 256 with [`LowLevel::InsideUnit`], else 128 (Xception-71: 256).
    fn build(
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
        let mut strides = StrideSchedule::new(&b.conventions, 2);
        let (mut low_level, mut aux) = (x, x);
        for unit in self.units() {
            let stride_before = strides.total_stride();
            let unit_stride = strides.advance(unit.stride);
            let mut scope = scope.scope(&unit.name);
            let (sum, second) = self.unit(b, &mut scope, x, &unit, unit_stride)?;
            x = match self.variant {
                XceptionVariant::InPlace if unit.shortcut != Shortcut::None => {
                    scope.activate("relu", Activation::Relu, sum)?
                }
                _ => sum,
            };
            match (tap, stride_before, strides.total_stride()) {
                (LowLevel::Stage, _, 4) => low_level = b.stage(&unit.name, x),
                // In the unit that goes from stride 4 to stride 8, the second convolution is still
                // at stride 4.
                (LowLevel::InsideUnit, 4, 8) => {
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
}

fn flow_name(flow: Flow) -> &'static str {
    match flow {
        Flow::Entry => "entry",
        Flow::Middle => "middle",
        Flow::Exit => "exit",
    }
}

fn unknown(depth: usize) -> Error {
    error!(Config, "unknown Xception-{depth}").advice("the depth must be 41, 65 or 71")
}
