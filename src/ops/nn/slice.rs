//! A channel range: the gradient of a concatenation's input.

use crate::error::{Result, error};
use crate::graph::OnnxForm;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, TensorLayout};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `y[n, h, w, c] = x[n, h, w, first + c]` for `channels` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// First channel.
    pub first: usize,
    /// Number of channels.
    pub channels: usize,
}

impl Op for Slice {
    fn signature(&self) -> Signature {
        Signature::new("slice").f32("x")
    }

    fn attributes(&self) -> String {
        format!("channels {} to {}", self.first, self.first + self.channels)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        match self.first.checked_add(self.channels) {
            Some(end) if end <= shape.c => Ok(vec![TensorType::f32(shape.with_c(self.channels))]),
            _ => Err(error!(
                Graph,
                "channels {}..{} are out of range for {shape}",
                self.first,
                self.first.saturating_add(self.channels)
            )),
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (shape, c) = (inputs[0].shape(), self.channels);
        let rows = inputs[0].f32().par_chunks(shape.w * shape.c);
        outputs[0].f32_mut().par_chunks_mut(shape.w * c).zip(rows).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(shape.c)) {
                y.copy_from_slice(&x[self.first..][..c]);
            }
        });
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let (first, end) = (self.first as i64, (self.first + self.channels) as i64);
        let bounds = [("starts", first), ("ends", end), ("axes", 1)];
        let bounds = bounds.map(|(name, value)| form.integers(name, &[value]));
        let inputs = std::iter::once(form.input(0)).chain(bounds).collect();
        form.output("Slice", inputs, Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("nn/slice")
            .when("shifted", !self.first.is_multiple_of(4))
            .read("x", 0)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .param("shift", self.first % 4)
            .param("x_last", x.ty.shape.c4() - self.first / 4 - 1)
            .layout("x", TensorLayout { offset: x.offset + (self.first / 4) as u32, ..x })
            .layout("y", y)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("copy", dispatch)]
    }
}
