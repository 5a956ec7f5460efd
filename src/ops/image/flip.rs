//! Horizontal flip.

use crate::error::Result;
use crate::graph::{Backward, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `y[n, h, w, c] = x[n, h, W - 1 - w, c]`: flips `x` `[N, H, W, C]` horizontally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip;

impl Op for Flip {
    fn signature(&self) -> Signature {
        Signature::new("flip").f32("x")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let shape = inputs[0].shape();
        let (row, c) = (shape.w * shape.c, shape.c);
        outputs[0].f32_mut().par_chunks_mut(row).zip(inputs[0].f32().par_chunks(row)).for_each(
            |(y, x)| {
                y.chunks_exact_mut(c)
                    .zip(x.chunks_exact(c).rev())
                    .for_each(|(y, x)| y.copy_from_slice(x));
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let shape = y.ty.shape;
        let dispatch = Dispatch::new("image/flip")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", shape.positions())
            .param("c4", shape.c4())
            .param("width", shape.w)
            .layout("x", x)
            .layout("y", y)
            .threads(shape.positions() * shape.c4());
        vec![Kernel::single("copy", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let dx = backward.op("x", Flip, &[backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds a horizontal flip.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn flip(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.op(name, Flip, &[x])
    }
}
