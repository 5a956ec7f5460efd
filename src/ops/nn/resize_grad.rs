//! Gradient of bilinear resizing: each source pixel gathers from the output pixels that read it.

use crate::error::Result;
use crate::geometry::Size;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Resize, Signature, bilinear, expect_gradient};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// `dx` `[N, h, w, C]` from `dy`, the gradient of the output of `resize` for a source of `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeGrad {
    /// The forward operation.
    pub resize: Resize,
    /// Size of its source.
    pub size: Size,
}

impl ResizeGrad {
    fn grid(&self, c: usize) -> bilinear::Grid {
        let Resize { size, alignment, window } = self.resize;
        bilinear::Grid::new(Shape::images(1, self.size, c), size, alignment, window)
    }
}

/// Returns for each source coordinate the outputs that read it and their weights, in order.
fn readers(taps: &[bilinear::Tap], size: usize) -> Vec<Vec<(usize, f32)>> {
    let mut readers = vec![Vec::new(); size];
    for (d, tap) in taps.iter().enumerate() {
        if tap.lo == tap.hi {
            readers[tap.lo].push((d, 1.0));
        } else {
            readers[tap.lo].push((d, 1.0 - tap.weight));
            readers[tap.hi].push((d, tap.weight));
        }
    }
    readers
}

impl Op for ResizeGrad {
    fn signature(&self) -> Signature {
        Signature::new("resize_grad").f32("dy")
    }

    fn attributes(&self) -> String {
        let Size { width, height } = self.size;
        format!("{} from {height}x{width}", self.resize.attributes())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let dy = inputs[0].shape;
        let x = dy.with_size(self.size);
        let expected = bilinear::infer(TensorType::f32(x), self.resize.size, self.resize.window)?;
        expect_gradient(expected, dy)?;
        Ok(vec![TensorType::f32(x)])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (dy, from) = (inputs[0].f32(), inputs[0].shape());
        let (Size { width, height }, c) = (self.size, from.c);
        let grid = self.grid(c);
        let (rows, columns) =
            (readers(&grid.y.taps(from.h), height), readers(&grid.x.taps(from.w), width));
        outputs[0].f32_mut().par_chunks_mut(width * c).enumerate().for_each(|(line, dx)| {
            let (image, iy) = (line / height, line % height);
            for (dx, columns) in dx.chunks_exact_mut(c).zip(&columns) {
                dx.fill(0.0);
                for &(oy, wy) in &rows[iy] {
                    for &(ox, wx) in columns {
                        let dy = &dy[from.index(image, oy, ox, 0)..][..c];
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += wy * wx * dy);
                    }
                }
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (dy, dx) = (cx.inputs[0], cx.outputs[0]);
        let (from, to) = (dy.ty.shape, dx.ty.shape);
        let grid = self.grid(to.c);
        if !grid.fits_u32() {
            return Vec::new();
        }
        let dispatch = Dispatch::new("nn/resize_grad")
            .read("dy", 0)
            .write("dx", 0)
            .param("pixels", to.positions())
            .param("c4", to.c4())
            .param("h", to.h)
            .param("w", to.w)
            .param("h_dy", from.h)
            .param("w_dy", from.w)
            .layout("dy", dy)
            .layout("dx", dx)
            .threads(to.positions() * to.c4());
        vec![Kernel::single("gather", grid.params(dispatch))]
    }
}
