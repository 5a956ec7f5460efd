//! ResNet (He et al., arXiv 1512.03385) with 18, 34, 50, 101 or 152 layers, and its variants: stems
//! of three 3x3 convolutions, grouped convolutions (ResNeXt, arXiv 1611.05431), wide bottlenecks
//! (arXiv 1605.07146), squeeze-and-excite (SE-ResNet, arXiv 1709.01507).

use super::conventions::{LowLevel, PaddingRule};
use super::layer::{Builder, Layer, StrideSchedule};
use super::resnet_units::{Unit, basic, bottleneck, max_pool};
use super::spec::{BackboneSpec, Family, Features};
use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::Padding;
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
        "resnet50_v1c",
        "resnet101_v1c",
        "resnext50_32x4d",
        "resnext101_32x4d",
        "resnext101_32x8d",
        "wide_resnet50_2",
        "wide_resnet101_2",
        "se_resnet50",
        "se_resnet101",
        "se_resnet152",
        "se_resnext50_32x4d",
        "se_resnext101_32x4d",
        "seresnet50",
    ],
    more_names: Some(
        "resnextD_GxWd with D layers, G groups and W channels per group, such as resnext101_64x4d",
    ),
    pads_before_expansion: false,
    dilates_after_group: false,
    low_level_inside_unit: true,
};

/// Maximum number of channels inside a bottleneck of the first stage.
const MAX_WIDTH: usize = 4096;

/// A ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNet {
    /// Number of layers: 18 or 34 (units of 3x3, 3x3), 50, 101 or 152 (units of 1x1, 3x3, 1x1).
    pub depth: usize,
    /// Convolutions before the pooling.
    pub stem: Stem,
    /// The unit of each stage that has the stride.
    pub strided: Strided,
    /// Number of groups of a bottleneck's 3x3 convolution.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Channels of a group in the first stage. A bottleneck of stage `n`, counted from 0, has
    /// `groups * group_width * 2^n` channels inside.
    #[serde(default = "undivided", skip_serializing_if = "is_undivided")]
    pub group_width: usize,
    /// Whether the units have squeeze-and-excite with a reduction by 16.
    #[serde(default, skip_serializing_if = "is_false")]
    pub squeeze_excite: bool,
    /// Whether the first convolution of a bottleneck has the stride, and not the second (Caffe's
    /// SE-ResNet).
    #[serde(default, skip_serializing_if = "is_false")]
    pub first_strided: bool,
    /// Whether the pooling after the stem is without padding, and rounds its size up (Caffe's
    /// SE-ResNet).
    #[serde(default, skip_serializing_if = "is_false")]
    pub unpadded_pool: bool,
    /// Whether the second convolution of a basic unit is never dilated (OpenMMLab).
    #[serde(default, skip_serializing_if = "is_false")]
    pub second_undilated: bool,
}

fn one() -> usize {
    1
}

fn undivided() -> usize {
    64
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(n: &usize) -> bool {
    *n == one()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_undivided(n: &usize) -> bool {
    *n == undivided()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Convolutions before the pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 7x7 with stride 2 to 64 channels.
    Single,
    /// 3x3 with stride 2 to 64, 3x3 to 64, 3x3 to 128 (TensorFlow's `resnet_v1_*_beta`).
    Beta,
    /// 3x3 with stride 2 to 32, 3x3 to 32, 3x3 to 64 (ResNet-v1c of OpenMMLab).
    #[serde(rename = "v1c")]
    V1c,
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

impl ResNet {
    /// Creates a ResNet with the 7x7 stem and PyTorch's strides.
    ///
    /// # Errors
    /// Returns an error if `depth` is not 18, 34, 50, 101 or 152.
    pub fn new(depth: usize) -> Result<Self> {
        let net = Self {
            depth,
            stem: Stem::Single,
            strided: Strided::First,
            groups: one(),
            group_width: undivided(),
            squeeze_excite: false,
            first_strided: false,
            unpadded_pool: false,
            second_undilated: false,
        };
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
            Stem::Beta | Stem::V1c => {
                let [c1, c2] = if self.stem == Stem::Beta { [64, 128] } else { [32, 64] };
                let first = Layer::new(3, c1).stride(2).padding(symmetric(3)).relu();
                let y = b.layer(scope, "conv1", x, first)?;
                let y = b.layer(scope, "conv2", y, Layer::new(3, c1).relu())?;
                b.layer(scope, "conv3", y, Layer::new(3, c2).relu())?
            }
        };
        b.stage("stem", y);
        let padding = match b.conventions.padding {
            _ if self.unpadded_pool => Padding::default(),
            PaddingRule::TfSame => Padding::tf_same(scope.shape(y).size(), 3, 2, 1),
            _ => symmetric(3),
        };
        max_pool(scope, "pool", y, (3, 2, padding), self.unpadded_pool)
    }

    /// Parses depth, groups and their width: `50_32x4d`.
    fn parse_groups(text: &str) -> Option<Self> {
        let (depth, size) = text.split_once('_')?;
        let (groups, width) = size.strip_suffix('d')?.split_once('x')?;
        let (groups, group_width) = (groups.parse().ok()?, width.parse().ok()?);
        Some(Self { groups, group_width, ..Self::new(depth.parse().ok()?).ok()? })
    }

    /// Returns the name on the command line without the depth: the variant.
    fn parse_variant(name: &str) -> Option<Self> {
        let (squeeze, name) = match name.strip_prefix("se_") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let mut net = if let Some(rest) = name.strip_prefix("resnext") {
            Self::parse_groups(rest)?
        } else if let Some(rest) = name.strip_prefix("seresnext").filter(|_| !squeeze) {
            Self { squeeze_excite: true, ..Self::parse_groups(rest)? }
        } else if let Some(depth) = name.strip_prefix("wide_resnet") {
            let depth = depth.strip_suffix("_2")?.parse().ok()?;
            Self { group_width: 128, ..Self::new(depth).ok()? }
        } else if let Some(depth) = name.strip_prefix("seresnet").filter(|_| !squeeze) {
            Self { squeeze_excite: true, ..Self::new(depth.parse().ok()?).ok()? }
        } else {
            let depth = name.strip_prefix("resnet")?;
            match depth.strip_suffix("_v1c") {
                Some(depth) if !squeeze => {
                    Self { stem: Stem::V1c, ..Self::new(depth.parse().ok()?).ok()? }
                }
                _ => Self::new(depth.parse().ok()?).ok()?,
            }
        };
        if squeeze {
            net = net.with_caffe_squeeze_excite();
        }
        net.validate().ok().map(|()| net)
    }

    /// Returns the SE-ResNet or SE-ResNeXt of the paper's authors, trained with Caffe.
    #[must_use]
    pub fn with_caffe_squeeze_excite(self) -> Self {
        Self { squeeze_excite: true, first_strided: self.groups == 1, unpadded_pool: true, ..self }
    }
}

impl BackboneSpec for ResNet {
    fn parse(name: &str) -> Option<Self> {
        let depth = match name {
            "resnet50_beta" => 50,
            "resnet101_beta" => 101,
            _ => return Self::parse_variant(name),
        };
        Some(Self { stem: Stem::Beta, strided: Strided::Last, ..Self::new(depth).ok()? })
    }

    fn title(&self) -> String {
        let family = match (self.squeeze_excite, self.unpadded_pool, self.groups > 1) {
            (true, true, true) => "SE-ResNeXt",
            (true, true, false) => "SE-ResNet",
            (true, false, true) => "SEResNeXt",
            (true, false, false) => "SEResNet",
            (false, _, true) => "ResNeXt",
            (false, _, false) if self.group_width > undivided() => "Wide-ResNet",
            _ => "ResNet",
        };
        let depth = self.depth;
        let size = match (self.groups, self.group_width) {
            (1, 64) => String::new(),
            (1, width) if width.is_multiple_of(64) => format!("-{}", width / 64),
            (groups, width) => format!(" {groups}x{width}d"),
        };
        let stem = match self.stem {
            Stem::Single => "",
            Stem::Beta => " (beta)",
            Stem::V1c => "-v1c",
        };
        format!("{family}-{depth}{size}{stem}")
    }

    fn validate(&self) -> Result<()> {
        self.known_units().ok_or_else(|| unknown(self.depth))?;
        let (groups, width) = (self.groups, self.group_width);
        let divided = groups != 1 || width != undivided();
        if divided && !self.bottleneck() {
            return Err(error!(Config, "the units of ResNet-{} have no groups", self.depth));
        }
        // The widest published network is ResNeXt-101 32x48d.
        if groups == 0 || width == 0 || groups.saturating_mul(width) > MAX_WIDTH {
            return Err(error!(
                Config,
                "a bottleneck of {groups} groups of {width} channels is not supported"
            )
            .advice(format!("their product must be 1 to {MAX_WIDTH}")));
        }
        Ok(())
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
                    net: self,
                    stage,
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
