//! Conventions in which code bases differ, as plain data: a config stores them, and the builders of
//! layers and backbones follow them.

use serde::{Deserialize, Serialize};

/// Dilation of a stage beyond the output stride. "First unit" is the one that had the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DilationRule {
    /// The first unit keeps the dilation of the previous stage, the remaining units use the new
    /// one: ResNets of torchvision and VainF, networks of TensorFlow and Hugging Face, MobileNetV2
    /// of VainF.
    AfterStride,
    /// Every unit uses the new dilation: SMP, jfzhang95, MobileNetV3 of torchvision.
    WholeStage,
    /// The group of blocks that lost its stride keeps the dilation of the previous group, the next
    /// group uses the new one: MobileNetV2 of jfzhang95.
    AfterGroup,
}

/// Padding of the backbone's convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingRule {
    /// `dilation * (k - 1) / 2` on every side.
    Symmetric,
    /// TensorFlow's `SAME`: strided layers pad even sizes at the bottom and right only.
    TfSame,
    /// MobileNetV2 of VainF and jfzhang95: a block is padded before its expansion, so that the
    /// border of the depthwise convolution's input contains the expansion's bias.
    BeforeExpansion {
        /// Padding of the stem in pixels: 0 for VainF, 1 for jfzhang95.
        stem: usize,
    },
}

/// Representation of the batch norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Separate layers with running mean and variance.
    Separate,
    /// Folded into the convolutions, which have a bias.
    Folded,
}

/// Epsilon of batch norms, added to the variance before the square root.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Eps {
    /// In the backbone.
    pub backbone: f32,
    /// In ASPP, decoder and auxiliary head.
    pub head: f32,
}

/// Source of the low-level features, at a quarter of the image size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowLevel {
    /// The output of the last unit at that size.
    Stage,
    /// A value inside a unit, as in TensorFlow's DeepLab: the last convolution of a ResNet's unit
    /// before the sum, the depthwise convolution of MobileNetV2, the second convolution of
    /// Xception's unit.
    #[serde(rename = "tensor_flow", alias = "inside_unit")]
    InsideUnit,
}

/// Kind of the head's 3x3 convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvKind {
    /// One convolution.
    Plain,
    /// Depthwise, then 1x1, with nothing in between (SMP).
    Separable,
    /// Depthwise, batch norm, ReLU, then 1x1 (TensorFlow).
    SeparableNorm,
}

/// The conventions that the layers of a network follow, from its config.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conventions<'c> {
    /// Ratio of the image size to the size of the last features.
    pub output_stride: usize,
    /// Dilation of stages beyond the output stride.
    pub dilation: DilationRule,
    /// Factors of the dilations of the last stage's units. Empty means all ones.
    pub multi_grid: &'c [usize],
    /// Padding of the backbone's convolutions.
    pub padding: PaddingRule,
    /// Representation of the batch norms.
    pub norm: Norm,
}
