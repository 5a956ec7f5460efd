//! Stochastic gradient descent with momentum: one update of one parameter.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::{Op, expect_f32};
use crate::error::{Result, error};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;
use std::any::Any;

/// `[w, g, m, hyper]` to `[w', m']`, as PyTorch's `SGD` without dampening: `d = g + decay * w`, `m' = momentum * m + d`,
/// `w' = w - rate * factor * m'` (with Nesterov's rule `d + momentum * m'` in place of `m'`). The rate is the first element of `hyper`
/// `[1, 1, 1, 4]`; parameter, gradient and momentum have one shape. The first momentum is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the old momentum that stays, 0 to 1; 0.9 in most recipes.
    pub momentum: f32,
    /// Nesterov's rule.
    pub nesterov: bool,
    /// Weight decay; 0 for parameters that are exempt.
    pub decay: f32,
    /// Factor of the rate for this parameter's group.
    pub factor: f32,
}

/// Checks that a parameter and its states have one shape, and that `hyper` is `[1, 1, 1, 4]`.
pub(super) fn infer(inputs: &[TensorType], states: usize) -> Result<()> {
    expect_f32(inputs, states + 3)?;
    let (w, last) = (inputs[0].shape, states + 2);
    if let Some(i) = (1..last).find(|&i| inputs[i].shape != w) {
        return Err(error!(Graph, "expected input {i} to have the parameter's shape {w}, got {}", inputs[i].shape));
    }
    match inputs[last].shape == Shape::vector(4) {
        true => Ok(()),
        false => Err(error!(Graph, "expected the rate and its like as [1, 1, 1, 4], got {}", inputs[last].shape)),
    }
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn attributes(&self) -> String {
        let nesterov = if self.nesterov { " nesterov" } else { "" };
        format!("momentum {}{nesterov}, decay {}, factor {}", self.momentum, self.decay, self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(inputs, 1)?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(error!(Graph, "the momentum must be at least 0 and below 1, got {}", self.momentum));
        }
        Ok(vec![inputs[0]; 2])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (w, g, m) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32());
        let rate = inputs[3].f32()[0] * self.factor;
        let [new_w, new_m] = outputs else { unreachable!("invariant: two outputs are inferred") };
        let new = new_w.f32_mut().par_iter_mut().zip(new_m.f32_mut()).with_min_len(1 << 14);
        new.zip(w.par_iter().zip(g).zip(m)).for_each(|((new_w, new_m), ((w, g), m))| {
            let d = g + self.decay * w;
            *new_m = self.momentum * m + d;
            *new_w = w - rate * if self.nesterov { d + self.momentum * *new_m } else { *new_m };
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch = elements(Dispatch::new("sgd"), cx)
            .when("nesterov", self.nesterov)
            .read("m", 2)
            .read("hyper", 3)
            .write("new_m", 1)
            .param("momentum", self.momentum)
            .param("decay", self.decay)
            .param("factor", self.factor);
        vec![Kernel::one("plain", dispatch)]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What the shaders of updates share: parameter, gradient and result, a thread for every four elements. All lie alone in their buffers.
pub(super) fn elements(dispatch: Dispatch, cx: &KernelContext) -> Dispatch {
    let shape = cx.outputs[0].ty.shape;
    let vectors = shape.positions() * shape.c4();
    dispatch.read("w", 0).read("g", 1).write("new_w", 0).param("vectors", vectors).threads(vectors)
}
