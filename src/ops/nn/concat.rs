//! Concatenation along the channels.

use crate::error::{Result, error};
use crate::graph::{Backward, OnnxAttribute, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, TensorLayout};
use crate::ops::{Op, Signature, Slice};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Concatenates any number of inputs `[N, H, W, C_i]` with equal `[N, H, W]` along the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat;

impl Op for Concat {
    fn signature(&self) -> Signature {
        Signature::new("concat").f32("part").repeated()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let first = inputs[0];
        for (i, input) in inputs.iter().enumerate() {
            if input.shape.with_c(0) != first.shape.with_c(0) {
                return Err(error!(
                    Graph,
                    "expected input {i} to be {}x{} like the first, for {} images, got {} (the first is {})",
                    first.shape.h,
                    first.shape.w,
                    first.shape.n,
                    input.shape,
                    first.shape
                ));
            }
        }
        if let Some(i) = inputs.iter().position(|t| t.shape.is_empty()) {
            return Err(error!(Graph, "input {i} is empty: {}", inputs[i].shape));
        }
        let channels = inputs.iter().map(|t| t.shape.c).sum();
        Ok(vec![TensorType::f32(first.shape.with_c(channels))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let shape = outputs[0].shape();
        outputs[0].f32_mut().par_chunks_mut(shape.w * shape.c).enumerate().for_each(|(line, y)| {
            let mut start = 0;
            for input in inputs {
                let c = input.shape().c;
                let x = &input.f32()[line * shape.w * c..][..shape.w * c];
                for (y, x) in y.chunks_exact_mut(shape.c).zip(x.chunks_exact(c)) {
                    y[start..start + c].copy_from_slice(x);
                }
                start += c;
            }
        });
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let inputs = form.input_names();
        form.output("Concat", inputs, vec![("axis", OnnxAttribute::Int(1))]);
        Ok(())
    }

    /// One dispatch per input, in order: an executor may omit those whose input is already in
    /// place.
    ///
    /// The dispatch of an input that does not start at a multiple of four channels preserves the
    /// lanes that the previous inputs wrote.
    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let y = cx.outputs[0];
        let mut channel = 0;
        let mut dispatches = Vec::with_capacity(cx.inputs.len());
        for (index, x) in cx.inputs.iter().enumerate() {
            let shape = x.ty.shape;
            let shift = channel % 4;
            let written = (shift + shape.c).div_ceil(4);
            dispatches.push(
                Dispatch::new("nn/concat")
                    .when("shifted", shift != 0)
                    .read("x", index)
                    .write("y", 0)
                    .param("pixels", shape.positions())
                    .param("c4", shape.c4())
                    .param("written", written)
                    .param("shift", shift)
                    .layout("x", *x)
                    .layout("y", TensorLayout { offset: y.offset + (channel / 4) as u32, ..y })
                    .threads(shape.positions() * written),
            );
            channel += shape.c;
        }
        vec![Kernel { label: "copy".to_owned(), dispatches, scratch: Vec::new() }]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let count = backward.input_count();
        let mut first = 0;
        for index in 0..count {
            let channels = backward.graph().shape(backward.input(index)).c;
            if backward.needs_gradient(index) {
                let dx = backward.op(
                    &format!("x{index}"),
                    Slice { first, channels },
                    &[backward.dy()],
                )?;
                backward.add_gradient(index, dx);
            }
            first += channels;
        }
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds a concatenation along the channels, in the given order.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn concat(&mut self, name: &str, inputs: &[ValueId]) -> Result<ValueId> {
        self.op(name, Concat, inputs)
    }
}
