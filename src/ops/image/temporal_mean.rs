//! Temporal smoothing of scores against flicker: an exponential moving average of a network's
//! probabilities over the frames of a video.

use super::threshold::Threshold;
use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{InPlace, Op, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Lower bound of a probability before its logarithm.
const LEAST: f32 = 1e-30;

/// Logits `[N, H, W, C]`, the previous mean `[N, H, W, 4 * ceil(C / 4)]` and its weight `a` (the
/// first of `[1, 1, 1, 4]`, 0 to 1) to the new mean `a * old + (1 - a) * softmax(logits)`, which
/// overwrites the old one, and its logarithm, both of the old mean's shape.
///
/// The logarithm is upsampled and compared afterwards. With `a = 0` it differs from the logits by
/// one constant per pixel, which changes neither the largest class of a pixel nor of an
/// interpolated pixel: labels are then those of the logits. Channels are rounded up so that both
/// can be stored in a [`Store`](crate::exec::Store); channels past the last class are 0 in the mean
/// and the logarithm of the lower bound in the scores.
///
/// The logit of `threshold` is added to channel 0 of the scores. With the logits `[0, x]` of
/// sigmoids, a class then has a larger score than the background if its probability is above the
/// threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemporalMean {
    /// 0.5 leaves the scores as they are.
    pub threshold: Threshold,
}

impl TemporalMean {
    /// Returns the shape of the mean for logits of a shape.
    pub fn shape(logits: Shape) -> Shape {
        logits.with_c(4 * logits.c4())
    }
}

impl Op for TemporalMean {
    fn signature(&self) -> Signature {
        Signature::new("temporal_mean").f32("logits").f32("mean").f32("weight of the mean")
    }

    fn attributes(&self) -> String {
        if self.threshold.is_half() {
            return String::new();
        }
        format!("sigmoid above {}", self.threshold)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (logits, mean, keep) = (inputs[0].shape, inputs[1].shape, inputs[2].shape);
        if mean != Self::shape(logits) || keep != Shape::vector(4) {
            return Err(error!(
                Graph,
                "expected a mean of {} and a weight of [1, 1, 1, 4] for logits {logits}, got {mean} and {keep}",
                Self::shape(logits)
            ));
        }
        Ok(vec![inputs[1]; 2])
    }

    fn in_place(&self) -> &'static [InPlace] {
        &[InPlace { input: 1, output: 0 }]
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (logits, old, keep) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32()[0]);
        let (c, padded) = (inputs[0].shape().c, inputs[1].shape().c);
        let background = self.threshold.logit();
        let [mean, scores] = outputs else { unreachable!("invariant: infer returns two outputs") };
        let pixels =
            mean.f32_mut().par_chunks_mut(padded).zip(scores.f32_mut().par_chunks_mut(padded));
        pixels.zip(logits.par_chunks(c).zip(old.par_chunks(padded))).for_each(
            |((mean, scores), (logits, old))| {
                let highest = logits.iter().copied().fold(f32::MIN, f32::max);
                let sum: f32 = logits.iter().map(|x| (x - highest).exp()).sum();
                mean[c..].fill(0.0);
                scores[c..].fill(LEAST.ln());
                for i in 0..c {
                    mean[i] = keep * old[i] + (1.0 - keep) * ((logits[i] - highest).exp() / sum);
                    scores[i] = mean[i].max(LEAST).ln();
                }
                scores[0] += background;
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, mean, scores) = (cx.inputs[0], cx.outputs[0], cx.outputs[1]);
        let dispatch = Dispatch::new("image/temporal_mean")
            .read("x", 0)
            .write("mean", 0)
            .read("keep", 2)
            .write("scores", 1)
            .param("pixels", x.ty.shape.positions())
            .param("channels", x.ty.shape.c)
            .layout("x", x)
            .layout("mean", mean)
            .layout("scores", scores)
            .param("least", LEAST)
            .param("background", self.threshold.logit())
            .threads(x.ty.shape.positions());
        vec![Kernel::single("pixel", dispatch)]
    }
}
