//! Colors: the color map of PASCAL VOC, endless distinct colors, and the OKLab color space.

/// Returns the color of a label in the PASCAL VOC color map: the bits of the label are distributed,
/// three at a time, to red, green and blue from the highest bit down (`VOClabelcolormap` of the VOC
/// development kit). 0 is black, 255 is (224, 224, 192).
pub(crate) fn voc_color(label: usize) -> [u8; 3] {
    let mut color = [0u8; 3];
    for (round, shift) in (0..8).rev().enumerate() {
        for (channel, value) in color.iter_mut().enumerate() {
            *value |= ((label >> (3 * round + channel) & 1) as u8) << shift;
        }
    }
    color
}

/// Returns color `index` of an endless sequence of distinct colors. Hues advance by the golden
/// angle in OKLCH, so that nearby indices have distant hues; lightness and chroma alternate.
pub(super) fn distinct(index: usize) -> [u8; 3] {
    const GOLDEN_ANGLE: f64 = 137.507_764_050_037_85;
    let hue = (25.0 + GOLDEN_ANGLE * index as f64).to_radians();
    let lightness = [0.70, 0.82, 0.60, 0.76, 0.65][index % 5];
    let chroma = [0.20, 0.14, 0.17][index % 3];
    // Reduce chroma until the color is inside the sRGB gamut. Hue and lightness, which distinguish
    // classes, are preserved.
    (0..20)
        .map(|step| oklch(lightness, chroma * (1.0 - f64::from(step) / 20.0), hue))
        .find(|rgb| rgb.iter().all(|v| (-1e-9..=1.0 + 1e-9).contains(v)))
        .unwrap_or([lightness; 3])
        .map(|v| (encode(v) * 255.0).round() as u8)
}

/// Converts OKLCH to linear sRGB (Björn Ottosson, "A perceptual color space for image processing",
/// 2020).
fn oklch(lightness: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

/// The sRGB transfer function.
fn encode(linear: f64) -> f64 {
    let linear = linear.clamp(0.0, 1.0);
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

/// The inverse of [`encode`], of an 8-bit value.
fn decode(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Returns the sRGB color of a lightness (0 to 1), a chroma (0 is gray) and a hue in degrees; `None`
/// if sRGB has none.
pub(super) fn srgb_of(lightness: f64, chroma: f64, hue: f64) -> Option<[u8; 3]> {
    let rgb = oklch(lightness, chroma, hue.to_radians());
    let is_inside = rgb.iter().all(|v| (-1e-9..=1.0 + 1e-9).contains(v));
    is_inside.then(|| rgb.map(|v| (encode(v) * 255.0).round() as u8))
}

/// Converts linear sRGB to OKLab: lightness, green to red, blue to yellow.
fn oklab(rgb: [f64; 3]) -> [f64; 3] {
    let sum = |weights: [f64; 3]| weights.iter().zip(rgb).map(|(w, v)| w * v).sum::<f64>();
    let l = sum([0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9]).max(0.0).cbrt();
    let m = sum([0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6]).max(0.0).cbrt();
    let s = sum([0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5]).max(0.0).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

/// Linear sRGB as people see it whose cones for green are missing (Machado, Oliveira and Fernandes,
/// "A physiologically-based model for simulation of color vision deficiency", 2009).
const DEUTERANOPIA: [[f64; 3]; 3] = [
    [0.367_322, 0.860_646, -0.227_968],
    [0.280_085, 0.672_501, 0.047_413],
    [-0.011_820, 0.042_940, 0.968_881],
];

/// The same for missing cones for red.
const PROTANOPIA: [[f64; 3]; 3] = [
    [0.152_286, 1.052_583, -0.204_868],
    [0.114_503, 0.786_281, 0.099_216],
    [-0.003_882, -0.048_116, 1.051_998],
];

/// A color as people see it: in OKLab, with all cones, without those for green, without those for
/// red.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen([[f64; 3]; 3]);

impl Seen {
    pub(super) fn of(color: [u8; 3]) -> Self {
        let linear = color.map(decode);
        let without =
            |cones: [[f64; 3]; 3]| {
                oklab(cones.map(|row| {
                    row.iter().zip(linear).map(|(w, v)| w * v).sum::<f64>().clamp(0.0, 1.0)
                }))
            };
        Self([oklab(linear), without(DEUTERANOPIA), without(PROTANOPIA)])
    }

    pub(super) fn lightness(self) -> f64 {
        self.0[0][0]
    }

    pub(super) fn chroma(self) -> f64 {
        let [_, a, b] = self.0[0];
        a.hypot(b)
    }

    /// Returns how far two colors are from one another with all cones.
    pub(super) fn distance(self, other: Self) -> f64 {
        euclidean(self.0[0], other.0[0])
    }

    /// Returns how far two colors are from one another for the people who see the least difference.
    pub(super) fn least_distance(self, other: Self) -> f64 {
        /// What is 0.1 apart with all cones may be 0.07 apart without some: they are few people,
        /// and have a dimension less to place colors in.
        const WITHOUT: f64 = 1.4;
        let [all, green, red] = [0, 1, 2].map(|i| euclidean(self.0[i], other.0[i]));
        all.min(WITHOUT * green).min(WITHOUT * red)
    }
}

fn euclidean(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_voc_colors_are_the_development_kits() {
        for (label, color) in [
            (0, [0, 0, 0]),
            (1, [128, 0, 0]),
            (8, [64, 0, 0]),
            (15, [192, 128, 128]),
            (20, [0, 64, 128]),
            (255, [224, 224, 192]),
        ] {
            assert_eq!(voc_color(label), color, "label {label}");
        }
    }

    #[test]
    fn generic_colors_can_be_told_apart() {
        let colors: Vec<_> = (0..40).map(distinct).collect();
        let mut least = f64::MAX;
        for (i, a) in colors.iter().enumerate() {
            for b in &colors[..i] {
                least = least.min(euclidean(a.map(f64::from), b.map(f64::from)));
            }
        }
        assert!(least > 18.0, "two of the first forty colors are {least:.1} apart");
        let first: std::collections::HashSet<_> = (0..256).map(distinct).collect();
        assert!(first.len() > 250, "{} different colors of 256", first.len());
    }

    #[test]
    fn the_color_space_is_the_published_one() {
        // Values of the article: white, and the primaries' lightness.
        let white = Seen::of([255; 3]);
        assert!((white.lightness() - 1.0).abs() < 1e-6 && white.chroma() < 1e-6);
        let red = Seen::of([255, 0, 0]);
        assert!((red.lightness() - 0.628).abs() < 1e-3 && (red.chroma() - 0.2577).abs() < 1e-3);
        let there_and_back = srgb_of(red.lightness(), red.chroma() - 1e-3, 29.23).unwrap();
        assert!(Seen::of(there_and_back).distance(red) < 5e-3, "{there_and_back:?}");
        assert_eq!(srgb_of(0.7, 0.4, 30.0), None);
    }

    #[test]
    fn without_cones_for_green_red_and_green_are_alike() {
        let [red, green, blue] = [[200, 90, 40], [120, 130, 40], [60, 90, 200]].map(Seen::of);
        assert!(red.least_distance(green) < 0.5 * red.distance(green));
        assert!(red.least_distance(blue) > 0.5 * red.distance(blue));
    }
}
