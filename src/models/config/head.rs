//! The part of a config from features to classes.

use serde::{Deserialize, Serialize};

/// From features to classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Number of classes.
    pub classes: usize,
    /// Their names in order; empty where the file does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Their display colors (sRGB) in order; empty where the file does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "class_colours")]
    pub class_colors: Vec<[u8; 3]>,
    /// Atrous spatial pyramid pooling.
    pub aspp: Aspp,
    /// What follows it.
    pub decoder: Decoder,
    /// A second classifier on an inner stage, for training (torchvision).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
    /// Whether the decoder's and the last upsampling, and that of a windowed pooling, take corners
    /// as pixel centers.
    pub align_corners: bool,
}

/// How a 3x3 convolution of the head is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvKind {
    /// One convolution.
    Plain,
    /// Depthwise, then 1x1, nothing between (SMP).
    Separable,
    /// Depthwise, batch norm, ReLU, then 1x1 (TensorFlow).
    SeparableNorm,
}

/// Atrous spatial pyramid pooling (DeepLabv3, section 3.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aspp {
    /// Channels of each branch and of the projection.
    pub channels: usize,
    /// Rates of the 3x3 branches at the config's output stride. Empty for TensorFlow's head for
    /// phones.
    pub rates: Vec<usize>,
    /// How the 3x3 branches are built.
    pub kind: ConvKind,
    /// The branch of image features.
    pub pooling: Pooling,
    /// Whether the pooled branch comes first in the concatenation (TensorFlow, Hugging Face), or
    /// last.
    pub pool_first: bool,
    /// Share of values that is dropped after the projection, in training.
    pub dropout: f32,
    /// A separable 3x3 convolution after the projection (SMP's DeepLabV3Plus).
    #[serde(default)]
    pub separable_after: bool,
}

/// Image-level features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// None.
    Off,
    /// The mean over the whole map.
    Global,
    /// The mean over windows (TensorFlow's `image_pooling_crop_size` and `image_pooling_stride`). A
    /// window larger than the map takes the whole map.
    Window {
        /// Height and width in pixels of the image.
        crop: (usize, usize),
        /// Steps down and right in pixels of the features.
        stride: (usize, usize),
    },
}

/// What stands between ASPP and the classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// Nothing: DeepLabv3 as its paper has it.
    None,
    /// A 3x3 convolution at the features' size: DeepLabv3 in torchvision and SMP.
    Conv,
    /// The decoder of DeepLabv3+.
    Plus(PlusDecoder),
}

/// The decoder of DeepLabv3+ (section 3.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlusDecoder {
    /// Where the low-level features are taken.
    pub low_level: LowLevel,
    /// Channels that they are reduced to.
    pub low_level_channels: usize,
    /// Channels of the convolutions.
    pub channels: usize,
    /// How the convolutions are built.
    pub kind: ConvKind,
    /// Share of values that is dropped after each convolution in training; its length is the number
    /// of convolutions.
    pub dropouts: Vec<f32>,
    /// Whether the low-level features come first in the concatenation (VainF).
    pub low_level_first: bool,
}

/// Where the low-level features are taken, at a quarter of the image's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowLevel {
    /// The output of the last unit at that size.
    Stage,
    /// Inside a unit, where TensorFlow's DeepLab takes them.
    TensorFlow,
}

/// torchvision's second classifier: 3x3 to a quarter of the channels, batch norm, ReLU, dropout,
/// 1x1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Aux {
    /// Share of values that is dropped, in training.
    pub dropout: f32,
}
