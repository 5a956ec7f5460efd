//! Drawing styles of [`Paint`](super::Paint), and the tensor in which they reach it.

use super::{bilinear, interpolate};
use crate::tensor::{Data, Shape, Tensor};

/// Larger than any score: subtracted from the scores of excluded classes.
pub(super) const APART: f32 = 1e30;

/// Margins beyond this count as infinite: the weight of the frame is then within about 1/255 of 0
/// or 1.
pub(super) const STEEP: f32 = 5.5;

/// Effects in a style tensor, injected into the shaders.
pub(super) const MASK: u32 = 0;
const OVERLAY: u32 = 1;
pub(super) const CUT_OUT: u32 = 2;

/// Kinds of background in a style tensor, injected into the shaders.
pub(super) const COLOR: u32 = 0;
pub(super) const FRAME: u32 = 1;
const IMAGE: u32 = 2;

/// Words before the rows of a style tensor.
const HEADER: usize = 8;

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

/// Drawing style of [`Paint`](super::Paint): its third input, so that it can change from frame to frame.
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
    /// Returns the shape of the u32 tensor for a number of classes: `[1, 1, rows, 4]`.
    pub fn shape(classes: usize) -> Shape {
        Shape::new(1, 1, HEADER / 4 + 2 * classes.div_ceil(4) + classes, 4)
    }

    /// Returns the tensor that [`Paint`](super::Paint) reads: `Style` of `shaders/shared/style.wesl` as words.
    ///
    /// They are: effect, kind of background, 1 if mirrored, opacity; the background color, edge; for
    /// every four classes the offsets added to their scores to find the best shown class, then the
    /// offsets to find the best hidden class; for each class its color. From opacity on all words
    /// are the bits of floats.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn tensor(&self) -> Tensor {
        let (effect, behind) = match self.effect {
            Effect::Mask => (MASK, Background::Color([0; 3])),
            Effect::Overlay => (OVERLAY, Background::Color([0; 3])),
            Effect::CutOut(behind) => (CUT_OUT, behind),
        };
        let rgb = |[r, g, b]: [u8; 3]| [r, g, b].map(f32::from);
        let ([r, g, b], background) = match behind {
            Background::Color(color) => (rgb(color), COLOR),
            Background::Frame => ([0.0; 3], FRAME),
            Background::Image => ([0.0; 3], IMAGE),
        };
        let mut floats = vec![self.opacity.clamp(0.0, 1.0), r, g, b, self.edge];
        for shown in [true, false] {
            let lanes = self.classes.len().next_multiple_of(4);
            // Lanes without a class belong to neither group.
            floats.extend((0..lanes).map(|i| {
                if self.classes.get(i).is_some_and(|c| c.1 == shown) { 0.0 } else { -APART }
            }));
        }
        for &(color, _) in &self.classes {
            floats.extend(rgb(color));
            floats.push(0.0);
        }
        let mut words = vec![effect, background, u32::from(self.mirror)];
        words.extend(floats.into_iter().map(f32::to_bits));
        Tensor::from_data(Self::shape(self.classes.len()), Data::U32(words))
            .expect("invariant: the words match the shape")
    }
}

/// A [`Style::tensor`], for the CPU function.
pub(super) struct StyleRows<'a> {
    /// One of [`MASK`], [`OVERLAY`], [`CUT_OUT`].
    effect: u32,
    /// One of [`COLOR`], [`FRAME`], [`IMAGE`].
    background: u32,
    pub mirror: bool,
    opacity: f32,
    /// The color behind cut-outs.
    behind: [f32; 3],
    edge: f32,
    /// Added to the scores of each class to find the best shown class, and the best hidden one.
    shown: &'a [f32],
    hidden: &'a [f32],
    /// Four floats for each class.
    colors: &'a [[f32; 4]],
}

impl<'a> StyleRows<'a> {
    pub(super) fn new(words: &'a [u32], classes: usize) -> Self {
        let floats: &[f32] = bytemuck::cast_slice(words);
        let (header, rows) = floats.split_at(HEADER);
        let lanes = classes.next_multiple_of(4);
        Self {
            effect: words[0],
            background: words[1],
            mirror: words[2] != 0,
            opacity: header[3],
            behind: [header[4], header[5], header[6]],
            edge: header[7],
            shown: &rows[..classes],
            hidden: &rows[lanes..][..classes],
            colors: rows[2 * lanes..].as_chunks().0,
        }
    }

    /// Returns whether the background is the frame itself, mirrored like it.
    pub(super) fn is_frame_behind(&self) -> bool {
        self.background == FRAME
    }

    /// Returns the color of a pixel with the given scores at full opacity.
    pub(super) fn color(
        &self,
        scores: &[f32],
        frame: [f32; 3],
        behind: impl FnOnce() -> [f32; 3],
    ) -> [f32; 3] {
        let (shown, hidden) = (best(scores, self.shown), best(scores, self.hidden));
        let is_shown = shown.1 >= hidden.1;
        match (self.effect, is_shown) {
            (MASK | OVERLAY, true) => {
                let [r, g, b, _] = self.colors[shown.0];
                [r, g, b]
            }
            (MASK, false) => [0.0; 3],
            (OVERLAY, false) => frame,
            _ => {
                let (behind, alpha) = (behind(), alpha(self.edge * (shown.1 - hidden.1)));
                std::array::from_fn(|c| behind[c] + (frame[c] - behind[c]) * alpha)
            }
        }
    }

    /// Returns the background color, from the image behind if there is one.
    pub(super) fn behind_color(&self, row: &[f32], tap: bilinear::Tap) -> [f32; 3] {
        let mut color = self.behind;
        if self.background != COLOR {
            interpolate(row, tap, &mut color);
        }
        color
    }

    /// Blends `color` over the frame with the style's opacity.
    pub(super) fn blended(&self, frame: [f32; 3], color: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| frame[c] + (color[c] - frame[c]) * self.opacity)
    }
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
