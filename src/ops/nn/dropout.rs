//! Dropout at inference: the identity.

use crate::error::{Result, error};
use crate::graph::{OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{Activate, Activation, DropoutTrain, Op, Signature, TrainForm};
use crate::tensor::{Tensor, TensorType};
use std::sync::Arc;

/// The identity, since dropout is inactive at inference. The node marks the position and the
/// probability of dropout for training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Fraction of the values that training replaces by zero, at least 0 and below 1.
    pub p: f32,
}

impl Op for Dropout {
    fn signature(&self) -> Signature {
        Signature::new("dropout").f32("x")
    }

    fn attributes(&self) -> String {
        format!("p {}", self.p)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        if !(0.0..1.0).contains(&self.p) {
            return Err(error!(
                Graph,
                "the dropout probability must be at least 0 and below 1, got {}", self.p
            ));
        }
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        outputs[0].f32_mut().copy_from_slice(inputs[0].f32());
        Ok(())
    }

    /// Returns a copy: the kernel of the identity activation.
    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let x = vec![form.input(0)];
        form.output("Identity", x, Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        Activate(Activation::Identity).kernels(cx)
    }

    fn train_form(&self, key: u32) -> Option<TrainForm> {
        let p = self.p;
        Some(if p == 0.0 {
            TrainForm::Identity
        } else {
            TrainForm::Random(Arc::new(DropoutTrain { p, key }))
        })
    }
}

impl Scope<'_> {
    /// Adds dropout of a fraction `p` of the values, at least 0 and below 1; the identity at
    /// inference.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn dropout(&mut self, name: &str, x: ValueId, p: f32) -> Result<ValueId> {
        self.op(name, Dropout { p }, &[x])
    }
}
