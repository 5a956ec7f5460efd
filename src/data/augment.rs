//! What is done to an image and its mask before a network trains on them.

use super::color::{self, Jitter};
use super::draw::Draw;
use crate::error::{Result, error};
use crate::image::resample_window;
use crate::models::Preprocessing;
use serde::{Deserialize, Serialize};

/// In [`Sample`]s, the label of pixels that count in no loss. Classes are below it.
pub(super) const IGNORED: u16 = u16::MAX;

/// The largest crop's side, and the largest factor of a scale.
const MOST_CROP: usize = 16_384;
const MOST_SCALE: f64 = 64.0;
/// The most steps of a scale: their number must not leave what a whole number holds.
const MOST_STEPS: f64 = 1e6;

/// What is done to an image and its mask, in this order: scale, pad, crop, flip, blur, colors. As
/// in TensorFlow's DeepLab, padding lies below and to the right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Height and width of what the network sees, in pixels. A scaled image that is smaller is
    /// padded with [`Preprocessing::pad_value`], its mask with the ignore label.
    pub crop: (usize, usize),
    /// The least and the largest factor by which an image is scaled, drawn evenly.
    pub scale: (f64, f64),
    /// Distance between the factors, counted from the least one (0.25 in TensorFlow's DeepLab); 0
    /// takes any in between.
    pub scale_step: f64,
    /// Probability of mirroring left and right.
    pub flip: f64,
    /// Strength of color changes; 0 is none. Brightness, contrast and saturation are multiplied by
    /// `1 - jitter` to `1 + jitter`, the hue is turned by up to `jitter / 10` of a circle to either
    /// side.
    pub jitter: f64,
    /// Probability of a Gaussian blur with a deviation of 0.1 to 2 pixels.
    pub blur: f64,
    /// Share of crops that are centered on a pixel of a class that is drawn evenly among those in
    /// the image, so that rare classes are seen more often ("category-balanced crops"); the others
    /// lie anywhere.
    pub balanced: f64,
}

impl Default for Augmentation {
    /// The paper's: crops of 513 x 513, scales of 0.5 to 2, mirrored half of the time.
    fn default() -> Self {
        Self {
            crop: (513, 513),
            scale: (0.5, 2.0),
            scale_step: 0.0,
            flip: 0.5,
            jitter: 0.0,
            blur: 0.0,
            balanced: 0.0,
        }
    }
}

impl Augmentation {
    /// Crops of `crop` (height, width) at any place, and nothing else.
    pub fn none(crop: (usize, usize)) -> Self {
        Self {
            crop,
            scale: (1.0, 1.0),
            scale_step: 0.0,
            flip: 0.0,
            jitter: 0.0,
            blur: 0.0,
            balanced: 0.0,
        }
    }

    /// Errors with the field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let (h, w) = self.crop;
        if !(1..=MOST_CROP).contains(&h) || !(1..=MOST_CROP).contains(&w) {
            return Err(error!(Config, "crop: {h} x {w} pixels; each side is 1 to {MOST_CROP}"));
        }
        let (least, most) = self.scale;
        if !(least > 0.0 && most >= least && most <= MOST_SCALE) {
            return Err(error!(
                Config,
                "scale: {least} to {most} is no range of factors above 0 and up to {MOST_SCALE}"
            ));
        }
        if !(self.scale_step >= 0.0 && self.scale_step.is_finite()) {
            return Err(error!(
                Config,
                "scale_step: {} is no distance of factors", self.scale_step
            ));
        }
        if self.scale_step > 0.0 && (most - least) / self.scale_step > MOST_STEPS {
            let step = self.scale_step;
            return Err(error!(
                Config,
                "scale_step: {step:e} makes more than {MOST_STEPS} factors of {least} to {most}"
            )
            .advice("0 takes any factor in between"));
        }
        for (name, value) in [
            ("flip", self.flip),
            ("jitter", self.jitter),
            ("blur", self.blur),
            ("balanced", self.balanced),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(error!(Config, "{name}: {value} is not within 0 and 1"));
            }
        }
        Ok(())
    }

    fn draw_scale(&self, draw: &mut Draw) -> f64 {
        let (least, most) = self.scale;
        if self.scale_step == 0.0 {
            return draw.between(least, most);
        }
        // A hair more than whole steps, so that 0.5 to 2 by 0.25 has its 2.
        let steps = ((most - least) / self.scale_step + 1e-6).floor() as usize;
        least + draw.below(steps + 1) as f64 * self.scale_step
    }

    /// The next crop of a sample.
    fn draw_window(&self, sample: &Sample, draw: &mut Draw) -> Window {
        let factor = self.draw_scale(draw);
        let side = |n: usize| ((n as f64 * factor).round() as usize).max(1);
        let scaled = (side(sample.width), side(sample.height));
        let size = (self.crop.1.min(scaled.0), self.crop.0.min(scaled.1));
        let room = (scaled.0 - size.0, scaled.1 - size.1);
        let center = if draw.chance(self.balanced) { sample.pixel_of_a_class(draw) } else { None };
        let at = match center {
            Some((x, y)) => {
                // The scaled pixel that shows the middle of the source's, in the middle of the
                // window where the edges allow.
                let start = |at: usize, source: usize, scaled: usize, size: usize, room: usize| {
                    ((2 * at + 1) * scaled / (2 * source)).saturating_sub(size / 2).min(room)
                };
                (
                    start(x, sample.width, scaled.0, size.0, room.0),
                    start(y, sample.height, scaled.1, size.1, room.1),
                )
            }
            None => (draw.below(room.0 + 1), draw.below(room.1 + 1)),
        };
        Window { scaled, at, size, flip: draw.chance(self.flip) }
    }

    /// Writes one augmented crop: `image` is `[h, w, 3]`, normalized, `labels` is `[h, w]`.
    pub(super) fn apply(
        &self,
        sample: &Sample,
        draw: &mut Draw,
        preprocess: &Preprocessing,
        ignore: u32,
        image: &mut [f32],
        labels: &mut [u32],
    ) -> Result<()> {
        let window = self.draw_window(sample, draw);
        let jitter = Jitter::draw(self.jitter, draw);
        let blur = draw.chance(self.blur).then(|| draw.between(0.1, 2.0));
        let (w, h) = window.size;
        let source = (sample.width, sample.height);
        let mut rgb = resample_window(&sample.rgb, source, window.scaled, window.at, window.size)?;
        if let Some(deviation) = blur {
            rgb = color::blur(rgb, (w, h), deviation as f32)?;
        }
        let to_input = jitter.matrix(&rgb, preprocess);
        let crop = self.crop.1;
        let columns: Vec<usize> = (0..w).map(|x| window.source(x, 0, sample).0).collect();
        for y in 0..self.crop.0 {
            let (image, labels) =
                (&mut image[3 * y * crop..][..3 * crop], &mut labels[y * crop..][..crop]);
            // Where the image ends, in this row.
            let inside = if y < h { w } else { 0 };
            if inside > 0 {
                let row =
                    &sample.labels[window.source(0, y, sample).1 * sample.width..][..sample.width];
                let bytes = rgb[3 * y * w..][..3 * w].chunks_exact(3);
                for (x, (pixel, &column)) in bytes.zip(&columns).enumerate() {
                    let x = if window.flip { crop - 1 - x } else { x };
                    image[3 * x..][..3]
                        .copy_from_slice(&to_input.apply([pixel[0], pixel[1], pixel[2]]));
                    labels[x] =
                        if row[column] == IGNORED { ignore } else { u32::from(row[column]) };
                }
            }
            let padding = if window.flip { 0..crop - inside } else { inside..crop };
            image[3 * padding.start..3 * padding.end]
                .chunks_exact_mut(3)
                .for_each(|p| p.copy_from_slice(&preprocess.pad_value));
            labels[padding].fill(ignore);
        }
        Ok(())
    }
}

/// The part of the scaled image that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Width and height of the whole image, scaled.
    scaled: (usize, usize),
    /// Its column and row where the part begins.
    at: (usize, usize),
    /// Width and height of the part: the crop's, or less where the scaled image is smaller.
    size: (usize, usize),
    /// Whether the crop is mirrored, padding included.
    flip: bool,
}

impl Window {
    /// The source's pixel under the center of the window's pixel. The image is resampled with the
    /// same centers.
    fn source(&self, x: usize, y: usize, sample: &Sample) -> (usize, usize) {
        let along = |at: usize, scaled: usize, source: usize| (2 * at + 1) * source / (2 * scaled);
        (
            along(self.at.0 + x, self.scaled.0, sample.width),
            along(self.at.1 + y, self.scaled.1, sample.height),
        )
    }
}

/// A decoded pair.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `[height, width, 3]`.
    pub(super) rgb: Vec<u8>,
    /// `[height, width]`: classes, or [`IGNORED`].
    pub(super) labels: Vec<u16>,
}

impl Sample {
    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rgb.len() + 2 * self.labels.len()
    }

    /// Column and row of a pixel, drawn evenly among those of a class that is drawn evenly among
    /// those in the image. `None` where all is ignored.
    fn pixel_of_a_class(&self, draw: &mut Draw) -> Option<(usize, usize)> {
        let mut counts =
            vec![0usize; usize::from(*self.labels.iter().filter(|&&l| l != IGNORED).max()?) + 1];
        self.labels.iter().filter(|&&l| l != IGNORED).for_each(|&l| counts[usize::from(l)] += 1);
        let present: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] > 0).collect();
        let class = present[draw.below(present.len())];
        let nth = draw.below(counts[class]);
        let mut pixels = (0..self.labels.len()).filter(|&at| usize::from(self.labels[at]) == class);
        pixels.nth(nth).map(|at| (at % self.width, at / self.width))
    }
}
