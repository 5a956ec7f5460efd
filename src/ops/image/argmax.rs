//! Argmax over the channels.

use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Class indices `[N, H, W, 1]` of logits `[N, H, W, C]`; the first of equal maxima.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argmax;

/// Returns the index and the value of the first maximum.
pub(super) fn first_max(values: &[f32]) -> (u32, f32) {
    (0..).zip(values).fold((0, f32::MIN), |best, (i, &v)| if v > best.1 { (i, v) } else { best })
}

impl Op for Argmax {
    fn signature(&self) -> Signature {
        Signature::new("argmax").f32("x")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        Ok(vec![TensorType::u32(shape.with_c(shape.c.min(1)))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (shape, x) = (inputs[0].shape(), inputs[0].f32());
        let rows =
            outputs[0].u32_mut().par_chunks_mut(shape.w).zip(x.par_chunks(shape.w * shape.c));
        rows.for_each(|(labels, x)| {
            for (label, scores) in labels.iter_mut().zip(x.chunks_exact(shape.c)) {
                *label = first_max(scores).0;
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let x = cx.inputs[0];
        let shape = x.ty.shape;
        let dispatch = Dispatch::new("image/argmax")
            .read("x", 0)
            .write("labels", 0)
            .param("pixels", shape.positions())
            .param("channels", shape.c)
            .layout("x", x)
            .threads(shape.positions());
        vec![Kernel::single("pixel", dispatch)]
    }
}

impl Scope<'_> {
    /// Adds an argmax over the channels of each pixel, u32 `[N, H, W, 1]`; the first of equal
    /// maxima.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn argmax(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.op(name, Argmax, &[x])
    }
}
