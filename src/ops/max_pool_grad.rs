//! The gradient of max pooling: each pixel gathers from the windows of which it is the first maximum.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::window::Axis;
use super::{MaxPool, Op, expect_f32, expect_gradient};
use crate::error::Result;
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;
use std::any::Any;

/// `dx` `[N, H, W, C]` of `[x, dy]`. Of equal values in a window the first one, row by row, takes it all, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPoolGrad(pub MaxPool);

impl MaxPoolGrad {
    /// Adds the gradient of a window to a pixel, where the pixel, which the window's tap `own` reads, is its first maximum. `at` gives the
    /// pixel of a tap.
    fn gather(
        dx: &mut [f32],
        x: &[f32],
        dy: &[f32],
        own: (usize, usize),
        taps: &[(usize, usize)],
        at: impl Fn((usize, usize)) -> usize,
    ) {
        let mine = at(own);
        for (c, (dx, dy)) in dx.iter_mut().zip(dy).enumerate() {
            let value = x[mine + c];
            let beaten = |&tap: &(usize, usize)| {
                let other = x[at(tap) + c];
                if tap < own { other < value } else { other <= value }
            };
            if taps.iter().filter(|&&tap| tap != own).all(beaten) {
                *dx += dy;
            }
        }
    }
}

impl Op for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }

    fn attributes(&self) -> String {
        self.0.attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 2)?;
        let expected = self.0.infer(&inputs[..1])?[0].shape;
        expect_gradient(expected, inputs[1].shape)?;
        Ok(vec![inputs[0]])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, dy) = (inputs[0].f32(), inputs[1].f32());
        let (from, to): (Shape, Shape) = (inputs[0].shape(), inputs[1].shape());
        let (rows, columns): (Axis, Axis) = self.0.window().axes(from);
        outputs[0].f32_mut().par_chunks_mut(from.w * from.c).enumerate().for_each_init(Vec::new, |taps, (line, dx)| {
            let (image, iy) = (line / from.h, line % from.h);
            dx.fill(0.0);
            for (ix, dx) in dx.chunks_exact_mut(from.c).enumerate() {
                for (oy, ky) in rows.readers(iy, to.h) {
                    for (ox, kx) in columns.readers(ix, to.w) {
                        taps.clear();
                        taps.extend(rows.taps(oy).flat_map(|ky| columns.taps(ox).map(move |kx| (ky, kx))));
                        let at = |(ky, kx)| from.index(image, rows.position(oy, ky), columns.position(ox, kx), 0);
                        let dy = &dy[to.index(image, oy, ox, 0)..][..to.c];
                        Self::gather(dx, x, dy, (ky, kx), taps, at);
                    }
                }
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, dy, dx) = (cx.inputs[0], cx.inputs[1], cx.outputs[0]);
        let dispatch =
            self.0.window().grad_params(Dispatch::new("max_pool_grad"), dy, dx).read("x", 0).read("dy", 1).write("dx", 0);
        vec![Kernel::one("gather", dispatch.param("x_pitch", x.pitch).param("x_offset", x.offset))]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
