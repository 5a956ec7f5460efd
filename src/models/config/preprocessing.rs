//! The image preprocessing of a config.

use crate::image::SizeRule;
use serde::{Deserialize, Serialize};

/// Image preprocessing: normalization of bytes, `(x / 255 - mean) / std`, then padding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Mean of red, green and blue, for values in 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, for values in 0 to 1.
    pub std: [f32; 3],
    /// Padding value per channel, after normalization.
    pub pad_value: [f32; 3],
    /// Long side in pixels that the network was trained for, if the weights specify one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Short side in pixels that the code base's preset scales images to, without padding, if it
    /// has a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_side: Option<usize>,
    /// Padding after the long side is scaled to `size`.
    pub pad: PadRule,
}

/// Padding of an image after its long side is scaled, at the bottom and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadRule {
    /// No padding: the network accepts any size.
    None,
    /// Padding to a square.
    Square,
}

impl Preprocessing {
    /// Mean and standard deviation of ImageNet, as in PyTorch libraries.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        pad_value: [0.0; 3],
        size: None,
        short_side: None,
        pad: PadRule::None,
    };
    /// Values from -1 to 1, `x / 127.5 - 1`, and a long side of 513 pixels padded to a square with
    /// gray, as in TensorFlow's DeepLab.
    pub const SYMMETRIC_513: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
        pad_value: [0.0; 3],
        size: Some(513),
        short_side: None,
        pad: PadRule::Square,
    };

    /// Returns the size that images are scaled to, unless a person states another.
    pub fn default_size(&self) -> SizeRule {
        match (self.pad, self.size, self.short_side) {
            (PadRule::Square, Some(n), _) => SizeRule::LongSide(n),
            (_, _, Some(n)) => SizeRule::ShortSide(n),
            _ => SizeRule::Native,
        }
    }

    /// Returns the normalization of a byte as scale and shift per channel: `x * scale + shift`.
    pub fn scale_shift(&self) -> ([f32; 3], [f32; 3]) {
        let each = |f: fn(f64, f64) -> f64| {
            std::array::from_fn(|i| f(self.mean[i].into(), self.std[i].into()) as f32)
        };
        (each(|_, std| 1.0 / (255.0 * std)), each(|mean, std| -mean / std))
    }
}
