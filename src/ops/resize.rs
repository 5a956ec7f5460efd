//! Bilinear resizing, up and down, like PyTorch's `interpolate(mode="bilinear", antialias=False)`.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::{ChannelSum, Op, ResampleWindow, ResizeGrad, bilinear, expect_f32};
use crate::error::Result;
use crate::graph::{Backward, Scope, ValueId};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// Resizes `x` `[N, H, W, C]` to `h` rows and `w` columns. Equal sizes return `x` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Rows of the output.
    pub h: usize,
    /// Columns of the output.
    pub w: usize,
    /// Whether to align the centers of the corner pixels instead of the corners of the image.
    pub align_corners: bool,
    /// Region of the source to resample, if not all of it.
    pub window: Option<ResampleWindow>,
}

impl Resize {
    /// Returns whether a value of this shape is unchanged.
    pub fn is_identity(&self, x: crate::Shape) -> bool {
        (x.h, x.w) == (self.h, self.w) && self.window.is_none()
    }
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn attributes(&self) -> String {
        let flag = |on, text| if on { text } else { "" };
        let (corners, window) =
            (flag(self.align_corners, " align_corners"), flag(self.window.is_some(), " window"));
        format!("{}x{}{corners}{window}", self.h, self.w)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 1)?;
        Ok(vec![TensorType::f32(bilinear::infer(inputs[0], (self.h, self.w), self.window)?)])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].f32(), inputs[0].shape());
        let (row, c) = (from.w * from.c, from.c);
        let grid = bilinear::Grid::new(from, (self.h, self.w), self.align_corners, self.window);
        let columns = grid.x.taps(self.w);
        outputs[0].f32_mut().par_chunks_mut(self.w * c).enumerate().for_each_init(
            Vec::new,
            |scratch, (line, y)| {
                let image = &x[line / self.h * from.h * row..][..from.h * row];
                let between = bilinear::row_at(image, row, grid.y.tap(line % self.h), scratch);
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

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let (from, to) = (x.ty.shape, y.ty.shape);
        let dispatch = Dispatch::new("resize")
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
        let grid = bilinear::Grid::new(from, (to.h, to.w), self.align_corners, self.window);
        if !grid.fits_u32() {
            return Vec::new();
        }
        vec![Kernel::single("plain", grid.params(dispatch))]
    }

    fn gradient(&self, backward: &mut Backward) -> Result<()> {
        let from = backward.graph().shape(backward.input(0));
        let dx = match (from.h, from.w) {
            // Every pixel of the output equals the single pixel of the input.
            (1, 1) => {
                backward.op("x", ChannelSum { per_image: true, scale: 1.0 }, &[backward.dy()])?
            }
            (h, w) => {
                backward.op("x", ResizeGrad { resize: *self, size: (h, w) }, &[backward.dy()])?
            }
        };
        backward.add_gradient(0, dx);
        Ok(())
    }
}

impl Scope<'_> {
    /// Adds bilinear resizing to `(h, w)`; returns `x` itself if it already has this size.
    pub fn resize(
        &mut self,
        name: &str,
        x: ValueId,
        (h, w): (usize, usize),
        align_corners: bool,
    ) -> Result<ValueId> {
        let resize = Resize { h, w, align_corners, window: None };
        if resize.is_identity(self.shape(x)) { Ok(x) } else { self.op(name, resize, &[x]) }
    }
}
