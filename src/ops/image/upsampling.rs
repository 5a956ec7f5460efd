//! Bilinear upsampling of logits followed by a reduction per pixel: the part that
//! [`UpsampleArgmax`](super::UpsampleArgmax) and [`UpsampleProbabilities`](super::UpsampleProbabilities) share.

use crate::error::Result;
use crate::geometry::Size;
use crate::ops::bilinear::{self, Grid, PixelAlignment, ResampleWindow, Rows, Tap};
use crate::ops::kernel::{Dispatch, KernelContext};
use crate::tensor::{Shape, Tensor, TensorType};

/// Size and geometry of a bilinear upsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upsampling {
    /// Size of the whole output.
    pub size: Size,
    /// How the pixels of the output map to those of the source.
    pub alignment: PixelAlignment,
    /// Region of the source to resample, if not all of it.
    pub window: Option<ResampleWindow>,
    /// Rows of the output to compute, if not all of them; the output then has only these rows.
    pub rows: Option<Rows>,
}

impl Upsampling {
    /// Returns the attributes in short form: `513x513 align_corners window rows 64..128`.
    pub(super) fn attributes(&self) -> String {
        let alignment = self.alignment.attribute();
        let window = if self.window.is_some() { " window" } else { "" };
        let rows = bilinear::rows_attribute(self.rows);
        let Size { width, height } = self.size;
        format!("{height}x{width}{alignment}{window}{rows}")
    }

    /// Returns the shape of the upsampled logits.
    ///
    /// # Errors
    /// Returns an error if `x` cannot be resized, or if the rows are outside the output.
    pub(super) fn infer(&self, x: TensorType) -> Result<Shape> {
        bilinear::infer_rows(x, self.size, self.window, self.rows)
    }

    fn grid(&self, from: Shape) -> Grid {
        Grid::new(from, self.size, self.alignment, self.window).rows(self.rows)
    }

    /// Returns the interpolation of `x` for the CPU function.
    pub(super) fn interpolation<'a>(&self, x: &'a Tensor) -> Interpolation<'a> {
        let from = x.shape();
        let grid = self.grid(from);
        let rows = self.rows.map_or(self.size.height, |rows| rows.count);
        Interpolation { x: x.f32(), from, columns: grid.x.taps(self.size.width), grid, rows }
    }

    /// Returns a dispatch with one thread per output pixel that reads the logits as `x`, or `None`
    /// if shaders cannot compute the interpolation exactly.
    pub(super) fn dispatch(&self, shader: &'static str, cx: &KernelContext) -> Option<Dispatch> {
        let (x, to) = (cx.inputs[0], cx.outputs[0].ty.shape);
        let from = x.ty.shape;
        let grid = self.grid(from);
        if !grid.fits_u32() {
            return None;
        }
        let dispatch = Dispatch::new(shader)
            .read("x", 0)
            .param("pixels", to.positions())
            .param("channels", from.c)
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", to.h)
            .param("w_out", to.w)
            .layout("x", x)
            .threads(to.positions());
        Some(grid.params(dispatch))
    }
}

/// An [`Upsampling`] of given logits.
pub(super) struct Interpolation<'a> {
    x: &'a [f32],
    from: Shape,
    grid: Grid,
    columns: Vec<Tap>,
    /// Rows of the output of each image.
    pub rows: usize,
}

/// Memory of [`Interpolation::for_row`].
#[derive(Default)]
pub(super) struct Scratch {
    row: Vec<f32>,
    logits: Vec<f32>,
}

impl Interpolation<'_> {
    /// Calls `each` with the column and the logits of each pixel of an output row. Rows are
    /// numbered through the batch. `each` may overwrite the logits.
    pub(super) fn for_row(
        &self,
        line: usize,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, &mut [f32]),
    ) {
        let (row, c) = (self.from.w * self.from.c, self.from.c);
        let image = &self.x[line / self.rows * self.from.h * row..][..self.from.h * row];
        let tap = self.grid.y.tap(line % self.rows);
        let between = bilinear::row_at(image, row, tap, &mut scratch.row);
        scratch.logits.resize(c, 0.0);
        for (column, tap) in self.columns.iter().enumerate() {
            bilinear::blend(
                &between[tap.lo * c..][..c],
                &between[tap.hi * c..][..c],
                tap.weight,
                &mut scratch.logits,
            );
            each(column, &mut scratch.logits);
        }
    }
}
