//! Probabilities at the image's size in one operation: bilinear upsampling, softmax or sigmoids, and
//! optionally the probability of a set of classes, so that the logits at full size are never stored.

use super::threshold::{check_outputs, sigmoid};
use super::upsampling::{Scratch, Upsampling};
use crate::error::{Result, error};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// [`Resize`](crate::ops::Resize) followed by [`Softmax`](crate::ops::Softmax) for logits `[N, H, W, C]`: f32 `[N, h, w, C]`.
///
/// With weights `[1, 1, 1, C]` as a second input, the output is the weighted sum over the classes
/// instead, f32 `[N, h, w, 1]`. With weights of 0 and 1 that is the probability that the pixel
/// belongs to one of several classes.
///
/// Sigmoids are those of the logits from channel 1 on. Channel 0, the background, is not read; its
/// probability is 1 minus the largest. Weights are then 0 or 1, and the output is the largest
/// probability of the classes of weight 1; if the background is among them, it is 1 minus the
/// largest of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleProbabilities {
    /// Size and geometry of the upsampling.
    pub upsampling: Upsampling,
    /// Whether there is a second input, the weights.
    pub weighted: bool,
    /// Whether the probabilities are sigmoids instead of softmax.
    pub sigmoid: bool,
}

impl Op for UpsampleProbabilities {
    fn signature(&self) -> Signature {
        Signature::new("upsample_probabilities").f32("x").f32_if(self.weighted, "weights")
    }

    fn attributes(&self) -> String {
        self.upsampling.attributes()
            + if self.weighted { " weighted" } else { "" }
            + if self.sigmoid { " sigmoid" } else { "" }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check_outputs(self.sigmoid, inputs[0])?;
        let shape = self.upsampling.infer(inputs[0])?;
        match inputs.get(1).map(|weights| weights.shape) {
            None => Ok(vec![TensorType::f32(shape)]),
            Some(weights) if weights == Shape::vector(shape.c) => {
                Ok(vec![TensorType::f32(shape.with_c(1))])
            }
            Some(weights) => Err(error!(Graph, "expected {} weights, got {weights}", shape.c)),
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let interpolation = self.upsampling.interpolation(inputs[0]);
        let weights = inputs.get(1).map(|weights| weights.f32());
        let channels = if weights.is_some() { 1 } else { inputs[0].shape().c };
        let rows = outputs[0].f32_mut().par_chunks_mut(self.upsampling.size.width * channels);
        rows.enumerate().for_each_init(Scratch::default, |scratch, (line, y)| {
            interpolation.for_row(line, scratch, |column, values| {
                let y = &mut y[column * channels..][..channels];
                if self.sigmoid {
                    return sigmoids(values, weights, y);
                }
                let sum = exponentials(values);
                match weights {
                    Some(weights) => {
                        y[0] = values.iter().zip(weights).map(|(e, w)| e * w).sum::<f32>() / sum
                    }
                    None => y.iter_mut().zip(&*values).for_each(|(y, e)| *y = e / sum),
                }
            });
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let Some(dispatch) = self.upsampling.dispatch("image/upsample_probabilities", cx) else {
            return Vec::new();
        };
        let mut dispatch = dispatch
            .when("weighted", self.weighted)
            .when("sigmoid", self.sigmoid)
            .write("y", 0)
            .param("weights_offset", cx.inputs.get(1).map_or(0, |weights| weights.offset))
            .layout("y", cx.outputs[0]);
        if self.weighted {
            dispatch = dispatch.read("weights", 1);
        }
        vec![Kernel::single("pixel", dispatch)]
    }
}

/// Computes the sigmoids of a pixel's logits, or the probability of the classes that `weights`
/// chooses.
fn sigmoids(logits: &[f32], weights: Option<&[f32]>, y: &mut [f32]) {
    let largest = |kept: &dyn Fn(usize) -> bool| {
        let outputs = (1..logits.len()).filter(|&i| kept(i)).map(|i| sigmoid(logits[i]));
        outputs.fold(0.0, f32::max)
    };
    match weights {
        Some(weights) if weights[0] > 0.0 => y[0] = 1.0 - largest(&|i| weights[i] == 0.0),
        Some(weights) => y[0] = largest(&|i| weights[i] > 0.0),
        None => {
            y[0] = 1.0 - largest(&|_| true);
            y[1..].iter_mut().zip(&logits[1..]).for_each(|(y, &x)| *y = sigmoid(x));
        }
    }
}

/// Replaces the logits of a pixel by `exp(logit - max)`, and returns their sum.
fn exponentials(values: &mut [f32]) -> f32 {
    let max = values.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for value in values {
        *value = (*value - max).exp();
        sum += *value;
    }
    sum
}
