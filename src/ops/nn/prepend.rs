//! A constant channel in front of the others.

use crate::error::Result;
use crate::graph::{Backward, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature, Slice};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `y[n, h, w, 0] = value`, `y[n, h, w, 1 + c] = x[n, h, w, c]`.
///
/// With 0 in front, the logits of a sigmoid become those of a softmax over two classes:
/// `softmax([0, x])` is `[1 - sigmoid(x), sigmoid(x)]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prepend {
    /// The value of channel 0.
    pub value: f32,
}

impl Op for Prepend {
    fn signature(&self) -> Signature {
        Signature::new("prepend").f32("x")
    }

    fn attributes(&self) -> String {
        format!("{}", self.value)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        Ok(vec![TensorType::f32(shape.with_c(shape.c.saturating_add(1)))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let shape = inputs[0].shape();
        let rows = inputs[0].f32().par_chunks(shape.w * shape.c);
        let out = outputs[0].f32_mut().par_chunks_mut(shape.w * (shape.c + 1));
        out.zip(rows).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(shape.c + 1).zip(x.chunks_exact(shape.c)) {
                y[0] = self.value;
                y[1..].copy_from_slice(x);
            }
        });
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let pads = form.integers("pads", &[0, 1, 0, 0, 0, 0, 0, 0]);
        let value = form.number("value", self.value);
        let inputs = vec![form.input(0), pads, value];
        form.output("Pad", inputs, Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("nn/prepend")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .param("x_last", x.ty.shape.c4() - 1)
            .param("value", self.value)
            .layout("x", x)
            .layout("y", y)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("copy", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let channels = backward.graph().shape(backward.input(0)).c;
        let dx = backward.op("x", Slice { first: 1, channels }, &[backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds a constant channel in front of the others.
    ///
    /// # Errors
    /// Returns an error that names the node if the input does not fit.
    pub fn prepend(&mut self, name: &str, value: f32, x: ValueId) -> Result<ValueId> {
        self.op(name, Prepend { value }, &[x])
    }
}
