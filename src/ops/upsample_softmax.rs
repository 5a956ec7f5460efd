//! Probabilities at the image's size in one operation: the last bilinear upsampling, the softmax,
//! and where asked a weighted sum over the classes, so that the logits at full size need not exist.

use super::kernel::{Dispatch, Kernel, KernelContext};
use super::{Op, ResampleWindow, Rows, bilinear, expect_f32};
use crate::error::{Result, error};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// What [`super::Resize`] and then [`super::Softmax`] give for logits `[N, H, W, C]`: f32
/// `[N, h, w, C]`. With weights `[1, 1, 1, C]` as a second input, the weighted sum over the classes
/// instead, f32 `[N, h, w, 1]`: with weights of 0 and 1 that is the probability that the pixel is
/// of one of some classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleSoftmax {
    /// Rows of the output.
    pub h: usize,
    /// Columns of the output.
    pub w: usize,
    /// Whether the centers of the corner pixels are kept in place; else the corners of the image
    /// are.
    pub align_corners: bool,
    /// Set where the output covers a part of the source.
    pub window: Option<ResampleWindow>,
    /// Set where only some rows of the output are computed: its height is their number then.
    pub rows: Option<Rows>,
    /// Whether the second input, the weights, is given.
    pub weighted: bool,
}

impl Op for UpsampleSoftmax {
    fn name(&self) -> &'static str {
        "upsample_softmax"
    }

    fn attributes(&self) -> String {
        let flag = |on, text| if on { text } else { "" };
        let (corners, window) =
            (flag(self.align_corners, " align_corners"), flag(self.window.is_some(), " window"));
        let rows = bilinear::rows_attribute(self.rows);
        format!("{}x{}{corners}{window}{rows}{}", self.h, self.w, flag(self.weighted, " weighted"))
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, if self.weighted { 2 } else { 1 })?;
        let shape = bilinear::infer_rows(inputs[0], (self.h, self.w), self.window, self.rows)?;
        match inputs.get(1).map(|weights| weights.shape) {
            None => Ok(vec![TensorType::f32(shape)]),
            Some(weights) if weights == crate::Shape::vector(shape.c) => {
                Ok(vec![TensorType::f32(shape.with_c(1))])
            }
            Some(weights) => Err(error!(Graph, "expected {} weights, got {weights}", shape.c)),
        }
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].f32(), inputs[0].shape());
        let (row, c) = (from.w * from.c, from.c);
        let grid = bilinear::Grid::new(from, (self.h, self.w), self.align_corners, self.window)
            .rows(self.rows);
        let columns = grid.x.taps(self.w);
        let h = self.rows.map_or(self.h, |rows| rows.count);
        let weights = inputs.get(1).map(|weights| weights.f32());
        let channels = if weights.is_some() { 1 } else { c };
        outputs[0].f32_mut().par_chunks_mut(self.w * channels).enumerate().for_each_init(
            || (Vec::new(), vec![0.0; c]),
            |(scratch, values), (line, y)| {
                let image = &x[line / h * from.h * row..][..from.h * row];
                let between = bilinear::row_at(image, row, grid.y.tap(line % h), scratch);
                for (tap, y) in columns.iter().zip(y.chunks_exact_mut(channels)) {
                    bilinear::blend(
                        &between[tap.lo * c..][..c],
                        &between[tap.hi * c..][..c],
                        tap.weight,
                        values,
                    );
                    let sum = exponentials(values);
                    match weights {
                        Some(weights) => {
                            y[0] = values.iter().zip(weights).map(|(e, w)| e * w).sum::<f32>() / sum
                        }
                        None => y.iter_mut().zip(&*values).for_each(|(y, e)| *y = e / sum),
                    }
                }
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (x, y) = (cx.inputs[0], cx.outputs[0]);
        let (from, to) = (x.ty.shape, y.ty.shape);
        let grid = bilinear::Grid::new(from, (self.h, self.w), self.align_corners, self.window)
            .rows(self.rows);
        if !grid.fits_u32() {
            return Vec::new();
        }
        let dispatch = Dispatch::new("upsample_softmax")
            .when("weighted", self.weighted)
            .read("x", 0)
            .write("y", 0)
            .param("pixels", to.positions())
            .param("channels", from.c)
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", to.h)
            .param("w_out", to.w)
            .param("weights_offset", cx.inputs.get(1).map_or(0, |weights| weights.offset))
            .layout("x", x)
            .layout("y", y)
            .threads(to.positions());
        let dispatch = grid.params(dispatch);
        vec![Kernel::one(
            "pixel",
            if self.weighted { dispatch.read("weights", 1) } else { dispatch },
        )]
    }
}

/// Turns the logits of a pixel into `exp(logit - largest)`, and returns their sum.
fn exponentials(values: &mut [f32]) -> f32 {
    let max = values.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for value in values {
        *value = (*value - max).exp();
        sum += *value;
    }
    sum
}
