//! Colors: jitter and normalization as one matrix, and blur.

use super::rng::KeyedRng;
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::models::Preprocessing;
use image::RgbImage;

/// Weights of red, green and blue in gray (ITU-R BT.601, as in Pillow and torchvision).
const GRAY: [f32; 3] = [0.299, 0.587, 0.114];

/// Changes of colors. All four are linear in red, green and blue, so together they are one matrix.
/// Results are clamped to 0 to 255 once, at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
    /// Rotation of the hue, in full turns.
    hue: f32,
}

impl Jitter {
    /// Draws the changes for a `strength` (see `Augmentation::jitter`). Always draws four numbers.
    pub(super) fn draw(strength: f64, rng: &mut KeyedRng) -> Self {
        let mut around =
            |middle: f64, width: f64| rng.between(middle - width, middle + width) as f32;
        let [brightness, contrast, saturation] = std::array::from_fn(|_| around(1.0, strength));
        Self { brightness, contrast, saturation, hue: around(0.0, strength / 10.0) }
    }

    fn is_none(&self) -> bool {
        *self == Self { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 }
    }

    /// Map from the bytes of an image (`[h, w, 3]`) to the input of a network. Contrast is relative
    /// to the mean gray of the image.
    pub(super) fn matrix(&self, rgb: &[u8], preprocess: &Preprocessing) -> ColorMap {
        let (scale, shift) = preprocess.scale_shift();
        if self.is_none() {
            return ColorMap { colors: None, scale, shift };
        }
        let mut sums = [0u64; 3];
        for pixel in rgb.chunks_exact(3) {
            for c in 0..3 {
                sums[c] += u64::from(pixel[c]);
            }
        }
        let pixels = (rgb.len() / 3).max(1) as f64;
        let mean: f32 = (0..3).map(|c| GRAY[c] * (sums[c] as f64 / pixels) as f32).sum::<f32>()
            * self.brightness;
        // Hue: a rotation around the gray axis (Rodrigues' formula), which preserves the sum of
        // red, green and blue.
        let (sin, cos) = (self.hue * std::f32::consts::TAU).sin_cos();
        let (even, side) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
        let rotation: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| match (j + 3 - i) % 3 {
                0 => even + cos,
                1 => even - side,
                _ => even + side,
            })
        });
        // Saturation: away from or towards the gray of the pixel.
        let saturate: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (1.0 - self.saturation) * GRAY[j] + if i == j { self.saturation } else { 0.0 }
            })
        });
        let gain = self.brightness * self.contrast;
        let factors = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                gain * (0..3).map(|k| rotation[i][k] * saturate[k][j]).sum::<f32>()
            })
        });
        // The rows of both matrices sum to 1, so they leave a gray offset unchanged.
        ColorMap { colors: Some((factors, (1.0 - self.contrast) * mean)), scale, shift }
    }
}

/// Map from a color in bytes to the input of a network.
pub(super) struct ColorMap {
    /// Factors `[to][from]` and an offset, on 0 to 255; `None` is the identity.
    colors: Option<([[f32; 3]; 3], f32)>,
    scale: [f32; 3],
    shift: [f32; 3],
}

impl ColorMap {
    pub(super) fn apply(&self, pixel: [u8; 3]) -> [f32; 3] {
        let pixel = pixel.map(f32::from);
        let changed = match &self.colors {
            None => pixel,
            Some((m, offset)) => m.map(|row| {
                (row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2] + offset)
                    .clamp(0.0, 255.0)
            }),
        };
        std::array::from_fn(|c| changed[c] * self.scale[c] + self.shift[c])
    }
}

/// Blurs an image `[h, w, 3]` by a Gaussian with this standard deviation in pixels.
pub(super) fn blur(rgb: Vec<u8>, size: Size, deviation: f32) -> Result<Vec<u8>> {
    let image = RgbImage::from_raw(size.width as u32, size.height as u32, rgb)
        .ok_or_else(|| error!(Usage, "not an image of {size} pixels"))?;
    Ok(image::imageops::blur(&image, deviation).into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Purpose;

    const SAME: Jitter = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 };
    /// Identity on bytes.
    const BYTES: Preprocessing =
        Preprocessing { mean: [0.0; 3], std: [1.0 / 255.0; 3], ..Preprocessing::IMAGENET };

    fn apply(jitter: Jitter, image: &[u8]) -> Vec<[f32; 3]> {
        let matrix = jitter.matrix(image, &BYTES);
        image.chunks_exact(3).map(|p| matrix.apply([p[0], p[1], p[2]])).collect()
    }

    #[track_caller]
    fn close(got: [f32; 3], want: [f32; 3]) {
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-2), "{got:?} for {want:?}");
    }

    #[test]
    fn each_change_does_what_its_name_says() {
        let image = [200, 100, 0, 40, 40, 40];
        let gray = 0.299 * 200.0 + 0.587 * 100.0;
        close(apply(Jitter { brightness: 0.5, ..SAME }, &image)[0], [100.0, 50.0, 0.0]);
        close(apply(Jitter { brightness: 1.5, ..SAME }, &image)[0], [255.0, 150.0, 0.0]);
        let mean = (gray + 40.0) / 2.0;
        close(apply(Jitter { contrast: 0.0, ..SAME }, &image)[0], [mean; 3]);
        close(apply(Jitter { brightness: 0.5, contrast: 0.0, ..SAME }, &image)[1], [mean / 2.0; 3]);
        close(apply(Jitter { saturation: 0.0, ..SAME }, &image)[0], [gray; 3]);
        close(apply(Jitter { saturation: 0.3, hue: 0.2, ..SAME }, &image)[1], [40.0; 3]);
        // A third of a turn moves red to green, green to blue.
        close(apply(Jitter { hue: 1.0 / 3.0, ..SAME }, &image)[0], [0.0, 200.0, 100.0]);
        close(apply(SAME, &image)[0], [200.0, 100.0, 0.0]);
    }

    #[test]
    fn strength_bounds_the_changes_and_none_is_none() {
        let mut rng = KeyedRng::new(1, Purpose::Sample, 0);
        assert!(Jitter::draw(0.0, &mut rng).is_none());
        for _ in 0..200 {
            let j = Jitter::draw(0.4, &mut rng);
            assert!(
                [j.brightness, j.contrast, j.saturation].iter().all(|f| (0.6..=1.4).contains(f)),
                "{j:?}"
            );
            assert!(j.hue.abs() <= 0.04 && !j.is_none());
        }
    }

    #[test]
    fn blur_spreads_a_point_and_keeps_flat_images() {
        let flat = vec![77; 9 * 7 * 3];
        assert_eq!(blur(flat.clone(), Size::new(9, 7), 1.3).unwrap(), flat);
        let mut point = vec![0; 9 * 9 * 3];
        point[3 * 40..][..3].fill(255);
        let spread = blur(point, Size::square(9), 1.0).unwrap();
        // 255 / (2 pi) at the center, and symmetric.
        assert!(spread[3 * 40].abs_diff(41) <= 2, "{}", spread[3 * 40]);
        let sides = [31, 39, 41, 49].map(|at| spread[3 * at]);
        assert!(sides.iter().all(|&s| s.abs_diff(sides[0]) <= 1 && s > 15 && s < 41), "{sides:?}");
    }
}
