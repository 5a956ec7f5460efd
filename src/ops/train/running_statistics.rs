//! Running means and variances of all batch norms: one update after a training step.

use crate::error::Result;
use crate::ops::kernel::{Kernel, KernelContext};
use crate::ops::{InPlace, Op, Signature, flat};
use crate::tensor::{Tensor, TensorType};

/// `[r, s, groups, table]` to `[r']`, in place: `r' = r + momentum * (factor * s - r)`, with the
/// running statistics `r` and the batch statistics `s` as flat vectors. The table contains the
/// momentum of each group (as in PyTorch, the weight of the new value; TensorFlow's decay is 1
/// minus it) and the factor: `n / (n - 1)` for the unbiased variance that PyTorch and TensorFlow's
/// fused norm keep (see [`flat`]).
///
/// A statistic that is not finite changes nothing, so that a failed step has no effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunningStatistics;

impl Op for RunningStatistics {
    fn signature(&self) -> Signature {
        flat::signature("running_statistics", &["statistics", "sums"], false)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![flat::infer(inputs, 2, false)?])
    }

    fn in_place(&self) -> &'static [InPlace] {
        const { &[InPlace::same(0)] }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (r, s) = (inputs[0].f32(), inputs[1].f32());
        flat::blocks(outputs, inputs[2], inputs[3], |first, [momentum, factor, ..], [new]| {
            let [r, s] = [r, s].map(|vector| flat::block(vector, first));
            for i in 0..flat::BLOCK {
                let value = factor * s[i];
                new[i] = if value.is_finite() { r[i] + momentum * (value - r[i]) } else { r[i] };
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        vec![Kernel::single(
            "flat",
            flat::dispatch("train/running_statistics", cx).write("r", 0).read("s", 1),
        )]
    }
}
