//! The last step of live segmentation in one operation: upsampling of the scores, argmax, and
//! drawing of the class colors over the frame.

mod style;

pub use style::{Background, Effect, Style};

use super::preprocess_frame::colors;
use crate::error::{Result, error};
use crate::ops::kernel::{Dispatch, Kernel, KernelContext, Operand};
use crate::ops::{Op, PixelAlignment, ResampleWindow, Signature, bilinear};
use crate::tensor::{Data, Shape, Tensor, TensorType};
use rayon::prelude::*;
use style::{APART, COLOR, CUT_OUT, FRAME, MASK, STEEP, StyleRows};

/// Frames u32 `[N, H, W, 1]` (packed pixels, see [`super::PreprocessFrame`]), scores f32 `[N, h, w, C]`, a
/// [`Style`], and background images `behind`, f32 `[N, h', w', 3]` of 0 to 255, to painted, opaque
/// frames u32 `[N, H, W, 1]`.
///
/// Scores are interpolated as by [`super::UpsampleArgmax`], background images between pixels with
/// centers at halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Number of score channels that are classes.
    pub classes: usize,
    /// How the pixels of the frame map to the scores.
    pub alignment: PixelAlignment,
    /// Region of the scores that the frame covers, if not all of them.
    pub window: Option<ResampleWindow>,
}

struct Grids {
    scores: bilinear::Grid,
    behind: bilinear::Grid,
}

impl Paint {
    fn grids(&self, to: Shape, scores: Shape, behind: Shape) -> Grids {
        let size = to.size();
        Grids {
            scores: bilinear::Grid::new(scores, size, self.alignment, self.window),
            behind: bilinear::Grid::new(behind, size, PixelAlignment::HalfPixel, None),
        }
    }
}

/// Interpolates one pixel of a row whose pixels have as many channels as `out`.
fn interpolate(row: &[f32], tap: bilinear::Tap, out: &mut [f32]) {
    let c = out.len();
    bilinear::blend(&row[tap.lo * c..][..c], &row[tap.hi * c..][..c], tap.weight, out);
}

/// Rounds an RGB color to bytes and packs it as an opaque pixel.
fn packed(color: [f32; 3]) -> u32 {
    let [r, g, b] = color.map(|v| (v.clamp(0.0, 255.0) + 0.5) as u32);
    r | g << 8 | b << 16 | 255 << 24
}

impl Op for Paint {
    fn signature(&self) -> Signature {
        Signature::new("paint").u32("packed pixels").f32("scores").u32("style").f32("background")
    }

    fn attributes(&self) -> String {
        let window = if self.window.is_some() { " window" } else { "" };
        format!("{}{}{window}", self.classes, self.alignment.attribute())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (frame, scores, style, behind) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        if frame.shape.c != 1 || frame.shape.is_empty() {
            return Err(error!(Graph, "expected a frame of packed pixels, got {}", frame.shape));
        }
        let (to, n) = (frame.shape, frame.shape.n);
        let classes = (1..=scores.shape.c).contains(&self.classes);
        if !classes
            || scores.shape.n != n
            || behind.shape.n != n
            || behind.shape.c != 3
            || style.shape != Style::shape(self.classes)
        {
            return Err(error!(
                Graph,
                "{} classes over {to}: shapes of scores {}, style {} and background {} do not fit",
                self.classes,
                scores.shape,
                style.shape,
                behind.shape
            ));
        }
        bilinear::infer(scores, to.size(), self.window)?;
        bilinear::infer(behind, to.size(), None)?;
        Ok(vec![frame])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let (frame, scores, style, behind) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let (to, from, back) = (frame.shape(), scores.shape(), behind.shape());
        let grids = self.grids(to, from, back);
        let score_columns = grids.scores.x.taps(to.w);
        let behind_columns = grids.behind.x.taps(to.w);
        let style = StyleRows::new(style.u32(), self.classes);
        let mut pixels = vec![0u32; to.len()];
        pixels.par_chunks_mut(to.w).enumerate().for_each_init(
            || (Vec::new(), Vec::new(), vec![0f32; from.c]),
            |(score_scratch, behind_scratch, values), (line, out)| {
                let (image, y) = (line / to.h, line % to.h);
                let scores = &scores.f32()[from.index(image, 0, 0, 0)..];
                let tap = grids.scores.y.tap(y);
                let score_row = bilinear::row_at(scores, from.w * from.c, tap, score_scratch);
                let behind = &behind.f32()[back.index(image, 0, 0, 0)..];
                let tap = grids.behind.y.tap(y);
                let behind_row = bilinear::row_at(behind, back.w * 3, tap, behind_scratch);
                for (x, out) in out.iter_mut().enumerate() {
                    let source_x = if style.mirror { to.w - 1 - x } else { x };
                    interpolate(score_row, score_columns[source_x], values);
                    let frame_color = colors(frame.u32()[to.index(image, y, source_x, 0)]);
                    let behind_x = if style.is_frame_behind() { source_x } else { x };
                    let behind_color = || style.behind_color(behind_row, behind_columns[behind_x]);
                    let color = style.color(values, frame_color, behind_color);
                    *out = packed(style.blended(frame_color, color));
                }
            },
        );
        outputs[0] = Tensor::from_data(to, Data::U32(pixels))?;
        Ok(())
    }

    fn kernels(&self, cx: &KernelContext) -> Vec<Kernel> {
        let (to, scores, behind) = (cx.outputs[0].ty.shape, cx.inputs[1], cx.inputs[3]);
        let grids = self.grids(to, scores.ty.shape, behind.ty.shape);
        if !grids.scores.fits_u32() || !grids.behind.fits_u32() {
            return Vec::new();
        }
        let (points, c4) = (scores.ty.shape.positions(), self.classes.div_ceil(4));
        let grid = Dispatch::new("image/paint_grid")
            .read("scores", 1)
            .read("style", 2)
            .bind("grid", Operand::Scratch(0))
            .param("points", points)
            .param("c4", c4)
            .layout("scores", scores)
            .param("apart", APART)
            .param("steep", STEEP)
            .threads(points);
        let dispatch = Dispatch::new("image/paint")
            .constant("MASK", MASK)
            .constant("CUT_OUT", CUT_OUT)
            .constant("COLOR", COLOR)
            .constant("FRAME", FRAME)
            .read("pixels", 0)
            .read("scores", 1)
            .read("style", 2)
            .read("behind", 3)
            .bind("grid", Operand::Scratch(0))
            .write("painted", 0)
            .param("count", to.positions())
            .param("h", to.h)
            .param("w", to.w)
            .param("c4", c4)
            .param("h_in", scores.ty.shape.h)
            .param("w_in", scores.ty.shape.w)
            .layout("scores", scores)
            .param("h_behind", behind.ty.shape.h)
            .param("w_behind", behind.ty.shape.w)
            .layout("behind", behind)
            .param("apart", APART)
            .param("steep", STEEP)
            .param_struct("rows", &grids.scores.y.params())
            .param_struct("columns", &grids.scores.x.params())
            .param_struct("behind_rows", &grids.behind.y.params())
            .param_struct("behind_columns", &grids.behind.x.params())
            .threads(to.positions());
        vec![Kernel {
            label: "pixel".into(),
            dispatches: vec![grid, dispatch],
            scratch: vec![4 * points as u64],
        }]
    }
}
