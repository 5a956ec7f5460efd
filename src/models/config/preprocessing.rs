//! The part of a config that is about images.

use serde::{Deserialize, Serialize};

/// From bytes to numbers: `(x / 255 - mean) / std`, then padding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Red, green, blue, in 0 to 1.
    pub mean: [f32; 3],
    /// Red, green, blue, in 0 to 1.
    pub std: [f32; 3],
    /// The padding's value, after the normalization.
    pub pad_value: [f32; 3],
    /// Pixels of the long side that the network was trained for, where the weights come with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Pixels that the code base's preset scales the short side to, without padding, where it has
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_side: Option<usize>,
    /// What is done about the short side.
    pub pad: PadRule,
}

/// Padding of an image whose long side has been scaled. It always goes below and to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadRule {
    /// None: the network takes any size.
    None,
    /// To a square.
    Square,
}

impl Preprocessing {
    /// Mean and deviation of ImageNet, as PyTorch's libraries use.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        pad_value: [0.0; 3],
        size: None,
        short_side: None,
        pad: PadRule::None,
    };
    /// `x / 127.5 - 1`, padded with gray: TensorFlow's DeepLab.
    pub const TENSORFLOW: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
        pad_value: [0.0; 3],
        size: Some(513),
        short_side: None,
        pad: PadRule::Square,
    };

    /// Factor and summand for each color of a byte: `x * scale + shift`.
    pub fn scale_shift(&self) -> ([f32; 3], [f32; 3]) {
        let each = |f: fn(f64, f64) -> f64| {
            std::array::from_fn(|i| f(self.mean[i].into(), self.std[i].into()) as f32)
        };
        (each(|_, std| 1.0 / (255.0 * std)), each(|mean, std| -mean / std))
    }
}
