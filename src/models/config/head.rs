//! The segmentation head of a config.

use crate::geometry::{Size, Spacing, rows_first};
use crate::models::conventions::{ConvKind, LowLevel};
use serde::{Deserialize, Serialize};

/// The segmentation head: ASPP, decoder and classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Number of classes.
    pub classes: usize,
    /// Class names in class order. Empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Display colors of the classes (sRGB) in class order. Empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "class_colours")]
    pub class_colors: Vec<[u8; 3]>,
    /// Atrous spatial pyramid pooling.
    pub aspp: Aspp,
    /// Decoder between the ASPP and the classifier.
    pub decoder: Decoder,
    /// Auxiliary classifier on an earlier stage, for training (torchvision).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
    /// Whether bilinear upsampling aligns the corner pixels (PyTorch's `align_corners`): in the
    /// decoder, of the logits, and of the pooled branch.
    pub align_corners: bool,
}

impl Head {
    /// Creates a head without class names, class colors and auxiliary classifier.
    pub(crate) fn new(classes: usize, aspp: Aspp, decoder: Decoder, align_corners: bool) -> Self {
        Self {
            classes,
            class_names: Vec::new(),
            class_colors: Vec::new(),
            aspp,
            decoder,
            aux: None,
            align_corners,
        }
    }
}

/// Atrous spatial pyramid pooling (DeepLabv3, section 3.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aspp {
    /// Channels of each branch and of the projection.
    pub channels: usize,
    /// Atrous rates of the 3x3 branches at the config's output stride. Empty for TensorFlow's
    /// mobile head.
    pub rates: Vec<usize>,
    /// Kind of the 3x3 branches.
    pub kind: ConvKind,
    /// Pooling of the image-level branch.
    pub pooling: Pooling,
    /// Whether the pooled branch comes first in the concatenation (TensorFlow, Hugging Face)
    /// instead of last.
    pub pool_first: bool,
    /// Dropout probability after the projection, in training.
    pub dropout: f32,
    /// Whether a separable 3x3 convolution follows the projection (DeepLabV3Plus of SMP).
    #[serde(default)]
    pub separable_after: bool,
    /// Kernel size of the projection: 1, or 3 (OpenMMLab).
    #[serde(default = "pointwise", skip_serializing_if = "is_pointwise")]
    pub project_kernel: usize,
}

fn pointwise() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_pointwise(kernel: &usize) -> bool {
    *kernel == pointwise()
}

impl Default for Aspp {
    /// The module of the paper at output stride 16: 256 channels, atrous rates 6, 12 and 18, plain
    /// convolutions.
    fn default() -> Self {
        Self {
            channels: 256,
            rates: vec![6, 12, 18],
            kind: ConvKind::Plain,
            pooling: Pooling::Global,
            pool_first: false,
            dropout: 0.1,
            separable_after: false,
            project_kernel: pointwise(),
        }
    }
}

/// Pooling of the image-level features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// No image-level branch.
    Off,
    /// Global average pooling.
    Global,
    /// Average pooling over windows (TensorFlow's `image_pooling_crop_size` and
    /// `image_pooling_stride`). A window larger than the feature map is clipped to it.
    Window {
        /// Size of a window in image pixels.
        #[serde(with = "rows_first")]
        crop: Size,
        /// Distance between neighboring windows in feature pixels.
        #[serde(with = "rows_first")]
        stride: Spacing,
    },
}

/// Decoder between the ASPP and the classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// No decoder: DeepLabv3 as in its paper.
    None,
    /// A 3x3 convolution at the feature size: DeepLabv3 of torchvision and SMP.
    Conv,
    /// The decoder of DeepLabv3+.
    Plus(PlusDecoder),
}

/// The decoder of DeepLabv3+ (section 3.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlusDecoder {
    /// Source of the low-level features.
    pub low_level: LowLevel,
    /// Channels of the low-level features after the 1x1 projection.
    pub low_level_channels: usize,
    /// Channels of the 3x3 convolutions.
    pub channels: usize,
    /// Kind of the 3x3 convolutions.
    pub kind: ConvKind,
    /// Dropout probability after each convolution, in training. Its length is the number of
    /// convolutions.
    pub dropouts: Vec<f32>,
    /// Whether the low-level features come first in the concatenation (VainF).
    pub low_level_first: bool,
}

impl Default for PlusDecoder {
    /// The decoder of the paper: low-level features of 48 channels, two plain convolutions of 256.
    fn default() -> Self {
        Self {
            low_level: LowLevel::Stage,
            low_level_channels: 48,
            channels: 256,
            kind: ConvKind::Plain,
            dropouts: vec![0.0; 2],
            low_level_first: false,
        }
    }
}

/// The auxiliary classifier of torchvision: 3x3 to a quarter of the channels, batch norm, ReLU,
/// dropout, 1x1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Aux {
    /// Dropout probability, in training.
    pub dropout: f32,
}
