//! The segmentation head of a config.

use crate::error::{Result, error};
use crate::geometry::{Size, Spacing, rows_first};
use crate::models::Labeling;
use crate::models::conventions::{ConvKind, LowLevel};
use crate::ops::Threshold;
use serde::{Deserialize, Serialize};

/// The segmentation head: ASPP, decoder and classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Number of classes that a label can have. With a sigmoid, class 0 is the background, which
    /// the classifier has no channel for.
    pub classes: usize,
    /// How the classifier's outputs become probabilities.
    #[serde(default, skip_serializing_if = "OutputActivation::is_softmax")]
    pub activation: OutputActivation,
    /// Probability that a sigmoid output must exceed.
    #[serde(default, skip_serializing_if = "Threshold::is_half")]
    pub threshold: Threshold,
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
    /// Creates a head whose classifier has `channels` outputs, without class colors and auxiliary
    /// classifier. A single output can only be a sigmoid: the foreground of a binary network.
    pub(crate) fn new(channels: usize, aspp: Aspp, decoder: Decoder, align_corners: bool) -> Self {
        let mut head = Self {
            classes: channels,
            activation: OutputActivation::Softmax,
            threshold: Threshold::HALF,
            class_names: Vec::new(),
            class_colors: Vec::new(),
            aspp,
            decoder,
            aux: None,
            align_corners,
        };
        head.single_output_is_a_sigmoid();
        head
    }

    /// Returns how labels follow from the outputs.
    pub fn labeling(&self) -> Labeling {
        let &Self { classes, activation, threshold, align_corners, .. } = self;
        Labeling { classes, activation, threshold, alignment: align_corners.into() }
    }

    /// Returns the number of outputs of the classifier, the channels of `logits`.
    pub fn channels(&self) -> usize {
        self.labeling().channels()
    }

    /// Returns the threshold of sigmoid outputs, `None` for a softmax.
    pub fn sigmoid(&self) -> Option<Threshold> {
        self.labeling().sigmoid()
    }

    /// Interprets the classifier's outputs in another way. A sigmoid adds the class `background`
    /// in front, a softmax removes it.
    ///
    /// # Errors
    /// Returns an error for a softmax over a single output, which is always 1.
    pub fn set_activation(&mut self, activation: OutputActivation) -> Result<()> {
        if activation == self.activation {
            return Ok(());
        }
        if activation == OutputActivation::Softmax && self.channels() == 1 {
            return Err(error!(
                Config,
                "the network has one output, whose softmax is 1 at every pixel"
            )
            .advice("leave out the activation: one output is a sigmoid"));
        }
        let channels = self.channels();
        self.activation = activation;
        if activation == OutputActivation::Sigmoid {
            self.classes = channels + 1;
            self.name_background();
        } else {
            self.classes = channels;
            self.class_names.drain(..self.class_names.len().min(1));
            self.class_colors.drain(..self.class_colors.len().min(1));
        }
        Ok(())
    }

    /// Puts the background in front of names and colors, if there are any.
    fn name_background(&mut self) {
        if !self.class_names.is_empty() {
            self.class_names.insert(0, BACKGROUND.to_owned());
        }
        if !self.class_colors.is_empty() {
            self.class_colors.insert(0, [0; 3]);
        }
    }

    /// Turns a softmax over one class, as earlier files have it, into a sigmoid.
    pub(super) fn single_output_is_a_sigmoid(&mut self) {
        if self.classes != 1 || self.activation == OutputActivation::Sigmoid {
            return;
        }
        self.classes = 2;
        self.activation = OutputActivation::Sigmoid;
        self.name_background();
    }
}

/// Name of class 0 of a network whose classifier has no output for it.
pub(crate) const BACKGROUND: &str = "background";

/// How a classifier's outputs become probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum OutputActivation {
    /// Softmax over the classes: a pixel has exactly one class.
    #[default]
    Softmax,
    /// Sigmoid of each output: of the foreground in a binary network, or of every class where
    /// several can hold for a pixel. Where none reaches the threshold, the label is 0, the
    /// background.
    Sigmoid,
}

impl OutputActivation {
    fn is_softmax(&self) -> bool {
        *self == Self::Softmax
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
