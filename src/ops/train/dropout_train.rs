//! Dropout in training, with a counter-based random number generator.

use crate::error::{Result, error};
use crate::graph::Backward;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `[x, step]` to `x / (1 - p)` for kept elements and 0 for dropped ones. `step` is u32 `[1, 1, 1,
/// 1]`.
///
/// Whether an element is kept depends only on `key`, `step` and its index in `[N, H, W, C]` order,
/// so the gradient recomputes the mask without storing it, and a run can be repeated from any step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutTrain {
    /// Fraction of the values that is replaced by zero, at least 0 and below 1.
    pub p: f32,
    /// Key of the generator; differs between the dropouts of a network and between seeds.
    pub key: u32,
}

/// Multipliers of [`hash`].
const MULTIPLIERS: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// A bijective 32-bit hash (C. Wellons's `lowbias32`), the same as in the shader.
fn hash(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(MULTIPLIERS[0]);
    let x = (x ^ (x >> 15)).wrapping_mul(MULTIPLIERS[1]);
    x ^ (x >> 16)
}

impl DropoutTrain {
    /// Returns the threshold below which a hash drops its element.
    fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }
}

impl Op for DropoutTrain {
    fn signature(&self) -> Signature {
        Signature::new("dropout_train").f32("x").u32("step")
    }

    fn attributes(&self) -> String {
        format!("p {}", self.p)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        if inputs[1].shape != Shape::vector(1) {
            return Err(error!(Graph, "expected a step of [1, 1, 1, 1], got {}", inputs[1].shape));
        }
        if !(0.0..1.0).contains(&self.p) {
            return Err(error!(
                Graph,
                "the dropout probability must be at least 0 and below 1, got {}", self.p
            ));
        }
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let salt = hash(inputs[1].u32()[0] ^ hash(self.key));
        let (threshold, scale) = (self.threshold(), 1.0 / (1.0 - self.p));
        let (x, y) = (inputs[0].f32(), outputs[0].f32_mut());
        y.par_iter_mut().with_min_len(1 << 14).zip(x).enumerate().for_each(|(i, (y, x))| {
            // The index wraps for tensors of more than 2^32 elements, on both executors.
            *y = if hash(i as u32 ^ salt) < threshold { 0.0 } else { x * scale };
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("train/dropout_train")
            .constant("MULTIPLIER_1", MULTIPLIERS[0])
            .constant("MULTIPLIER_2", MULTIPLIERS[1])
            .read("x", 0)
            .read("step", 1)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("channels", shape.c)
            .param("c4", shape.c4())
            .param("key", self.key)
            .param("threshold", self.threshold())
            .param("scale", 1.0 / (1.0 - self.p))
            .layout("x", x)
            .layout("y", y)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("plain", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let dx = backward.op("x", *self, &[backward.dy(), backward.input(1)])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}
