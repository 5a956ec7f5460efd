//! Scores that do not flicker: the mean of a network's probabilities over the frames of a film,
//! newer frames counting more.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::{Op, expect_f32};
use crate::error::{Result, error};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// The smallest probability whose logarithm is told from that of 0.
const LEAST: f32 = 1e-30;

/// Logits `[N, H, W, C]`, the mean so far `[N, H, W, 4 * ceil(C / 4)]` and the share `a` that it
/// keeps (first of `[1, 1, 1, 4]`, 0 to 1) to the new mean `a * old + (1 - a) * softmax(logits)`,
/// which overwrites the old one, and to its logarithm, both of the old mean's shape.
///
/// The logarithm is what is enlarged and compared afterwards. With `a = 0` it differs from the
/// logits by one number for each pixel, which changes neither the largest class of a pixel nor that
/// between pixels: labels are then those of the logits. Channels are rounded up so that both can
/// lie in a store; those past the last class hold 0, and the logarithm of the least probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemporalMean;

impl TemporalMean {
    /// Shape of the mean for logits of a shape.
    pub fn shape(logits: Shape) -> Shape {
        logits.with_c(4 * logits.c4())
    }
}

impl Op for TemporalMean {
    fn name(&self) -> &'static str {
        "temporal_mean"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 3)?;
        let (logits, mean, keep) = (inputs[0].shape, inputs[1].shape, inputs[2].shape);
        if mean != Self::shape(logits) || keep != Shape::vector(4) {
            return Err(error!(
                Graph,
                "logits {logits} take a mean of {} and 4 numbers, got {mean} and {keep}",
                Self::shape(logits)
            ));
        }
        Ok(vec![inputs[1]; 2])
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(1, 0)]
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (logits, old, keep) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32()[0]);
        let (c, padded) = (inputs[0].shape().c, inputs[1].shape().c);
        let [mean, scores] = outputs else { unreachable!("invariant: two outputs are inferred") };
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
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, mean, scores) = (cx.inputs[0], cx.outputs[0], cx.outputs[1]);
        let dispatch = Dispatch::new("temporal_mean")
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
            .threads(x.ty.shape.positions());
        vec![Kernel::one("pixel", dispatch)]
    }
}
