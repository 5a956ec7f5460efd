//! The segmentation loss and its gradient with respect to the scores. If the scores are smaller
//! than the labels, the bilinear interpolation is part of the operation, in both directions, and
//! neither the upsampled scores nor their gradient are stored.
//!
//! With 21 classes and a batch of 8 at 513x513, upsampled scores and gradient would take 404 MB;
//! the stored 16 bytes per pixel take 34 MB.

mod cpu;
mod exponential;
mod kernels;

use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Cost, Op, Signature, bilinear, bytes};
use crate::tensor::{Shape, Tensor, TensorType};
use serde::{Deserialize, Serialize};

/// Below this probability of the other classes, the first two terms of the series of `-ln p` are
/// more exact than the logarithm, which rounds to 0 if little is missing.
const SERIES_BELOW: f32 = 1e-3;

/// Least probability of the other classes in a focal loss: neither 0, because it is a divisor, nor
/// negative by rounding.
const LEAST_MISSING: f32 = 1e-30;

/// Normalization of the summed pixel losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// Divide by the sum of the weights of the pixels' classes, like PyTorch's `cross_entropy`.
    Weights,
    /// Divide by the number of pixels that count, like TensorFlow's DeepLab.
    Pixels,
}

/// Soft Dice loss of all classes over the whole batch, added to the mean of the pixel losses
/// (Milletari et al. 2016, without their squares; segmentation-models-pytorch's `DiceLoss`, whose
/// `smooth` in version 0.6 is half of this one).
///
/// With `I` the sum of the softmax probability of a class over the pixels that have this label, `P`
/// its sum over all pixels that count and `T` the number of pixels that have the label, a class's
/// loss is `1 - (2 I + smooth) / (P + T + smooth)`, and 0 if `T` is 0. The loss is the mean over
/// the classes, including those without a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dice {
    /// Factor of the Dice loss in the sum.
    pub weight: f32,
    /// Added to numerator and denominator, so that small classes weigh less; 0 or more.
    #[serde(default)]
    pub smooth: f32,
}

/// The loss of a pixel and its reduction over the batch.
///
/// With `p` the softmax of a pixel, `t` its label, `w` the weights of the classes, `s` the
/// smoothing and `g` gamma, the pixel's loss is `-(1 - s) * w[t] * (1 - p[t])^g * ln p[t] - s / C *
/// sum(w[c] * ln p[c])`: with `g` 0 PyTorch's cross entropy, with `s` 0 the focal loss of Lin et
/// al. 2017 (equation 5). Pixels whose label is `ignore` or not a class do not count. The losses
/// are summed and divided by the denominator; if no pixel counts, loss and gradient are 0.
///
/// # Hard pixels
/// With `mined`, only the pixels with the largest losses are kept. An input contains their
/// fraction, 0 to 1. As in TensorFlow's DeepLab (`train_utils.py`, `top_k_percent_pixels`) it is a
/// fraction of *all* pixels of the batch, including ignored ones: `k` is the fraction times their
/// number, rounded down, but at least 1. Pixels with a loss of exactly 0 are never kept, so fewer
/// than `k` may remain. The denominator counts only the kept pixels. If several pixels have the
/// `k`-th largest loss, all of them are kept (TensorFlow keeps the first ones). Dice always uses
/// all pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelLoss {
    /// Label to ignore; 255 in most data sets.
    pub ignore: u32,
    /// Label smoothing, 0 to 1.
    pub smoothing: f32,
    /// Whether an input contains class weights, 0 or more each.
    pub weighted: bool,
    /// Normalization of the sum.
    pub denominator: Denominator,
    /// Exponent of the focal loss, usually 2; 0 is cross entropy. Cannot be combined with
    /// smoothing.
    pub gamma: f32,
    /// Whether to keep only a fraction of the pixels, those with the largest losses.
    pub mined: bool,
    /// Dice loss in addition to the pixel loss.
    pub dice: Option<Dice>,
}

impl Default for PixelLoss {
    /// PyTorch's `cross_entropy`, with 255 ignored.
    fn default() -> Self {
        Self {
            ignore: 255,
            smoothing: 0.0,
            weighted: false,
            denominator: Denominator::Weights,
            gamma: 0.0,
            mined: false,
            dice: None,
        }
    }
}

impl PixelLoss {
    /// Checks that all settings are valid.
    ///
    /// # Errors
    /// Returns an error that names the invalid setting.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x >= 0.0;
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(error!(Graph, "label smoothing must be 0 to 1, got {}", self.smoothing));
        }
        if !positive(self.gamma) {
            return Err(error!(Graph, "focal-loss gamma must be 0 or more, got {}", self.gamma));
        }
        if self.gamma > 0.0 && self.smoothing > 0.0 {
            return Err(error!(Graph, "label smoothing and focal loss cannot be combined")
                .advice("set one of them to 0"));
        }
        match self.dice {
            Some(Dice { weight, smooth }) if !positive(weight) || !positive(smooth) => Err(error!(
                Graph,
                "Dice weight and smoothing must be 0 or more, got {weight} and {smooth}"
            )),
            _ => Ok(()),
        }
    }

    /// Returns whether a pixel with this label counts.
    fn counts(&self, label: u32, classes: usize) -> bool {
        label != self.ignore && (label as usize) < classes
    }

    /// Returns the number of kept pixels, at least 1 and at most all. Shaders compute the same in
    /// single precision.
    fn kept(fraction: f32, pixels: usize) -> usize {
        ((fraction * pixels as f32) as usize).clamp(1, pixels)
    }
}

/// `[logits, labels, weights?, fraction?]` to `[loss, dlogits]`, with `weights` if `pixel.weighted`
/// and `fraction` if `pixel.mined`.
///
/// Logits are `[N, h, w, C]`, labels u32 `[N, H, W, 1]`, weights `[1, 1, 1, C]`, and the fraction
/// of hard pixels is the first element of `[1, 1, 1, 4]`. The loss `[1, 1, 1, 1]` is computed on
/// the logits interpolated to `H` rows and `W` columns (see [`Resize`](crate::ops::Resize)); the gradient is
/// with respect to the input logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentationLoss {
    /// The pixel loss.
    pub pixel: PixelLoss,
    /// Factor applied to loss and gradient.
    pub factor: f32,
    /// Whether the interpolation aligns the centers of the corner pixels instead of the corners of
    /// the image.
    pub align_corners: bool,
}

impl From<PixelLoss> for SegmentationLoss {
    fn from(pixel: PixelLoss) -> Self {
        Self { pixel, factor: 1.0, align_corners: false }
    }
}

impl SegmentationLoss {
    /// Returns the position of the fraction of hard pixels among the inputs.
    fn fraction_input(&self) -> usize {
        2 + usize::from(self.pixel.weighted)
    }

    fn grid(&self, from: Shape, to: Shape) -> bilinear::Grid {
        bilinear::Grid::new(from, to.size(), self.align_corners, None)
    }
}

impl Op for SegmentationLoss {
    fn signature(&self) -> Signature {
        Signature::new("segmentation_loss")
            .f32("scores")
            .u32("labels")
            .f32_if(self.pixel.weighted, "class weights")
            .f32_if(self.pixel.mined, "fraction of hard pixels")
    }

    fn attributes(&self) -> String {
        let PixelLoss { ignore, smoothing, weighted, denominator, gamma, mined, dice } = self.pixel;
        let mut text = format!("ignore {ignore}, by {denominator:?}").to_lowercase();
        let mut add = |on: bool, what: String| {
            if on {
                text += &what
            }
        };
        add(self.align_corners, ", align_corners".to_owned());
        add(smoothing > 0.0, format!(", smoothing {smoothing}"));
        add(weighted, ", weighted".to_owned());
        add(gamma > 0.0, format!(", focal {gamma}"));
        add(mined, ", mined".to_owned());
        if let Some(Dice { weight, smooth }) = dice {
            add(true, format!(", dice {weight} smooth {smooth}"));
        }
        add(self.factor != 1.0, format!(", times {}", self.factor));
        text
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        self.pixel.validate()?;
        let (logits, labels) = (inputs[0], inputs[1].shape);
        let expected = labels.with_c(1);
        if labels != expected || expected.n != logits.shape.n || expected.is_empty() {
            let n = logits.shape.n;
            return Err(error!(Graph, "expected labels [{n}, H, W, 1], got {labels}"));
        }
        bilinear::infer(logits, expected.size(), None)?;
        if self.pixel.weighted && inputs[2] != TensorType::f32(Shape::vector(logits.shape.c)) {
            return Err(error!(
                Graph,
                "expected one weight for each of {} classes, got {}",
                logits.shape.c,
                inputs[2].shape
            ));
        }
        if self.pixel.mined && inputs[self.fraction_input()] != TensorType::f32(Shape::vector(4)) {
            return Err(error!(
                Graph,
                "expected a fraction of hard pixels of shape [1, 1, 1, 4], got {}",
                inputs[self.fraction_input()].shape
            ));
        }
        Ok(vec![TensorType::f32(Shape::vector(1)), logits])
    }

    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        // The stored 16 bytes per pixel are written once and read twice.
        let stored = 3 * 16 * inputs[1].shape.positions() as u64;
        Cost { multi_adds: 0, bytes: bytes(inputs) + bytes(outputs) + stored }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        cpu::run(self, inputs, outputs);
        Ok(())
    }

    fn cpu_scratch(&self, inputs: &[TensorType], _: &[TensorType], _: usize) -> u64 {
        cpu::scratch(&self.pixel, inputs[0].shape, inputs[1].shape)
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        kernels::list(self, cx)
    }
}

impl Scope<'_> {
    /// Adds the loss and its gradient with respect to the logits; `inputs` as listed by
    /// [`SegmentationLoss`].
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn segmentation_loss(
        &mut self,
        name: &str,
        op: SegmentationLoss,
        inputs: &[ValueId],
    ) -> Result<(ValueId, ValueId)> {
        let outputs = self.ops(name, op, inputs)?;
        Ok((outputs[0], outputs[1]))
    }
}
