//! Probabilities at the image's size in one operation: bilinear upsampling, softmax, and optionally
//! a weighted sum over the classes, so that the logits at full size are never stored.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleSoftmax {
    /// Size and geometry of the upsampling.
    pub upsampling: Upsampling,
    /// Whether there is a second input, the weights.
    pub weighted: bool,
}

impl Op for UpsampleSoftmax {
    fn signature(&self) -> Signature {
        Signature::new("upsample_softmax").f32("x").f32_if(self.weighted, "weights")
    }

    fn attributes(&self) -> String {
        self.upsampling.attributes() + if self.weighted { " weighted" } else { "" }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
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
        let Some(dispatch) = self.upsampling.dispatch("image/upsample_softmax", cx) else {
            return Vec::new();
        };
        let mut dispatch = dispatch
            .when("weighted", self.weighted)
            .write("y", 0)
            .param("weights_offset", cx.inputs.get(1).map_or(0, |weights| weights.offset))
            .layout("y", cx.outputs[0]);
        if self.weighted {
            dispatch = dispatch.read("weights", 1);
        }
        vec![Kernel::single("pixel", dispatch)]
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
