//! Stochastic gradient descent with momentum: one update of all parameters.

use crate::error::{Result, error};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{InPlace, Op, Signature, flat};
use crate::tensor::{Tensor, TensorType};

/// `[w, m, g, scale, groups, table]` to `[w', m']`, in place, like PyTorch's `SGD` without
/// dampening: `d = scale * g + decay * w`, `m' = momentum * m + d`, `w' = w - lr * m'` (with
/// Nesterov momentum `d + momentum * m'` in place of `m'`).
///
/// Parameters, momenta and gradients are flat vectors; `scale` is the output of
/// [`GradientScale`](super::GradientScale); if that found a gradient that is not finite, nothing
/// changes. The table contains the learning rate `lr` and the weight decay of each group (see
/// [`flat`]). The momenta start at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Momentum factor, at least 0 and below 1; 0.9 in most recipes.
    pub momentum: f32,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
}

impl Op for Sgd {
    fn signature(&self) -> Signature {
        flat::signature("sgd", &["w", "m", "g"], true)
    }

    fn attributes(&self) -> String {
        format!("momentum {}{}", self.momentum, if self.nesterov { " nesterov" } else { "" })
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let ty = flat::infer(inputs, 3, true)?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(error!(
                Graph,
                "the momentum must be at least 0 and below 1, got {}", self.momentum
            ));
        }
        Ok(vec![ty; 2])
    }

    fn in_place(&self) -> &'static [InPlace] {
        const { &[InPlace::same(0), InPlace::same(1)] }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (w, m, g) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32());
        let &[_, scale, finite, _] = inputs[3].f32() else {
            unreachable!("invariant: infer requires four elements")
        };
        flat::blocks(outputs, inputs[4], inputs[5], |first, [lr, decay, ..], [new_w, new_m]| {
            let [w, m, g] = [w, m, g].map(|vector| flat::block(vector, first));
            if finite == 0.0 {
                (*new_w, *new_m) = (*w, *m);
                return;
            }
            for i in 0..flat::BLOCK {
                let d = scale * g[i] + decay * w[i];
                new_m[i] = self.momentum * m[i] + d;
                new_w[i] =
                    w[i] - lr * if self.nesterov { d + self.momentum * new_m[i] } else { new_m[i] };
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch = flat::dispatch("train/sgd", cx)
            .when("nesterov", self.nesterov)
            .write("w", 0)
            .write("m", 1)
            .read("g", 2)
            .read("scale", 3)
            .param("momentum", self.momentum);
        vec![Kernel::single("flat", dispatch)]
    }
}
