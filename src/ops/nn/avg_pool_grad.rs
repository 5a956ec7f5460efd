//! Gradient of average pooling: each pixel gathers from the windows that contain it.

use crate::error::Result;
use crate::geometry::Size;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{AvgPool, Op, Signature, expect_gradient};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// `dx` `[N, h, w, C]` from `dy`, the gradient of the output of `pool` for a map of `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPoolGrad {
    /// The forward operation.
    pub pool: AvgPool,
    /// Size of its input.
    pub size: Size,
}

impl Op for AvgPoolGrad {
    fn signature(&self) -> Signature {
        Signature::new("avg_pool_grad").f32("dy")
    }

    fn attributes(&self) -> String {
        let Size { width, height } = self.size;
        format!("{} from {height}x{width}", self.pool.attributes())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let x = TensorType::f32(inputs[0].shape.with_size(self.size));
        let expected = self.pool.infer(&[x])?[0].shape;
        expect_gradient(expected, inputs[0].shape)?;
        Ok(vec![x])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (dy, to) = (inputs[0].f32(), inputs[0].shape());
        let from = outputs[0].shape();
        let (rows, columns) = self.pool.window().axes(from);
        outputs[0].f32_mut().par_chunks_mut(from.w * from.c).enumerate().for_each(|(line, dx)| {
            let (image, iy) = (line / from.h, line % from.h);
            dx.fill(0.0);
            for (ix, dx) in dx.chunks_exact_mut(from.c).enumerate() {
                for (oy, _) in rows.readers(iy, to.h) {
                    for (ox, _) in columns.readers(ix, to.w) {
                        let scale = 1.0 / self.pool.divisor(&rows, oy, &columns, ox) as f32;
                        let dy = &dy[to.index(image, oy, ox, 0)..][..to.c];
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += scale * dy);
                    }
                }
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (dy, dx) = (cx.inputs[0], cx.outputs[0]);
        let dispatch = self
            .pool
            .window()
            .grad_params(Dispatch::new("nn/avg_pool_grad"), dy, dx)
            .when("count_pad", self.pool.count_include_pad)
            .read("dy", 0)
            .write("dx", 0)
            .param("pad_bottom", self.pool.padding.bottom)
            .param("pad_right", self.pool.padding.right);
        vec![Kernel::single("gather", dispatch)]
    }
}
