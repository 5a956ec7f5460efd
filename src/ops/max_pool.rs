//! Max pooling.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::window::Window;
use super::{MaxPoolGrad, Op, Padding, expect_f32};
use crate::error::Result;
use crate::graph::{Backward, Scope, ValueId};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// The largest value of each window of `x` `[N, H, W, C]`; padding is never the largest. Sizes
/// follow PyTorch's `max_pool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub kernel: (usize, usize),
    /// Steps down and to the right.
    pub stride: (usize, usize),
    /// Distance between a window's rows and columns.
    pub dilation: (usize, usize),
    /// Rows and columns around the image.
    pub padding: Padding,
    /// Whether a last window may stick out of the image and its padding.
    pub ceil_mode: bool,
}

impl MaxPool {
    /// A square window without dilation, floor mode.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: (kernel, kernel),
            stride: (stride, stride),
            dilation: (1, 1),
            padding: Padding::all(padding),
            ceil_mode: false,
        }
    }

    pub(super) fn window(&self) -> Window {
        let &Self { kernel, stride, dilation, padding, ceil_mode } = self;
        Window { kernel, stride, dilation, padding, ceil_mode }
    }
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn attributes(&self) -> String {
        self.window().attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 1)?;
        Ok(vec![TensorType::f32(self.window().output_shape(inputs[0].shape)?)])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from, to) = (inputs[0].f32(), inputs[0].shape(), outputs[0].shape());
        let (rows, columns) = self.window().axes(from);
        outputs[0].f32_mut().par_chunks_mut(to.w * to.c).enumerate().for_each(|(line, y)| {
            let (image, oy) = (line / to.h, line % to.h);
            y.fill(f32::MIN);
            for ky in rows.taps(oy) {
                let iy = rows.position(oy, ky);
                for (ox, y) in y.chunks_exact_mut(to.c).enumerate() {
                    for kx in columns.taps(ox) {
                        let x = &x[from.index(image, iy, columns.position(ox, kx), 0)..][..to.c];
                        y.iter_mut().zip(x).for_each(|(y, &x)| *y = y.max(x));
                    }
                }
            }
        });
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch =
            self.window().params(Dispatch::new("max_pool"), cx).read("x", 0).write("y", 0);
        vec![Kernel::one("plain", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let dx = backward.op("x", MaxPoolGrad(*self), &[backward.input(0), backward.dy()])?;
        backward.give(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Max pooling.
    pub fn max_pool(&mut self, name: &str, x: ValueId, pool: MaxPool) -> Result<ValueId> {
        self.op(name, pool, &[x])
    }
}
