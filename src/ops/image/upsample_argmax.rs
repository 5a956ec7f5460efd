//! The last step of a segmentation network in one operation: bilinear upsampling and argmax.
//!
//! The logits at full size are never stored: at 513 x 513 and 21 classes they would take 22 MB; the
//! labels take 1 MB.

use super::argmax::first_max;
use super::upsampling::{Scratch, Upsampling};
use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// [`Resize`](crate::ops::Resize) followed by [`super::Argmax`] for logits `[N, H, W, C]`: labels, u32
/// `[N, h, w, 1]`, and with `confidence` the softmax probability of the label, f32 `[N, h, w, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleArgmax {
    /// Size and geometry of the upsampling.
    pub upsampling: Upsampling,
    /// Whether to compute the second output, the confidence.
    pub confidence: bool,
}

impl Op for UpsampleArgmax {
    fn signature(&self) -> Signature {
        Signature::new("upsample_argmax").f32("x")
    }

    fn attributes(&self) -> String {
        self.upsampling.attributes() + if self.confidence { " confidence" } else { "" }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = self.upsampling.infer(inputs[0])?.with_c(1);
        let mut outputs = vec![TensorType::u32(shape)];
        if self.confidence {
            outputs.push(TensorType::f32(shape));
        }
        Ok(outputs)
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let interpolation = self.upsampling.interpolation(inputs[0]);
        let width = self.upsampling.size.width;
        let (labels, confidence) =
            outputs.split_first_mut().expect("invariant: infer returns labels");
        // Rows of the confidence, or empty slices if it is not computed.
        let mut confidence_rows: Vec<&mut [f32]> = confidence
            .iter_mut()
            .flat_map(|confidence| confidence.f32_mut().chunks_mut(width))
            .collect();
        confidence_rows.resize_with(inputs[0].shape().n * interpolation.rows, Default::default);
        labels.u32_mut().par_chunks_mut(width).zip(confidence_rows).enumerate().for_each_init(
            Scratch::default,
            |scratch, (line, (labels, confidence))| {
                interpolation.for_row(line, scratch, |column, logits| {
                    let (label, max) = first_max(logits);
                    labels[column] = label;
                    if let Some(p) = confidence.get_mut(column) {
                        *p = 1.0 / logits.iter().map(|l| (l - max).exp()).sum::<f32>();
                    }
                });
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let Some(dispatch) = self.upsampling.dispatch("image/upsample_argmax", cx) else {
            return Vec::new();
        };
        let p = cx.outputs.get(1);
        let mut dispatch = dispatch
            .when("confidence", self.confidence)
            .write("labels", 0)
            .param_struct("p", &p.map(|p| p.params()).unwrap_or_default());
        if self.confidence {
            dispatch = dispatch.write("probability", 1);
        }
        vec![Kernel::single("pixel", dispatch)]
    }
}

impl Scope<'_> {
    /// Adds upsampling of logits followed by an argmax: labels, and the confidence if
    /// `op.confidence`.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn upsample_argmax(
        &mut self,
        name: &str,
        logits: ValueId,
        op: UpsampleArgmax,
    ) -> Result<Vec<ValueId>> {
        self.ops(name, op, &[logits])
    }
}
