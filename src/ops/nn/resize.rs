//! Bilinear resizing, up and down, like PyTorch's `interpolate(mode="bilinear", antialias=False)`.

use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Backward, OnnxForm, Scope, ValueId};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext};
use crate::ops::{ChannelSum, Op, PixelAlignment, ResampleWindow, ResizeGrad, Signature, bilinear};
use crate::tensor::{Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Resizes `x` `[N, H, W, C]` to another size. Equal sizes return `x` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Size of the output.
    pub size: Size,
    /// How the pixels of the output map to those of the source.
    pub alignment: PixelAlignment,
    /// Region of the source to resample, if not all of it.
    pub window: Option<ResampleWindow>,
}

impl Resize {
    /// Returns whether a value of this shape is unchanged.
    pub fn is_identity(&self, x: Shape) -> bool {
        x.size() == self.size && self.window.is_none()
    }
}

impl Op for Resize {
    fn signature(&self) -> Signature {
        Signature::new("resize").f32("x")
    }

    fn attributes(&self) -> String {
        let alignment = self.alignment.attribute();
        let window = if self.window.is_some() { " window" } else { "" };
        let Size { width, height } = self.size;
        format!("{height}x{width}{alignment}{window}")
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![TensorType::f32(bilinear::infer(inputs[0], self.size, self.window)?)])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].f32(), inputs[0].shape());
        let (row, c) = (from.w * from.c, from.c);
        let grid = bilinear::Grid::new(from, self.size, self.alignment, self.window);
        let Size { width, height } = self.size;
        let columns = grid.x.taps(width);
        outputs[0].f32_mut().par_chunks_mut(width * c).enumerate().for_each_init(
            Vec::new,
            |scratch, (line, y)| {
                let image = &x[line / height * from.h * row..][..from.h * row];
                let between = bilinear::row_at(image, row, grid.y.tap(line % height), scratch);
                for (tap, y) in columns.iter().zip(y.chunks_exact_mut(c)) {
                    bilinear::blend(
                        &between[tap.lo * c..][..c],
                        &between[tap.hi * c..][..c],
                        tap.weight,
                        y,
                    );
                }
            },
        );
        Ok(())
    }

    fn onnx(&self, form: &mut OnnxForm) -> Result<()> {
        if self.window.is_some() {
            return form.refuse("resampling a region");
        }
        let resized = form.resized(0, self.alignment.onnx_mode());
        form.output("Identity", vec![resized], Vec::new());
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let (from, to) = (x.ty.shape, y.ty.shape);
        let dispatch = Dispatch::new("nn/resize")
            .read("x", 0)
            .write("y", 0)
            .param("pixels", to.positions())
            .param("c4", to.c4())
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", to.h)
            .param("w_out", to.w)
            .layout("x", x)
            .layout("y", y)
            .threads(to.positions() * to.c4());
        let grid = bilinear::Grid::new(from, to.size(), self.alignment, self.window);
        if !grid.fits_u32() {
            return Vec::new();
        }
        vec![Kernel::single("plain", grid.params(dispatch))]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let from = backward.graph().shape(backward.input(0));
        let dx = if from.size() == Size::square(1) {
            // Every pixel of the output equals the single pixel of the input.
            backward.op("x", ChannelSum { per_image: true, scale: 1.0 }, &[backward.dy()])?
        } else {
            let op = ResizeGrad { resize: *self, size: from.size() };
            backward.op("x", op, &[backward.dy()])?
        };
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds bilinear resizing to `size`; returns `x` itself if it already has this size.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit.
    pub fn resize(
        &mut self,
        name: &str,
        x: ValueId,
        size: Size,
        alignment: impl Into<PixelAlignment>,
    ) -> Result<ValueId> {
        let resize = Resize { size, alignment: alignment.into(), window: None };
        if resize.is_identity(self.shape(x)) { Ok(x) } else { self.op(name, resize, &[x]) }
    }
}
