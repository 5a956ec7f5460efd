//! Element-wise activation functions, as an operation and as the last step of a convolution.

use crate::error::Result;
use crate::graph::{Backward, OnnxAttribute, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::wide::{CHUNK, wide};
use crate::ops::{ActivationGrad, Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// An activation function. The formulas are PyTorch's.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)` (MobileNetV2).
    Relu6,
    /// `x * relu6(x + 3) / 6` (MobileNetV3, section 5.2).
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl Activation {
    /// Evaluates the function.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::HardSwish => x * ((x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0)),
            Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    /// Adds the operator of ONNX that computes the function of `x`, as the output of a node.
    pub(crate) fn onnx(self, form: &mut OnnxForm, mut x: Vec<String>) {
        let slope = 1.0 / 6.0;
        let (op_type, attributes) = match self {
            Activation::Identity => ("Identity", Vec::new()),
            Activation::Relu => ("Relu", Vec::new()),
            Activation::Relu6 => {
                x.extend([form.number("min", 0.0), form.number("max", 6.0)]);
                ("Clip", Vec::new())
            }
            Activation::HardSwish => ("HardSwish", Vec::new()),
            Activation::Sigmoid => ("Sigmoid", Vec::new()),
            Activation::HardSigmoid => {
                ("HardSigmoid", vec![("alpha", OnnxAttribute::Float(slope))])
            }
        };
        form.output(op_type, x, attributes);
    }

    /// Name of the condition that selects the function in `shaders/shared/activation.wesl`.
    pub fn feature(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::HardSwish => "hard_swish",
            Activation::HardSigmoid => "hard_sigmoid",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

/// `y = activation(x)`, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activate(pub Activation);

fn map(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| chunk(y, x, &f));
}

wide! {
    fn chunk(y: &mut [f32], x: &[f32], f: &impl Fn(f32) -> f32) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x));
    }
}

impl Op for Activate {
    fn signature(&self) -> Signature {
        Signature::new("activate").f32("x")
    }

    fn attributes(&self) -> String {
        self.0.feature().to_owned()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let activation = self.0;
        let (x, y) = (inputs[0].f32(), outputs[0].f32_mut());
        match activation {
            // A function known at compile time makes the loop branch-free.
            Activation::Relu => map(y, x, |x| Activation::Relu.apply(x)),
            Activation::Relu6 => map(y, x, |x| Activation::Relu6.apply(x)),
            other => map(y, x, |x| other.apply(x)),
        }
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let x = vec![form.input(0)];
        self.0.onnx(form, x);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("nn/activate")
            .when(self.0.feature(), true)
            .read("x", 0)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .layout("x", x)
            .layout("y", y)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("plain", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        // The output is usually kept anyway, for the convolution that reads it.
        let at = if self.0.slope_from_output() { backward.output(0) } else { backward.input(0) };
        let dx = backward.op("x", ActivationGrad(self.0), &[at, backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Applies an activation; the identity adds no node.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn activate(&mut self, name: &str, activation: Activation, x: ValueId) -> Result<ValueId> {
        match activation {
            Activation::Identity => Ok(x),
            _ => self.op(name, Activate(activation), &[x]),
        }
    }
}
