//! Max pooling.

use super::window::Window;
use crate::error::Result;
use crate::geometry::{Size, Spacing};
use crate::graph::{Backward, OnnxAttribute, OnnxForm, Scope, ValueId, window_attributes};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{MaxPoolGrad, Op, Padding, Signature};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Maximum of each window of `x` `[N, H, W, C]`, ignoring padding. Sizes follow PyTorch's
/// `max_pool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Size of a window.
    pub kernel: Size,
    /// Distance between neighboring windows.
    pub stride: Spacing,
    /// Distance between the rows and between the columns of a window.
    pub dilation: Spacing,
    /// Rows and columns of padding around the image.
    pub padding: Padding,
    /// Whether the last window may extend past the image and its padding.
    pub ceil_mode: bool,
}

impl MaxPool {
    /// Creates a square window without dilation in floor mode.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: Size::square(kernel),
            stride: Spacing::square(stride),
            dilation: Spacing::ONE,
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
    fn signature(&self) -> Signature {
        Signature::new("max_pool").f32("x")
    }

    fn attributes(&self) -> String {
        self.window().attributes()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
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

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let &Self { kernel, stride, dilation, padding, ceil_mode } = self;
        let mut attributes = window_attributes(kernel, stride, Some(dilation), padding);
        attributes.push(("ceil_mode", OnnxAttribute::Int(ceil_mode.into())));
        let x = vec![form.input(0)];
        form.output("MaxPool", x, attributes);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let dispatch =
            self.window().params(Dispatch::new("nn/max_pool"), cx).read("x", 0).write("y", 0);
        vec![Kernel::single("plain", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let dx = backward.op("x", MaxPoolGrad(*self), &[backward.input(0), backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds max pooling.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn max_pool(&mut self, name: &str, x: ValueId, pool: MaxPool) -> Result<ValueId> {
        self.op(name, pool, &[x])
    }
}
