//! The segmentation loss and its gradient with respect to the scores. If the scores are smaller
//! than the labels, the bilinear interpolation is part of the operation, in both directions, and
//! neither the upsampled scores nor their gradient are stored.
//!
//! With 21 classes and a batch of 8 at 513x513, upsampled scores and gradient would take 404 MB;
//! the stored 16 bytes per pixel take 34 MB.

mod cpu;
mod cross_entropy;
mod dice;
mod exponential;
mod focal;
mod kernels;
mod smoothing;
mod term;

pub use dice::Dice;
pub use term::{LOSS_TERMS, LossTerm};

use crate::error::{Result, error};
use crate::graph::{Scope, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Cost, Op, Signature, bilinear, bytes};
use crate::tensor::{Shape, Tensor, TensorType};
use serde::{Deserialize, Serialize};

/// Normalization of the summed pixel losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// Divide by the sum of the weights of the pixels' classes, like PyTorch's `cross_entropy`.
    Weights,
    /// Divide by the number of pixels that count, like TensorFlow's DeepLab.
    Pixels,
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
#[derive(Debug, Clone, Copy, PartialEq)]
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
        LOSS_TERMS.iter().try_for_each(|term| term.validate(self))
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
        bilinear::Grid::new(from, to.size(), self.align_corners.into(), None)
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
        let PixelLoss { ignore, weighted, denominator, mined, .. } = self.pixel;
        let mut text = format!("ignore {ignore}, by {denominator:?}").to_lowercase();
        let mut add = |on: bool, what: String| {
            if on {
                text = format!("{text}, {what}");
            }
        };
        add(self.align_corners, "align_corners".to_owned());
        add(weighted, "weighted".to_owned());
        add(mined, "mined".to_owned());
        for term in LOSS_TERMS {
            add(term.is_set(&self.pixel), term.attributes(&self.pixel));
        }
        add(self.factor != 1.0, format!("times {}", self.factor));
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
