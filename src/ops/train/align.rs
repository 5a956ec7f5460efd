//! Explicit zero padding to the layout of devices, so that the padding lanes have known values.

use crate::error::Result;
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{Op, Packing, Signature};
use crate::tensor::{Shape, Tensor, TensorType};

/// Zero-pads the channels of `[N, H, W, C]` to a multiple of four, and with [`Packing::Matrix`]
/// also the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Align(pub Packing);

impl Align {
    /// Returns the shape of the result.
    pub fn shape(self, x: Shape) -> Shape {
        let w = if self.0 == Packing::Matrix { x.w.next_multiple_of(4) } else { x.w };
        Shape::new(x.n, x.h, w, x.c.next_multiple_of(4))
    }
}

impl Op for Align {
    fn signature(&self) -> Signature {
        Signature::new("align").f32("x")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![TensorType::f32(self.shape(inputs[0].shape))])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, y) = (inputs[0].shape(), outputs[0].shape());
        let out = outputs[0].f32_mut();
        out.fill(0.0);
        for (from, to) in
            inputs[0].f32().chunks_exact(x.w * x.c).zip(out.chunks_exact_mut(y.w * y.c))
        {
            for (from, to) in from.chunks_exact(x.c).zip(to.chunks_exact_mut(y.c)) {
                to[..x.c].copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let pixels = y.ty.shape.positions();
        let dispatch = Dispatch::new("train/align")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", pixels)
            .param("c4", y.ty.shape.c4())
            .param("channels", x.ty.shape.c)
            .param("w_in", x.ty.shape.w)
            .param("w_out", y.ty.shape.w)
            .layout("x", x)
            .layout("y", y)
            .threads(pixels * y.ty.shape.c4());
        vec![Kernel::single("plain", dispatch)]
    }
}
