//! Colors: jitter and normalization in one matrix, and blur.

use super::draw::Draw;
use crate::error::{Result, error};
use crate::models::Preprocessing;
use image::RgbImage;

/// Weights of red, green and blue in a gray (ITU-R BT.601, as Pillow and torchvision take it).
const GRAY: [f32; 3] = [0.299, 0.587, 0.114];

/// How colors are changed. All four changes are linear in red, green and blue, so together they are
/// one matrix; what leaves 0 to 255 is cut off once, at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
    /// Of a full turn.
    hue: f32,
}

impl Jitter {
    /// `strength` as in `Augmentation::jitter`. Draws four numbers whatever the strength is.
    pub(super) fn draw(strength: f64, draw: &mut Draw) -> Self {
        let mut around =
            |middle: f64, width: f64| draw.between(middle - width, middle + width) as f32;
        let [brightness, contrast, saturation] = std::array::from_fn(|_| around(1.0, strength));
        Self { brightness, contrast, saturation, hue: around(0.0, strength / 10.0) }
    }

    fn is_none(&self) -> bool {
        *self == Self { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 }
    }

    /// From the bytes of an image (`[h, w, 3]`; contrast turns around its mean gray) to a network's
    /// input.
    pub(super) fn matrix(&self, rgb: &[u8], preprocess: &Preprocessing) -> ToInput {
        let (scale, shift) = preprocess.scale_shift();
        if self.is_none() {
            return ToInput { colors: None, scale, shift };
        }
        let mut sums = [0u64; 3];
        rgb.chunks_exact(3).for_each(|p| (0..3).for_each(|c| sums[c] += u64::from(p[c])));
        let pixels = (rgb.len() / 3).max(1) as f64;
        let mean: f32 = (0..3).map(|c| GRAY[c] * (sums[c] as f64 / pixels) as f32).sum::<f32>()
            * self.brightness;
        // Turning hues: a rotation around the gray axis (Rodrigues' formula), which keeps the sum
        // of the three.
        let (sin, cos) = (self.hue * std::f32::consts::TAU).sin_cos();
        let (even, side) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
        let turn: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| match (j + 3 - i) % 3 {
                0 => even + cos,
                1 => even - side,
                _ => even + side,
            })
        });
        // Away from or towards the pixel's own gray.
        let saturate: [[f32; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (1.0 - self.saturation) * GRAY[j] + if i == j { self.saturation } else { 0.0 }
            })
        });
        let gain = self.brightness * self.contrast;
        let factors = std::array::from_fn(|i| {
            std::array::from_fn(|j| gain * (0..3).map(|k| turn[i][k] * saturate[k][j]).sum::<f32>())
        });
        // Rows of both matrices sum to 1, so a gray summand passes through them as it is.
        ToInput { colors: Some((factors, (1.0 - self.contrast) * mean)), scale, shift }
    }
}

/// From a byte color to a network's input.
pub(super) struct ToInput {
    /// Factors `[to][from]` and one summand, on 0 to 255; `None` leaves colors as they are.
    colors: Option<([[f32; 3]; 3], f32)>,
    scale: [f32; 3],
    shift: [f32; 3],
}

impl ToInput {
    pub(super) fn apply(&self, pixel: [u8; 3]) -> [f32; 3] {
        let pixel = pixel.map(f32::from);
        let changed = match &self.colors {
            None => pixel,
            Some((m, add)) => m.map(|row| {
                (row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2] + add).clamp(0.0, 255.0)
            }),
        };
        std::array::from_fn(|c| changed[c] * self.scale[c] + self.shift[c])
    }
}

/// An image `[h, w, 3]` under a Gaussian of this deviation in pixels.
pub(super) fn blur(rgb: Vec<u8>, (w, h): (usize, usize), deviation: f32) -> Result<Vec<u8>> {
    let image = RgbImage::from_raw(w as u32, h as u32, rgb)
        .ok_or_else(|| error!(Usage, "no image of {w} x {h} pixels"))?;
    Ok(image::imageops::blur(&image, deviation).into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::draw::Purpose;

    const SAME: Jitter = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 };
    /// Bytes stay bytes.
    const BYTES: Preprocessing =
        Preprocessing { mean: [0.0; 3], std: [1.0 / 255.0; 3], ..Preprocessing::IMAGENET };

    fn of(jitter: Jitter, image: &[u8]) -> Vec<[f32; 3]> {
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
        close(of(Jitter { brightness: 0.5, ..SAME }, &image)[0], [100.0, 50.0, 0.0]);
        close(of(Jitter { brightness: 1.5, ..SAME }, &image)[0], [255.0, 150.0, 0.0]);
        let mean = (gray + 40.0) / 2.0;
        close(of(Jitter { contrast: 0.0, ..SAME }, &image)[0], [mean; 3]);
        close(of(Jitter { brightness: 0.5, contrast: 0.0, ..SAME }, &image)[1], [mean / 2.0; 3]);
        close(of(Jitter { saturation: 0.0, ..SAME }, &image)[0], [gray; 3]);
        close(of(Jitter { saturation: 0.3, hue: 0.2, ..SAME }, &image)[1], [40.0; 3]);
        // A third of a turn moves red to green, green to blue.
        close(of(Jitter { hue: 1.0 / 3.0, ..SAME }, &image)[0], [0.0, 200.0, 100.0]);
        close(of(SAME, &image)[0], [200.0, 100.0, 0.0]);
    }

    #[test]
    fn strength_bounds_the_changes_and_none_is_none() {
        let mut draw = Draw::new(1, Purpose::Sample, 0);
        assert!(Jitter::draw(0.0, &mut draw).is_none());
        for _ in 0..200 {
            let j = Jitter::draw(0.4, &mut draw);
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
        assert_eq!(blur(flat.clone(), (9, 7), 1.3).unwrap(), flat);
        let mut point = vec![0; 9 * 9 * 3];
        point[3 * 40..][..3].fill(255);
        let spread = blur(point, (9, 9), 1.0).unwrap();
        // 255 / (2 pi) at the center, and the same on all four sides.
        assert!(spread[3 * 40].abs_diff(41) <= 2, "{}", spread[3 * 40]);
        let sides = [31, 39, 41, 49].map(|at| spread[3 * at]);
        assert!(sides.iter().all(|&s| s.abs_diff(sides[0]) <= 1 && s > 15 && s < 41), "{sides:?}");
    }
}
