//! Addition and multiplication of two values, element-wise or broadcast per channel.

use crate::error::{Result, error};
use crate::graph::{Backward, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{ChannelSum, Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `y = a + b` (residual connections). `b` has the shape of `a` `[N, H, W, C]`, or is
/// `[N, 1, 1, C]` or `[1, 1, 1, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Add;

/// `y = a * b` (squeeze and excite). `b` has the shape of `a` `[N, H, W, C]`, or is `[N, 1, 1, C]`
/// or `[1, 1, 1, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mul;

fn infer(inputs: &[TensorType]) -> Result<Vec<TensorType>> {
    let (a, b) = (inputs[0].shape, inputs[1].shape);
    let per_channel = (b.h, b.w, b.c) == (1, 1, a.c) && (b.n == 1 || b.n == a.n);
    if a != b && !per_channel {
        return Err(error!(
            Graph,
            "expected a second input of shape {a} or [1 or {}, 1, 1, {}], got {b}", a.n, a.c
        ));
    }
    Ok(vec![inputs[0]])
}

fn cpu(inputs: &[&Tensor], output: &mut Tensor, f: impl Fn(f32, f32) -> f32 + Sync) {
    let (shape, b_shape) = (inputs[0].shape(), inputs[1].shape());
    let (a, b) = (inputs[0].f32(), inputs[1].f32());
    let row = shape.w * shape.c;
    output.f32_mut().par_chunks_mut(row).zip(a.par_chunks(row)).enumerate().for_each(
        |(line, (y, a))| {
            let apply = |y: &mut [f32], a: &[f32], b: &[f32]| {
                for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                    *y = f(*a, *b);
                }
            };
            if b_shape == shape {
                apply(y, a, &b[line * row..][..row]);
            } else {
                let image = if b_shape.n > 1 { line / shape.h } else { 0 };
                let b = &b[image * shape.c..][..shape.c];
                y.chunks_exact_mut(shape.c)
                    .zip(a.chunks_exact(shape.c))
                    .for_each(|(y, a)| apply(y, a, b));
            }
        },
    );
}

fn onnx(form: &mut OnnxForm, op_type: &'static str) {
    let mut inputs = form.input_names();
    if form.is_param(1) {
        // A vector would be taken for the columns: [C] to [C, 1, 1].
        let axes = form.integers("axes", &[1, 2]);
        inputs[1] = form.node("Unsqueeze", vec![form.input(1), axes], Vec::new());
    }
    form.output(op_type, inputs, Vec::new());
}

fn kernels(cx: &KernelContext, multiply: bool) -> Vec<Kernel> {
    let (a, b, y) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
    let (shape, b_shape) = (y.ty.shape, b.ty.shape);
    // Number of output pixels per pixel of b, and number of pixels of b.
    let (pixels_per_b, b_pixels) = if b_shape == shape {
        (1, shape.positions())
    } else {
        (shape.h * shape.w, b_shape.positions())
    };
    let dispatch = Dispatch::new("nn/binary")
        .when("multiply", multiply)
        .read("a", 0)
        .read("b", 1)
        .write("y", 0)
        .param("pixels", shape.positions())
        .param("c4", shape.c4())
        .param("pixels_per_b", pixels_per_b)
        .param("b_last", b_pixels - 1)
        .layout("a", a)
        .layout("b", b)
        .layout("y", y)
        .threads(shape.positions() * shape.c4());
    vec![Kernel::single("plain", dispatch)]
}

/// Reduces the gradient `full` of the second input to its shape, if it was broadcast.
fn reduced(backward: &mut Backward, name: &str, full: ValueId) -> Result<ValueId> {
    let (from, to) = (backward.graph().shape(full), backward.graph().shape(backward.input(1)));
    if from == to {
        Ok(full)
    } else {
        backward.op(name, ChannelSum { per_image: to.n == from.n, scale: 1.0 }, &[full])
    }
}

impl Op for Add {
    fn signature(&self) -> Signature {
        Signature::new("add").f32("a").f32("b")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(inputs)
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        cpu(inputs, &mut outputs[0], |a, b| a + b);
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        onnx(form, "Add");
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        kernels(cx, false)
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let dy = backward.dy();
        if backward.needs_gradient(0) {
            backward.add_gradient(0, dy);
        }
        if backward.needs_gradient(1) {
            let db = reduced(backward, "b", dy)?;
            backward.add_gradient(1, db);
        }
        Ok(())
    }
}

impl Op for Mul {
    fn signature(&self) -> Signature {
        Signature::new("mul").f32("a").f32("b")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(inputs)
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        cpu(inputs, &mut outputs[0], |a, b| a * b);
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        onnx(form, "Mul");
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        kernels(cx, true)
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let (a, b, dy) = (backward.input(0), backward.input(1), backward.dy());
        if backward.needs_gradient(0) {
            let da = backward.op("a", Mul, &[dy, b])?;
            backward.add_gradient(0, da);
        }
        if backward.needs_gradient(1) {
            let product = backward.op("product", Mul, &[dy, a])?;
            let db = reduced(backward, "b", product)?;
            backward.add_gradient(1, db);
        }
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds `a + b`; `b` has the shape of `a`, or is `[N or 1, 1, 1, C]`.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(name, Add, &[a, b])
    }

    /// Adds `a * b`; `b` has the shape of `a`, or is `[N or 1, 1, 1, C]`.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn mul(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(name, Mul, &[a, b])
    }
}
