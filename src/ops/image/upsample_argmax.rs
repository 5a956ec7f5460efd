//! The last step of a segmentation network in one operation: bilinear upsampling and argmax.
//!
//! The logits at full size are never stored: at 513 x 513 and 21 classes they would take 22 MB; the
//! labels take 1 MB.

use super::argmax::first_max;
use super::threshold::{Threshold, check_outputs, sigmoid};
use super::upsampling::{Scratch, Upsampling};
use crate::error::Result;
use crate::graph::{OnnxAttribute, OnnxElements, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// [`Resize`](crate::ops::Resize) followed by [`super::Argmax`] for logits `[N, H, W, C]`: labels, u32
/// `[N, h, w, 1]`, and with `confidence` the probability of the label, f32 `[N, h, w, 1]`.
///
/// Probabilities are softmax, or sigmoids of the logits from channel 1 on: the label is then the
/// channel of the largest one above the threshold, or 0 if there is none, with 1 minus the largest
/// as its probability. Channel 0 is not read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpsampleArgmax {
    /// Size and geometry of the upsampling.
    pub upsampling: Upsampling,
    /// Whether to compute the second output, the confidence.
    pub confidence: bool,
    /// The threshold of sigmoids; `None` for softmax.
    pub sigmoid: Option<Threshold>,
}

impl Op for UpsampleArgmax {
    fn signature(&self) -> Signature {
        Signature::new("upsample_argmax").f32("x")
    }

    fn attributes(&self) -> String {
        let sigmoid = self.sigmoid.map_or(String::new(), |t| format!(" sigmoid above {t}"));
        self.upsampling.attributes() + if self.confidence { " confidence" } else { "" } + &sigmoid
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check_outputs(self.sigmoid.is_some(), inputs[0])?;
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
        let threshold = self.sigmoid.map(Threshold::logit);
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
                    if let Some(threshold) = threshold {
                        logits[0] = threshold;
                    }
                    let (label, max) = first_max(logits);
                    labels[column] = label;
                    if let Some(p) = confidence.get_mut(column) {
                        *p = match self.sigmoid {
                            None => 1.0 / logits.iter().map(|l| (l - max).exp()).sum::<f32>(),
                            Some(_) if label == 0 => sigmoid(-first_max(&logits[1..]).1),
                            Some(_) => sigmoid(max),
                        };
                    }
                });
            },
        );
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let Upsampling { window, rows, alignment, .. } = self.upsampling;
        if window.is_some() || rows.is_some() || self.confidence {
            return form.refuse("a part of the labels, or their confidence,");
        }
        let mut logits = form.resized(0, alignment.onnx_mode());
        if let Some(threshold) = self.sigmoid.filter(|threshold| !threshold.is_half()) {
            let mut values = vec![0.0; form.shape(0).c];
            values[0] = threshold.logit();
            let dims = [values.len(), 1, 1];
            let threshold = form.constant("threshold", &dims, OnnxElements::F32(values));
            logits = form.node("Add", vec![logits, threshold], Vec::new());
        }
        form.output("ArgMax", vec![logits], vec![("axis", OnnxAttribute::Int(1))]);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let Some(dispatch) = self.upsampling.dispatch("image/upsample_argmax", cx) else {
            return Vec::new();
        };
        let p = cx.outputs.get(1);
        let mut dispatch = dispatch
            .when("confidence", self.confidence)
            .when("sigmoid", self.sigmoid.is_some())
            .param("threshold", self.sigmoid.unwrap_or_default().logit())
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
