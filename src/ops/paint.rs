//! The end of a live segmentation in one operation: upsampling of the scores, choice of the class,
//! and its color over the frame.

use super::kernel::{Dispatch, Kernel, KernelContext, Operand};
use super::preprocess_frame::colors;
use super::{Op, ResampleWindow, bilinear};
use crate::error::{Result, error};
use crate::tensor::{DType, Data, Shape, Tensor, TensorType};
use rayon::prelude::*;

/// More than any score: added to or taken from scores of classes that are left out.
const APART: f32 = 1e30;

/// Margins beyond this are taken as infinite: by then the share is about one step of 255 from 0 or
/// 1.
const STEEP: f32 = 5.5;

/// What a [`Style`] does with a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effect {
    /// The color of the pixel's class; black where that is not shown.
    #[default]
    Mask,
    /// The color of the pixel's class over the frame; the frame alone where the class is not shown.
    Overlay,
    /// The frame where a class is shown, something else behind, with a soft edge between.
    CutOut(Background),
}

/// What stands behind what was cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// One color, sRGB.
    Color([u8; 3]),
    /// The input `behind`, mirrored with the frame.
    Frame,
    /// The input `behind`, never mirrored.
    Image,
}

/// How [`Paint`] is to draw: its third input, so that it can change from frame to frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// What is done with a pixel.
    pub effect: Effect,
    /// How much of the effect is laid over the frame, 0 to 1.
    pub opacity: f32,
    /// Left and right exchanged.
    pub mirror: bool,
    /// Steepness of soft edges. With 1 the frame's share is the probability of the best shown class
    /// against the best other one; more is harder. The frame's share is 0 or 1 where this times the
    /// difference of the two scores is past 5.5.
    pub edge: f32,
    /// Color (sRGB) and whether it is shown, for each class.
    pub classes: Vec<([u8; 3], bool)>,
}

impl Style {
    /// Shape of the tensor for a number of classes: `[1, 1, rows, 4]`.
    pub fn shape(classes: usize) -> Shape {
        Shape::new(1, 1, 2 + 2 * classes.div_ceil(4) + classes, 4)
    }

    /// The tensor that [`Paint`] reads.
    ///
    /// Its rows are: effect, opacity, mirror, edge; the color behind and which kind of image (0
    /// none, 1 the frame's, 2 one of its own); for every four classes what is added to their scores
    /// where shown classes are sought, then the same where the others are; for each class its
    /// color.
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
            // Lanes without a class are in neither group.
            rows.extend((0..lanes).map(|i| {
                if self.classes.get(i).is_some_and(|c| c.1 == shown) { 0.0 } else { -APART }
            }));
        }
        for &(color, _) in &self.classes {
            rows.extend(rgb(color));
            rows.push(0.0);
        }
        Tensor::new(Self::shape(self.classes.len()), rows)
            .expect("invariant: the rows are those of the shape")
    }
}

/// Frames u32 `[N, H, W, 1]` (packed pixels, see [`super::Frame`]), scores f32 `[N, h, w, C]`, a
/// [`Style`], and images behind, f32 `[N, h', w', 3]` of 0 to 255, to painted frames u32
/// `[N, H, W, 1]`, opaque.
///
/// Scores are interpolated as by [`super::UpsampleArgmax`], and so are the images behind, with the
/// corners kept in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Channels of the scores that are classes.
    pub classes: usize,
    /// Whether scores keep the centers of the corner pixels in place; else the corners of the image
    /// are.
    pub align_corners: bool,
    /// Set where the frame is a part of what the scores are for.
    pub window: Option<ResampleWindow>,
}

struct Grids {
    scores: bilinear::Grid,
    behind: bilinear::Grid,
}

impl Paint {
    fn grids(&self, to: Shape, scores: Shape, behind: Shape) -> Grids {
        let size = (to.h, to.w);
        Grids {
            scores: bilinear::Grid::new(scores, size, self.align_corners, self.window),
            behind: bilinear::Grid::new(behind, size, false, None),
        }
    }
}

impl Op for Paint {
    fn name(&self) -> &'static str {
        "paint"
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
        let [frame, scores, look, behind] = inputs else {
            return Err(error!(Graph, "takes 4 inputs, got {}", inputs.len()));
        };
        if frame.dtype != DType::U32 || frame.shape.c != 1 || frame.shape.is_empty() {
            return Err(error!(
                Graph,
                "expected a frame of packed pixels, got {:?} {}", frame.dtype, frame.shape
            ));
        }
        if [scores, look, behind].iter().any(|t| t.dtype != DType::F32) {
            return Err(error!(Graph, "scores, look and image behind must be f32"));
        }
        let (to, n) = (frame.shape, frame.shape.n);
        let classes = (1..=scores.shape.c).contains(&self.classes);
        if !classes
            || scores.shape.n != n
            || behind.shape.n != n
            || behind.shape.c != 3
            || look.shape != Style::shape(self.classes)
        {
            return Err(error!(
                Graph,
                "{} classes over {to}: scores {}, look {} and image behind {} do not fit",
                self.classes,
                scores.shape,
                look.shape,
                behind.shape
            ));
        }
        bilinear::infer(*scores, (to.h, to.w), self.window)?;
        bilinear::infer(*behind, (to.h, to.w), None)?;
        Ok(vec![*frame])
    }

    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        let [frame, scores, look, behind] = inputs else {
            unreachable!("invariant: four inputs are inferred")
        };
        let (to, from, back) = (frame.shape(), scores.shape(), behind.shape());
        let grids = self.grids(to, from, back);
        let columns = (grids.scores.x.taps(to.w), grids.behind.x.taps(to.w));
        let row = |i: usize| {
            <[f32; 4]>::try_from(&look.f32()[4 * i..][..4]).expect("invariant: rows of four")
        };
        let ([effect, opacity, mirror, edge], [r, g, b, kind]) = (row(0), row(1));
        let c4 = self.classes.div_ceil(4);
        let apart = |group: usize| &look.f32()[4 * (2 + group * c4)..][..self.classes];
        let (shown, others) = (apart(0), apart(1));
        let mut pixels = vec![0u32; to.len()];
        pixels.par_chunks_mut(to.w).enumerate().for_each_init(
            || (Vec::new(), Vec::new(), vec![0f32; from.c]),
            |(scratch, back_scratch, values), (line, out)| {
                let (image, y) = (line / to.h, line % to.h);
                let scores = &scores.f32()[from.index(image, 0, 0, 0)..];
                let between =
                    bilinear::row_at(scores, from.w * from.c, grids.scores.y.tap(y), scratch);
                let behind = &behind.f32()[back.index(image, 0, 0, 0)..];
                let behind =
                    bilinear::row_at(behind, back.w * 3, grids.behind.y.tap(y), back_scratch);
                for (x, out) in out.iter_mut().enumerate() {
                    let seen = if mirror != 0.0 { to.w - 1 - x } else { x };
                    let tap = columns.0[seen];
                    bilinear::blend(
                        &between[tap.lo * from.c..][..from.c],
                        &between[tap.hi * from.c..][..from.c],
                        tap.weight,
                        values,
                    );
                    let best = |group: &[f32]| {
                        let sums = values.iter().zip(group).map(|(v, apart)| v + apart).enumerate();
                        sums.fold(
                            (0, -2.0 * APART),
                            |best, (i, v)| if v > best.1 { (i, v) } else { best },
                        )
                    };
                    let (inside, outside) = (best(shown), best(others));
                    let photo = colors(frame.u32()[to.index(image, y, seen, 0)]);
                    let is_shown = inside.1 >= outside.1;
                    let [cr, cg, cb, _] = row(2 + 2 * c4 + inside.0);
                    let styled = match (effect as u32, is_shown) {
                        (0 | 1, true) => [cr, cg, cb],
                        (0, false) => [0.0; 3],
                        (1, false) => photo,
                        _ => {
                            let tap = columns.1[if kind == 1.0 { seen } else { x }];
                            let mut back = [r, g, b];
                            if kind != 0.0 {
                                let at = |i: usize| &behind[3 * i..][..3];
                                bilinear::blend(at(tap.lo), at(tap.hi), tap.weight, &mut back);
                            }
                            let share = match edge * (inside.1 - outside.1) {
                                margin if margin >= STEEP => 1.0,
                                margin if margin <= -STEEP => 0.0,
                                margin => 1.0 / (1.0 + (-margin).exp()),
                            };
                            std::array::from_fn(|c| back[c] + (photo[c] - back[c]) * share)
                        }
                    };
                    let bytes = [0, 1, 2]
                        .map(|c| photo[c] + (styled[c] - photo[c]) * opacity)
                        .map(|v| (v.clamp(0.0, 255.0) + 0.5) as u32);
                    *out = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | 255 << 24;
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
        let mut dispatch = Dispatch::new("paint")
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
            .threads(to.positions());
        dispatch = grids.scores.params(dispatch);
        let names = ["v_mul", "v_add", "v_den", "v_last", "v_scale", "v_shift"];
        dispatch = grids.behind.y.params(dispatch, names);
        let names = ["u_mul", "u_add", "u_den", "u_last", "u_scale", "u_shift"];
        dispatch = grids.behind.x.params(dispatch, names);
        vec![Kernel {
            label: "pixel".into(),
            dispatches: vec![grid, dispatch],
            scratch: vec![4 * points as u64],
        }]
    }
}
