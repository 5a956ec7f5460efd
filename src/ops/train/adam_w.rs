//! AdamW (Loshchilov and Hutter, arXiv 1711.05101): one update of all parameters.

use crate::error::{Result, error};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{InPlace, Op, Signature, flat};
use crate::tensor::{Tensor, TensorType};

/// A factor of the first and one of the second moment. Serialized as `[first, second]`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "[f32; 2]", into = "[f32; 2]")]
pub struct Moments {
    /// Factor of the first moment, the mean of the gradients.
    pub first: f32,
    /// Factor of the second moment, the mean of their squares.
    pub second: f32,
}

impl From<[f32; 2]> for Moments {
    fn from([first, second]: [f32; 2]) -> Self {
        Self { first, second }
    }
}

impl From<Moments> for [f32; 2] {
    fn from(moments: Moments) -> Self {
        [moments.first, moments.second]
    }
}

/// `[w, m, v, g, scale, groups, table]` to `[w', m', v']`, in place, like PyTorch's `AdamW`, with
/// `d = scale * g`: `m' = b1 * m + (1 - b1) * d`, `v' = b2 * v + (1 - b2) * d * d`, `w' = w * (1 -
/// lr * decay) - lr * (m' * c1) / (sqrt(v' * c2) + eps)`.
///
/// Parameters, moments and gradients are flat vectors; `scale` is the output of
/// [`GradientScale`](super::GradientScale); if that found a gradient that is not finite, nothing
/// changes. The table contains the learning rate `lr` and the weight decay of each group and the
/// bias corrections `c1` and `c2` ([`AdamW::corrections`]); see [`flat`]. The moments start at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// `b1` and `b2`, at least 0 and below 1; 0.9 and 0.999 in most recipes.
    pub betas: Moments,
    /// Added to the square root; 1e-8 in most recipes.
    pub eps: f32,
}

impl AdamW {
    /// Returns the bias corrections `1 / (1 - b1^t)` and `1 / (1 - b2^t)` of step `t`, counted from
    /// 1. Computed in double precision, because single precision is too coarse.
    pub fn corrections(&self, step: u64) -> Moments {
        let correction =
            |beta: f32| (1.0 / (1.0 - f64::from(beta).powf(step.max(1) as f64))) as f32;
        Moments { first: correction(self.betas.first), second: correction(self.betas.second) }
    }
}

impl Op for AdamW {
    fn signature(&self) -> Signature {
        flat::signature("adam_w", &["w", "m", "v", "g"], true)
    }

    fn attributes(&self) -> String {
        format!("betas {} {}, eps {:e}", self.betas.first, self.betas.second, self.eps)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let ty = flat::infer(inputs, 4, true)?;
        let is_valid = |beta: f32| (0.0..1.0).contains(&beta);
        if !is_valid(self.betas.first) || !is_valid(self.betas.second) {
            return Err(error!(
                Graph,
                "betas must be at least 0 and below 1, got {} and {}",
                self.betas.first,
                self.betas.second
            ));
        }
        Ok(vec![ty; 3])
    }

    fn in_place(&self) -> &'static [InPlace] {
        const { &[InPlace::same(0), InPlace::same(1), InPlace::same(2)] }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (w, m, v, g) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32(), inputs[3].f32());
        let &[_, scale, finite, _] = inputs[4].f32() else {
            unreachable!("invariant: infer requires four elements")
        };
        let Moments { first: b1, second: b2 } = self.betas;
        flat::blocks(
            outputs,
            inputs[5],
            inputs[6],
            |first, [lr, decay, c1, c2], [new_w, new_m, new_v]| {
                let [w, m, v, g] = [w, m, v, g].map(|vector| flat::block(vector, first));
                if finite == 0.0 {
                    (*new_w, *new_m, *new_v) = (*w, *m, *v);
                    return;
                }
                for i in 0..flat::BLOCK {
                    let d = scale * g[i];
                    new_m[i] = b1 * m[i] + (1.0 - b1) * d;
                    new_v[i] = b2 * v[i] + (1.0 - b2) * d * d;
                    new_w[i] = w[i] * (1.0 - lr * decay)
                        - lr * (new_m[i] * c1) / ((new_v[i] * c2).sqrt() + self.eps);
                }
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch = flat::dispatch("train/adam_w", cx)
            .write("w", 0)
            .write("m", 1)
            .write("v", 2)
            .read("g", 3)
            .read("scale", 4)
            .param("beta1", self.betas.first)
            .param("beta2", self.betas.second)
            .param("eps", self.eps);
        vec![Kernel::single("flat", dispatch)]
    }
}
