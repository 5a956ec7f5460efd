//! Augmentation of images and masks for training.

use super::color::{self, Jitter};
use super::rng::KeyedRng;
use crate::error::{Result, error};
use crate::geometry::{Position, Size, rows_first};
use crate::image::resample_window;
use crate::models::Preprocessing;
use serde::{Deserialize, Serialize};

/// Label in [`Sample`]s of pixels that count in no loss. Classes are smaller.
pub(super) const IGNORED: u16 = u16::MAX;

/// Maximum side of a crop.
const MAX_CROP: usize = 16_384;
/// Maximum scale factor.
const MAX_SCALE: f64 = 64.0;
/// Maximum number of scale steps, to avoid overflow.
const MAX_STEPS: f64 = 1e6;

/// Augmentation of an image and its mask, in this order: scale, pad, crop, flip, blur, color
/// jitter. Padding is at the bottom and on the right, as in TensorFlow's DeepLab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Size of the crops, in pixels; recipes state the height first. A scaled image that is smaller is padded with
    /// [`Preprocessing::pad_value`], its mask with the ignore label.
    #[serde(with = "rows_first")]
    pub crop: Size,
    /// Range of the scale factor, drawn uniformly.
    pub scale: ScaleRange,
    /// Distance between the scale factors, starting at the minimum (0.25 in TensorFlow's DeepLab);
    /// 0 allows any factor in the range.
    pub scale_step: f64,
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Strength of color jitter; 0 disables it. Brightness, contrast and saturation are multiplied
    /// by factors in `1 - jitter` to `1 + jitter`; the hue is rotated by up to `jitter / 10` of a
    /// full turn in either direction.
    pub jitter: f64,
    /// Probability of a Gaussian blur with a standard deviation of 0.1 to 2 pixels.
    pub blur: f64,
    /// Fraction of crops that are centered on a pixel of a class drawn uniformly among those in the
    /// image, so that rare classes occur more often ("category-balanced crops"). The position of
    /// the rest is uniform.
    pub balanced: f64,
}

/// A range of scale factors. Serialized as `[min, max]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct ScaleRange {
    /// Smallest factor.
    pub min: f64,
    /// Largest factor.
    pub max: f64,
}

impl ScaleRange {
    /// Creates the range from `min` to `max`, both included.
    pub const fn new(min: f64, max: f64) -> Self {
        Self { min, max }
    }
}

impl From<[f64; 2]> for ScaleRange {
    fn from([min, max]: [f64; 2]) -> Self {
        Self { min, max }
    }
}

impl From<ScaleRange> for [f64; 2] {
    fn from(range: ScaleRange) -> Self {
        [range.min, range.max]
    }
}

impl Default for Augmentation {
    /// As in the paper: crops of 513 x 513, scales of 0.5 to 2, flipped half of the time.
    fn default() -> Self {
        Self {
            crop: Size::square(513),
            scale: ScaleRange::new(0.5, 2.0),
            scale_step: 0.0,
            flip: 0.5,
            jitter: 0.0,
            blur: 0.0,
            balanced: 0.0,
        }
    }
}

impl Augmentation {
    /// Crops of size `crop` at uniform positions, without any other augmentation.
    pub fn none(crop: Size) -> Self {
        Self {
            crop,
            scale: ScaleRange::new(1.0, 1.0),
            scale_step: 0.0,
            flip: 0.0,
            jitter: 0.0,
            blur: 0.0,
            balanced: 0.0,
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field.
    pub fn check(&self) -> Result<()> {
        let crop = self.crop;
        if crop.is_empty() || !crop.fits_into(Size::square(MAX_CROP)) {
            return Err(error!(
                Config,
                "crop: each side must be 1 to {MAX_CROP} pixels, got {crop}"
            ));
        }
        let ScaleRange { min, max } = self.scale;
        if !(min > 0.0 && max >= min && max <= MAX_SCALE) {
            return Err(error!(
                Config,
                "scale: the factors must be a range above 0 and up to {MAX_SCALE}, got {min} to {max}"
            ));
        }
        if !(self.scale_step >= 0.0 && self.scale_step.is_finite()) {
            return Err(error!(Config, "scale_step: must be 0 or more, got {}", self.scale_step));
        }
        if self.scale_step > 0.0 && (max - min) / self.scale_step > MAX_STEPS {
            let step = self.scale_step;
            return Err(error!(
                Config,
                "scale_step: {step:e} divides {min} to {max} into more than {MAX_STEPS} steps"
            )
            .advice("use 0 to allow any factor in the range"));
        }
        for (name, value) in [
            ("flip", self.flip),
            ("jitter", self.jitter),
            ("blur", self.blur),
            ("balanced", self.balanced),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(error!(Config, "{name}: must be 0 to 1, got {value}"));
            }
        }
        Ok(())
    }

    fn draw_scale(&self, rng: &mut KeyedRng) -> f64 {
        let ScaleRange { min, max } = self.scale;
        if self.scale_step == 0.0 {
            return rng.between(min, max);
        }
        // The tolerance keeps rounding errors from dropping the last step, e.g. 2 of 0.5 to 2 by
        // 0.25.
        let steps = ((max - min) / self.scale_step + 1e-6).floor() as usize;
        min + rng.below(steps + 1) as f64 * self.scale_step
    }

    /// Draws the scale, position and flip of a crop.
    fn draw_window(&self, sample: &Sample, rng: &mut KeyedRng) -> Window {
        let factor = self.draw_scale(rng);
        let source = sample.size();
        let scaled = source.map(|side| ((side as f64 * factor).round() as usize).max(1));
        let size = self.crop.zip(scaled, usize::min);
        // Range of the window's position.
        let range = scaled.zip(size, |scaled, size| scaled - size);
        let center = if rng.chance(self.balanced) { sample.draw_balanced_pixel(rng) } else { None };
        let at = match center {
            Some(Position { x, y }) => {
                // Puts the scaled pixel at the center of the source's pixel into the center of the
                // window, as far as the edges allow.
                let start = |at: usize, source: usize, scaled: usize, size: usize, range: usize| {
                    ((2 * at + 1) * scaled / (2 * source)).saturating_sub(size / 2).min(range)
                };
                Position {
                    x: start(x, source.width, scaled.width, size.width, range.width),
                    y: start(y, source.height, scaled.height, size.height, range.height),
                }
            }
            None => Position { x: rng.below(range.width + 1), y: rng.below(range.height + 1) },
        };
        Window { scaled, at, size, flip: rng.chance(self.flip) }
    }

    /// Writes one augmented crop: `image` is `[h, w, 3]`, normalized; `labels` is `[h, w]`.
    pub(super) fn apply(
        &self,
        sample: &Sample,
        rng: &mut KeyedRng,
        preprocess: &Preprocessing,
        ignore: u32,
        image: &mut [f32],
        labels: &mut [u32],
    ) -> Result<()> {
        let window = self.draw_window(sample, rng);
        let jitter = Jitter::draw(self.jitter, rng);
        let blur = rng.chance(self.blur).then(|| rng.between(0.1, 2.0));
        let (Window { scaled, at, size, .. }, source) = (window, sample.size());
        let mut rgb = resample_window(&sample.rgb, source, scaled, at, size)?;
        if let Some(deviation) = blur {
            rgb = color::blur(rgb, size, deviation as f32)?;
        }
        let Size { width: w, height: h } = size;
        let to_input = jitter.matrix(&rgb, preprocess);
        let crop = self.crop.width;
        let columns: Vec<usize> = (0..w).map(|x| window.source(x, 0, source).x).collect();
        for y in 0..self.crop.height {
            let (image, labels) =
                (&mut image[3 * y * crop..][..3 * crop], &mut labels[y * crop..][..crop]);
            // Number of pixels of this row that are inside the image.
            let inside = if y < h { w } else { 0 };
            if inside > 0 {
                let row =
                    &sample.labels[window.source(0, y, source).y * source.width..][..source.width];
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
            for pixel in image[3 * padding.start..3 * padding.end].chunks_exact_mut(3) {
                pixel.copy_from_slice(&preprocess.pad_value);
            }
            labels[padding].fill(ignore);
        }
        Ok(())
    }
}

/// A crop of the scaled image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Size of the whole scaled image.
    scaled: Size,
    /// The crop's top left corner.
    at: Position,
    /// Size of the crop, at most that of the scaled image.
    size: Size,
    /// Whether the crop is flipped, including its padding.
    flip: bool,
}

impl Window {
    /// Source pixel at the center of a pixel of the window. Resampling of the image uses the same
    /// centers.
    fn source(&self, x: usize, y: usize, source: Size) -> Position {
        let along = |at: usize, scaled: usize, source: usize| (2 * at + 1) * source / (2 * scaled);
        Position {
            x: along(self.at.x + x, self.scaled.width, source.width),
            y: along(self.at.y + y, self.scaled.height, source.height),
        }
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
    pub(super) fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.rgb.len() + 2 * self.labels.len()
    }

    /// Draws a class uniformly among those in the image, and returns a pixel
    /// drawn uniformly among those of this class. Returns `None` if all pixels are ignored.
    fn draw_balanced_pixel(&self, rng: &mut KeyedRng) -> Option<Position> {
        let mut counts =
            vec![0usize; usize::from(*self.labels.iter().filter(|&&l| l != IGNORED).max()?) + 1];
        for &label in self.labels.iter().filter(|&&l| l != IGNORED) {
            counts[usize::from(label)] += 1;
        }
        let present: Vec<usize> = (0..counts.len()).filter(|&class| counts[class] > 0).collect();
        let class = present[rng.below(present.len())];
        let nth = rng.below(counts[class]);
        let mut pixels = (0..self.labels.len()).filter(|&at| usize::from(self.labels[at]) == class);
        pixels.nth(nth).map(|at| Position::new(at % self.width, at / self.width))
    }
}
