//! The end of a segmentation network in one operation: the last bilinear upsampling and the choice
//! of the class.
//!
//! The logits at full size need not exist: at 513 x 513 and 21 classes they would be 22 MB, the
//! labels are 1 MB.

use super::argmax::first_max;
use super::kernel::{Dispatch, Kernel, KernelContext};
use super::{Op, ResampleWindow, Rows, bilinear, expect_f32};
use crate::error::Result;
use crate::graph::{Scope, ValueId};
use crate::tensor::{Tensor, TensorType};
use rayon::prelude::*;

/// What [`super::Resize`] and then [`super::Argmax`] give for logits `[N, H, W, C]`: labels, u32
/// `[N, h, w, 1]`, and where asked the winner's softmax probability, f32 `[N, h, w, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleArgmax {
    /// Rows of the output.
    pub h: usize,
    /// Columns of the output.
    pub w: usize,
    /// Whether the centers of the corner pixels are kept in place; else the corners of the image
    /// are.
    pub align_corners: bool,
    /// Set where the output stands for a part of the source.
    pub window: Option<ResampleWindow>,
    /// Set where only some rows of the output are computed: its height is their number then.
    pub rows: Option<Rows>,
    /// Whether the second output, the confidence, is computed.
    pub confidence: bool,
}

impl Op for UpsampleArgmax {
    fn name(&self) -> &'static str {
        "upsample_argmax"
    }

    fn attributes(&self) -> String {
        let flag = |on, text| if on { text } else { "" };
        let (corners, window) =
            (flag(self.align_corners, " align_corners"), flag(self.window.is_some(), " window"));
        let rows = bilinear::rows_attribute(self.rows);
        format!(
            "{}x{}{corners}{window}{rows}{}",
            self.h,
            self.w,
            flag(self.confidence, " confidence")
        )
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        expect_f32(inputs, 1)?;
        let shape =
            bilinear::infer_rows(inputs[0], (self.h, self.w), self.window, self.rows)?.with_c(1);
        let mut outputs = vec![TensorType::u32(shape)];
        if self.confidence {
            outputs.push(TensorType::f32(shape));
        }
        Ok(outputs)
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (x, from) = (inputs[0].f32(), inputs[0].shape());
        let (row, c) = (from.w * from.c, from.c);
        let grid = bilinear::Grid::new(from, (self.h, self.w), self.align_corners, self.window)
            .rows(self.rows);
        let columns = grid.x.taps(self.w);
        let h = self.rows.map_or(self.h, |rows| rows.count);
        let (labels, confidence) =
            outputs.split_first_mut().expect("invariant: labels are inferred");
        // Rows of the confidence, or as many empty slices where it is not asked for.
        let mut rows: Vec<&mut [f32]> = confidence
            .iter_mut()
            .flat_map(|confidence| confidence.f32_mut().chunks_mut(self.w))
            .collect();
        rows.resize_with(from.n * h, Default::default);
        labels.u32_mut().par_chunks_mut(self.w).zip(rows).enumerate().for_each_init(
            || (Vec::new(), vec![0.0; c]),
            |(scratch, logits), (line, (labels, confidence))| {
                let image = &x[line / h * from.h * row..][..from.h * row];
                let between = bilinear::row_at(image, row, grid.y.tap(line % h), scratch);
                for (ox, tap) in columns.iter().enumerate() {
                    bilinear::blend(
                        &between[tap.lo * c..][..c],
                        &between[tap.hi * c..][..c],
                        tap.weight,
                        logits,
                    );
                    let (label, max) = first_max(logits);
                    labels[ox] = label;
                    if let Some(p) = confidence.get_mut(ox) {
                        *p = 1.0 / logits.iter().map(|l| (l - max).exp()).sum::<f32>();
                    }
                }
            },
        );
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let x = cx.inputs[0];
        let (from, to) = (x.ty.shape, cx.outputs[0].ty.shape);
        let mut dispatch = Dispatch::new("upsample_argmax")
            .when("confidence", self.confidence)
            .read("x", 0)
            .write("labels", 0)
            .param("pixels", to.positions())
            .param("channels", from.c)
            .param("h_in", from.h)
            .param("w_in", from.w)
            .param("h_out", to.h)
            .param("w_out", to.w)
            .layout("x", x)
            .threads(to.positions());
        let grid = bilinear::Grid::new(from, (self.h, self.w), self.align_corners, self.window)
            .rows(self.rows);
        if !grid.fits_u32() {
            return Vec::new();
        }
        dispatch = grid.params(dispatch);
        let p = cx.outputs.get(1);
        dispatch = dispatch
            .param("p_pitch", p.map_or(0, |p| p.pitch))
            .param("p_offset", p.map_or(0, |p| p.offset));
        if self.confidence {
            dispatch = dispatch.write("probability", 1);
        }
        vec![Kernel::one("pixel", dispatch)]
    }
}

impl Scope<'_> {
    /// Upsamples logits and takes the class of each pixel: labels, and the confidence where asked.
    pub fn upsample_argmax(
        &mut self,
        name: &str,
        logits: ValueId,
        op: UpsampleArgmax,
    ) -> Result<Vec<ValueId>> {
        self.ops(name, op, &[logits])
    }
}
