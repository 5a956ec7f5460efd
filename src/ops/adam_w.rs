//! AdamW (Loshchilov and Hutter, arXiv 1711.05101): one update of one parameter.

use super::Op;
use super::kernel::{Dispatch, Kernel, KernelContext};
use super::sgd::{elements, infer};
use crate::error::{Result, error};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;
use std::any::Any;

/// `[w, g, m, v, hyper]` to `[w', m', v']`, as PyTorch's `AdamW`: `m' = b1 * m + (1 - b1) * g`, `v' = b2 * v + (1 - b2) * g * g`,
/// `w' = w * (1 - rate * decay) - rate * (m' * c1) / (sqrt(v' * c2) + eps)`. `hyper` `[1, 1, 1, 4]` holds the rate, and the
/// corrections `c1 = 1 / (1 - b1^t)` and `c2 = 1 / (1 - b2^t)` of step `t`, which single precision could not compute ([`AdamW::hyper`]). The first
/// moments are 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// `b1` and `b2`; 0.9 and 0.999 in most recipes.
    pub betas: (f32, f32),
    /// Added to the root; 1e-8 in most recipes.
    pub eps: f32,
    /// Weight decay; 0 for parameters that are exempt.
    pub decay: f32,
    /// Factor of the rate for this parameter's group.
    pub factor: f32,
}

impl AdamW {
    /// The input `hyper` of step `step`, counted from 1.
    pub fn hyper(&self, rate: f32, step: u32) -> [f32; 4] {
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(step.max(1).into()))) as f32;
        [rate, correction(self.betas.0), correction(self.betas.1), 0.0]
    }
}

impl Op for AdamW {
    fn name(&self) -> &'static str {
        "adam_w"
    }

    fn attributes(&self) -> String {
        format!("betas {} {}, decay {}, factor {}", self.betas.0, self.betas.1, self.decay, self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(inputs, 2)?;
        let share = |beta: f32| (0.0..1.0).contains(&beta);
        if !share(self.betas.0) || !share(self.betas.1) {
            return Err(error!(Graph, "betas must be at least 0 and below 1, got {:?}", self.betas));
        }
        Ok(vec![inputs[0]; 3])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (w, g, m, v) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32(), inputs[3].f32());
        let &[rate, c1, c2, _] = inputs[4].f32() else { unreachable!("invariant: four elements are inferred") };
        let (rate, (b1, b2)) = (rate * self.factor, self.betas);
        let [new_w, new_m, new_v] = outputs else { unreachable!("invariant: three outputs are inferred") };
        let new = new_w.f32_mut().par_iter_mut().zip(new_m.f32_mut()).zip(new_v.f32_mut()).with_min_len(1 << 14);
        new.zip(w.par_iter().zip(g).zip(m).zip(v)).for_each(|(((new_w, new_m), new_v), (((w, g), m), v))| {
            *new_m = b1 * m + (1.0 - b1) * g;
            *new_v = b2 * v + (1.0 - b2) * g * g;
            *new_w = w * (1.0 - rate * self.decay) - rate * (*new_m * c1) / ((*new_v * c2).sqrt() + self.eps);
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch = elements(Dispatch::new("adam_w"), cx)
            .read("m", 2)
            .read("v", 3)
            .read("hyper", 4)
            .write("new_m", 1)
            .write("new_v", 2)
            .param("beta1", self.betas.0)
            .param("beta2", self.betas.1)
            .param("eps", self.eps)
            .param("decay", self.decay)
            .param("factor", self.factor);
        vec![Kernel::one("plain", dispatch)]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
