//! The last step of live segmentation in one operation: upsampling of the scores, argmax, and
//! drawing of the class colors over the frame.

use super::kernel::{Dispatch, Kernel, KernelContext, Operand};
use super::preprocess_frame::colors;
use super::{Op, ResampleWindow, Signature, bilinear};
use crate::error::{Result, error};
use crate::tensor::{Data, Shape, Tensor, TensorType};
use rayon::prelude::*;

/// Larger than any score: subtracted from the scores of excluded classes.
const APART: f32 = 1e30;

/// Margins beyond this count as infinite: the weight of the frame is then within about 1/255 of 0
/// or 1.
const STEEP: f32 = 5.5;

/// How a [`Style`] draws a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effect {
    /// The color of the pixel's class; black if the class is not shown.
    #[default]
    Mask,
    /// The color of the pixel's class over the frame; only the frame if the class is not shown.
    Overlay,
    /// The frame if the class is shown, otherwise a background, with a soft edge between them.
    CutOut(Background),
}

/// Background of a cut-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// One color, sRGB.
    Color([u8; 3]),
    /// The input `behind`, mirrored with the frame.
    Frame,
    /// The input `behind`, never mirrored.
    Image,
}

/// Drawing style of [`Paint`]: its third input, so that it can change from frame to frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// How a pixel is drawn.
    pub effect: Effect,
    /// Opacity of the effect over the frame, 0 to 1.
    pub opacity: f32,
    /// Whether to flip the output horizontally.
    pub mirror: bool,
    /// Steepness of soft edges. With 1 the weight of the frame is the probability of the best shown
    /// class against the best hidden one; larger values give harder edges. The weight is 0 or 1 if
    /// this times the difference of the two scores is beyond 5.5.
    pub edge: f32,
    /// For each class its color (sRGB) and whether it is shown.
    pub classes: Vec<([u8; 3], bool)>,
}

impl Style {
    /// Returns the shape of the tensor for a number of classes: `[1, 1, rows, 4]`.
    pub fn shape(classes: usize) -> Shape {
        Shape::new(1, 1, 2 + 2 * classes.div_ceil(4) + classes, 4)
    }

    /// Returns the tensor that [`Paint`] reads.
    ///
    /// Its rows are: effect, opacity, mirror, edge; the background color and the kind of background
    /// image (0 none, 1 mirrored with the frame, 2 never mirrored); for every four classes the
    /// offsets added to their scores to find the best shown class, then the offsets to find the
    /// best hidden class; for each class its color.
    pub fn tensor(&self) -> Tensor {
        let (effect, behind) = match self.effect {
            Effect::Mask => (0.0, Background::Color([0; 3])),
            Effect::Overlay => (1.0, Background::Color([0; 3])),
            Effect::CutOut(behind) => (2.0, behind),
        };
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        let rgb = |[r, g, b]: [u8; 3]| [r, g, b].map(f32::from);
        let ([r, g, b], kind) = match behind {
            Background::Color(color) => (rgb(color), 0.0),
            Background::Frame => ([0.0; 3], 1.0),
            Background::Image => ([0.0; 3], 2.0),
        };
        let mut rows =
            vec![effect, self.opacity.clamp(0.0, 1.0), flag(self.mirror), self.edge, r, g, b, kind];
        for shown in [true, false] {
            let lanes = self.classes.len().next_multiple_of(4);
            // Lanes without a class belong to neither group.
            rows.extend((0..lanes).map(|i| {
                if self.classes.get(i).is_some_and(|c| c.1 == shown) { 0.0 } else { -APART }
            }));
        }
        for &(color, _) in &self.classes {
            rows.extend(rgb(color));
            rows.push(0.0);
        }
        Tensor::new(Self::shape(self.classes.len()), rows)
            .expect("invariant: the rows match the shape")
    }
}

/// Frames u32 `[N, H, W, 1]` (packed pixels, see [`super::PreprocessFrame`]), scores f32 `[N, h, w, C]`, a
/// [`Style`], and background images `behind`, f32 `[N, h', w', 3]` of 0 to 255, to painted, opaque
/// frames u32 `[N, H, W, 1]`.
///
/// Scores are interpolated as by [`super::UpsampleArgmax`]. Background images are interpolated in
/// the same way, without `align_corners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Number of score channels that are classes.
    pub classes: usize,
    /// Whether the interpolation of the scores aligns the centers of the corner pixels instead of
    /// the corners of the image.
    pub align_corners: bool,
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
            scores: bilinear::Grid::new(scores, size, self.align_corners, self.window),
            behind: bilinear::Grid::new(behind, size, false, None),
        }
    }
}

/// The rows of a [`Style::tensor`], for the CPU function.
struct StyleRows<'a> {
    rows: &'a [f32],
    /// 0 mask, 1 overlay, 2 cut-out.
    effect: u32,
    opacity: f32,
    mirror: bool,
    edge: f32,
    /// The color behind cut-outs.
    behind: [f32; 3],
    /// The kind of image behind: 0 none, 1 mirrored with the frame, 2 never mirrored.
    kind: f32,
    /// Added to the scores of each class to find the best shown class, and the best hidden one.
    shown: &'a [f32],
    hidden: &'a [f32],
    /// First row of the colors.
    first_color: usize,
}

impl<'a> StyleRows<'a> {
    fn new(rows: &'a [f32], classes: usize) -> Self {
        let c4 = classes.div_ceil(4);
        let offsets = |group: usize| &rows[4 * (2 + group * c4)..][..classes];
        let ([effect, opacity, mirror, edge], [r, g, b, kind]) = (row(rows, 0), row(rows, 1));
        Self {
            rows,
            effect: effect as u32,
            opacity,
            mirror: mirror != 0.0,
            edge,
            behind: [r, g, b],
            kind,
            shown: offsets(0),
            hidden: offsets(1),
            first_color: 2 + 2 * c4,
        }
    }

    /// Returns the color of a pixel with the given scores at full opacity.
    fn color(
        &self,
        scores: &[f32],
        frame: [f32; 3],
        behind: impl FnOnce() -> [f32; 3],
    ) -> [f32; 3] {
        let (shown, hidden) = (best(scores, self.shown), best(scores, self.hidden));
        let is_shown = shown.1 >= hidden.1;
        match (self.effect, is_shown) {
            (0 | 1, true) => {
                let [r, g, b, _] = row(self.rows, self.first_color + shown.0);
                [r, g, b]
            }
            (0, false) => [0.0; 3],
            (1, false) => frame,
            _ => {
                let (behind, alpha) = (behind(), alpha(self.edge * (shown.1 - hidden.1)));
                std::array::from_fn(|c| behind[c] + (frame[c] - behind[c]) * alpha)
            }
        }
    }

    /// Returns the background color, from the image behind if there is one.
    fn behind_color(&self, row: &[f32], tap: bilinear::Tap) -> [f32; 3] {
        let mut color = self.behind;
        if self.kind != 0.0 {
            interpolate(row, tap, &mut color);
        }
        color
    }

    /// Blends `color` over the frame with the style's opacity.
    fn blended(&self, frame: [f32; 3], color: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| frame[c] + (color[c] - frame[c]) * self.opacity)
    }
}

fn row(rows: &[f32], i: usize) -> [f32; 4] {
    <[f32; 4]>::try_from(&rows[4 * i..][..4]).expect("invariant: rows of four")
}

/// Interpolates one pixel of a row whose pixels have as many channels as `out`.
fn interpolate(row: &[f32], tap: bilinear::Tap, out: &mut [f32]) {
    let c = out.len();
    bilinear::blend(&row[tap.lo * c..][..c], &row[tap.hi * c..][..c], tap.weight, out);
}

/// Returns the first class with the largest sum of score and offset, and that sum.
fn best(scores: &[f32], offsets: &[f32]) -> (usize, f32) {
    let sums = scores.iter().zip(offsets).map(|(score, offset)| score + offset).enumerate();
    sums.fold((0, -2.0 * APART), |best, (i, v)| if v > best.1 { (i, v) } else { best })
}

/// Returns the weight of the frame for a margin between the scores of shown and hidden classes.
fn alpha(margin: f32) -> f32 {
    match margin {
        margin if margin >= STEEP => 1.0,
        margin if margin <= -STEEP => 0.0,
        margin => 1.0 / (1.0 + (-margin).exp()),
    }
}

/// Rounds an RGB color to bytes and packs it as an opaque pixel.
fn packed(color: [f32; 3]) -> u32 {
    let [r, g, b] = color.map(|v| (v.clamp(0.0, 255.0) + 0.5) as u32);
    r | g << 8 | b << 16 | 255 << 24
}

impl Op for Paint {
    fn signature(&self) -> Signature {
        Signature::new("paint").u32("packed pixels").f32("scores").f32("style").f32("background")
    }

    fn attributes(&self) -> String {
        let flag = |on, text| if on { text } else { "" };
        format!(
            "{}{}{}",
            self.classes,
            flag(self.align_corners, " align_corners"),
            flag(self.window.is_some(), " window")
        )
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
        let style = StyleRows::new(style.f32(), self.classes);
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
                    let behind_x = if style.kind == 1.0 { source_x } else { x };
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
        let grid = Dispatch::new("paint_grid")
            .read("scores", 1)
            .read("look", 2)
            .bind("grid", Operand::Scratch(0))
            .param("points", points)
            .param("c4", c4)
            .layout("scores", scores)
            .param("apart", APART)
            .param("steep", STEEP)
            .threads(points);
        let dispatch = Dispatch::new("paint")
            .read("pixels", 0)
            .read("scores", 1)
            .read("look", 2)
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
