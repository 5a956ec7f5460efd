//! Average pooling over windows, and global average pooling.
//!
//! Sums are computed from partial sums (one per row of a window; see `channel_sum.rs` for a whole
//! map), so that the rounding error grows with the square root of the number of values instead of
//! linearly. Both executors add in the same order.

use super::window::{Axis, Window};
use crate::error::Result;
use crate::geometry::{Size, Spacing};
use crate::graph::{Backward, OnnxAttribute, OnnxForm, Scope, ValueId, window_attributes};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{AvgPoolGrad, ChannelSum, Op, Padding, Signature};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Mean of each window of `x` `[N, H, W, C]`. Sizes and divisors follow PyTorch's `avg_pool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool {
    /// Size of a window.
    pub kernel: Size,
    /// Distance between neighboring windows.
    pub stride: Spacing,
    /// Rows and columns of zeros around the image.
    pub padding: Padding,
    /// Whether the zeros count in the divisor (PyTorch's default; TensorFlow's `SAME` excludes
    /// them).
    pub count_include_pad: bool,
    /// Whether the last window may extend past the image and its padding. Positions past the
    /// padding never count in the divisor.
    pub ceil_mode: bool,
}

impl AvgPool {
    /// Creates a square window in floor mode with the padding counted in the divisor.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: Size::square(kernel),
            stride: Spacing::square(stride),
            padding: Padding::all(padding),
            count_include_pad: true,
            ceil_mode: false,
        }
    }

    pub(super) fn window(&self) -> Window {
        let &Self { kernel, stride, padding, ceil_mode, .. } = self;
        Window { kernel, stride, dilation: Spacing::ONE, padding, ceil_mode }
    }

    /// Returns the divisor of a window's sum.
    pub(super) fn divisor(&self, rows: &Axis, oy: usize, columns: &Axis, ox: usize) -> usize {
        if self.count_include_pad {
            rows.padded_taps(oy) * columns.padded_taps(ox)
        } else {
            rows.taps(oy).len() * columns.taps(ox).len()
        }
    }

    /// Returns whether the single window covers the whole map.
    fn is_global(&self, x: Shape) -> bool {
        (self.kernel, self.padding) == (x.size(), Padding::default())
    }
}

impl Op for AvgPool {
    fn signature(&self) -> Signature {
        Signature::new("avg_pool").f32("x")
    }

    fn attributes(&self) -> String {
        self.window().attributes() + if self.count_include_pad { "" } else { " inside" }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![TensorType::f32(self.window().output_shape(inputs[0].shape)?)])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from, to) = (inputs[0].f32(), inputs[0].shape(), outputs[0].shape());
        if self.is_global(from) {
            return GlobalAvgPool.cpu(inputs, outputs);
        }
        let (rows, columns) = self.window().axes(from);
        outputs[0].f32_mut().par_chunks_mut(to.w * to.c).enumerate().for_each_init(
            || vec![0.0; to.c],
            |sum, (line, y)| {
                let (image, oy) = (line / to.h, line % to.h);
                for (ox, y) in y.chunks_exact_mut(to.c).enumerate() {
                    y.fill(0.0);
                    for ky in rows.taps(oy) {
                        sum.fill(0.0);
                        for kx in columns.taps(ox) {
                            let at = from.index(
                                image,
                                rows.position(oy, ky),
                                columns.position(ox, kx),
                                0,
                            );
                            add(sum, &x[at..at + to.c]);
                        }
                        add(y, sum);
                    }
                    let count = self.divisor(&rows, oy, &columns, ox);
                    y.iter_mut().for_each(|y| *y /= count as f32);
                }
            },
        );
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let &Self { kernel, stride, padding, count_include_pad, ceil_mode } = self;
        let mut attributes = window_attributes(kernel, stride, None, padding);
        attributes.push(("count_include_pad", OnnxAttribute::Int(count_include_pad.into())));
        attributes.push(("ceil_mode", OnnxAttribute::Int(ceil_mode.into())));
        let x = vec![form.input(0)];
        form.output("AveragePool", x, attributes);
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        if self.is_global(cx.inputs[0].ty.shape) {
            return GlobalAvgPool.kernels(cx);
        }
        let dispatch = self
            .window()
            .params(Dispatch::new("nn/avg_pool"), cx)
            .when("count_pad", self.count_include_pad)
            .read("x", 0)
            .write("y", 0);
        vec![Kernel::single("plain", dispatch)]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let from = backward.graph().shape(backward.input(0));
        let dx =
            backward.op("x", AvgPoolGrad { pool: *self, size: from.size() }, &[backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

/// Mean of each channel over the map: `[N, H, W, C]` to `[N, 1, 1, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalAvgPool;

/// The mean as a scaled channel sum.
fn mean(x: Shape) -> ChannelSum {
    ChannelSum { per_image: true, scale: 1.0 / (x.h * x.w) as f32 }
}

impl Op for GlobalAvgPool {
    fn signature(&self) -> Signature {
        Signature::new("global_avg_pool").f32("x")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let shape = inputs[0].shape;
        // A map without positions has no mean; an empty output makes the graph reject the node.
        let size = usize::from(shape.h * shape.w > 0);
        Ok(vec![TensorType::f32(shape.with_hw(size, size))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        mean(inputs[0].shape()).cpu(inputs, outputs)
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        let x = vec![form.input(0)];
        form.output("GlobalAveragePool", x, Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        mean(cx.inputs[0].ty.shape).kernels(cx)
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let from = backward.graph().shape(backward.input(0));
        let whole = AvgPool { kernel: from.size(), ..AvgPool::square(1, 1, 0) };
        let dx =
            backward.op("x", AvgPoolGrad { pool: whole, size: from.size() }, &[backward.dy()])?;
        backward.add_gradient(0, dx);
        Ok(())
    }
}

fn add(sum: &mut [f32], x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}

impl Scope<'_> {
    /// Adds average pooling over windows.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn avg_pool(&mut self, name: &str, x: ValueId, pool: AvgPool) -> Result<ValueId> {
        self.op(name, pool, &[x])
    }

    /// Adds the mean over the whole map, `[N, 1, 1, C]`.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn global_avg_pool(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.op(name, GlobalAvgPool, &[x])
    }
}
