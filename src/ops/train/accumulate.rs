//! Gradient accumulation over several batches.

use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{InPlace, Op, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `[sum, g, keep]` to `[sum']`, in place: `sum + g`, or only `g` if the first element of `keep`
/// `[1, 1, 1, 4]` is 0 (the first batch of a step; the previous `sum` is then ignored, even if it
/// is not finite). `sum` and `g` are flat vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accumulate;

impl Op for Accumulate {
    fn signature(&self) -> Signature {
        Signature::new("accumulate").f32("sum").f32("g").f32("keep")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let flat = Shape::vector(inputs[0].shape.c);
        if inputs[0].shape != flat
            || inputs[1].shape != flat
            || !flat.c.is_multiple_of(4)
            || inputs[2].shape != Shape::vector(4)
        {
            let got: Vec<String> = inputs.iter().map(|ty| ty.shape.to_string()).collect();
            return Err(error!(
                Graph,
                "expected two flat vectors of equal length and [1, 1, 1, 4], got {}",
                got.join(", ")
            ));
        }
        Ok(vec![inputs[0]])
    }

    fn in_place(&self) -> &'static [InPlace] {
        const { &[InPlace::same(0)] }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (sum, g, keep) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32()[0] != 0.0);
        let elements = outputs[0].f32_mut().par_iter_mut().zip(sum).zip(g).with_min_len(1 << 14);
        elements.for_each(|((out, sum), g)| *out = if keep { sum + g } else { *g });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let vectors = cx.outputs[0].ty.shape.c4();
        let dispatch = Dispatch::new("train/accumulate")
            .write("sum", 0)
            .read("g", 1)
            .read("keep", 2)
            .param("vectors", vectors)
            .threads(vectors);
        vec![Kernel::single("flat", dispatch)]
    }
}
