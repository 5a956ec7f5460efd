//! Options of inference on an image.

use crate::error::{Result, error};
use crate::geometry::{Size, Spacing};
use crate::image::SizeRule;

/// Maximum scale; larger ones are typos.
const MAX_SCALE: f64 = 16.0;

/// A sliding window over the scaled image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Size of the window.
    pub size: Size,
    /// Distance between neighboring windows; at most the size.
    pub stride: Spacing,
}

impl SlidingWindow {
    /// Number of windows on an image of this size.
    pub(super) fn count(&self, image: Size) -> usize {
        let along = |side: usize, window: usize, stride: usize| {
            side.saturating_sub(window).div_ceil(stride) + 1
        };
        along(image.width, self.size.width, self.stride.x).saturating_mul(along(
            image.height,
            self.size.height,
            self.stride.y,
        ))
    }
}

/// Options of inference on an image.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictOptions {
    /// Input size; `None` uses that of the network.
    pub size: Option<SizeRule>,
    /// Scales, relative to the input size, whose probabilities are averaged.
    pub scales: Vec<f64>,
    /// Whether to also average over the flipped image, at each scale.
    pub flip: bool,
    /// Sliding window; `None` runs the network on the whole image.
    pub window: Option<SlidingWindow>,
}

impl Default for PredictOptions {
    /// The whole image at one scale, not flipped.
    fn default() -> Self {
        Self { size: None, scales: vec![1.0], flip: false, window: None }
    }
}

impl PredictOptions {
    /// Number of forward passes per image, or per window.
    pub fn views(&self) -> usize {
        self.scales.len() * if self.flip { 2 } else { 1 }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.scales == [1.0] && !self.flip && self.window.is_none()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.scales.is_empty() {
            return Err(error!(Usage, "there must be at least one scale"));
        }
        if let Some(scale) = self.scales.iter().find(|s| !(**s > 0.0 && **s <= MAX_SCALE)) {
            return Err(error!(
                Usage,
                "scales must be above 0 and at most {MAX_SCALE}, got {scale}"
            ));
        }
        if let Some(SlidingWindow { size, stride }) = self.window {
            let Spacing { x, y } = stride;
            if size.is_empty() || x == 0 || y == 0 || x > size.width || y > size.height {
                return Err(error!(
                    Usage,
                    "windows of {size} with a stride of {x}x{y} do not cover the image"
                ));
            }
        }
        Ok(())
    }
}
