//! Conversion between luma/chroma and RGB.
//!
//! The matrices are those of ITU-R BT.601-7 (2.5.1) and BT.709-6 (item 3.2 on): with `Kg = 1 - Kr -
//! Kb`, `Y = Kr R + Kg G + Kb B`, `Cb = (B - Y) / (2 - 2 Kb)`, `Cr = (R - Y) / (2 - 2 Kr)`, where
//! `Kr, Kb` are 0.299, 0.114 in BT.601 and 0.2126, 0.0722 in BT.709. In 8-bit limited range
//! (BT.601-7, 2.5.3) `Y` ranges from 16 to 235, and `Cb` and `Cr` from 16 to 240 around 128; in
//! full range (ITU-T H.273, 8.3) all three use 0 to 255.
//!
//! A chroma sample applies to all pixels that it covers, without interpolation and regardless of
//! chroma siting, so colored edges may be off by half a pixel.

use crate::geometry::Size;
use rayon::prelude::*;

/// Luma weights of red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: standard-definition television, JPEG, webcams.
    Bt601,
    /// ITU-R BT.709: high-definition television.
    Bt709,
}

impl Matrix {
    /// Returns the matrix that players assume if a file does not specify one: BT.709 for a width of
    /// at least 1280 or a height above 576, otherwise BT.601.
    pub fn default_for(size: Size) -> Self {
        if size.width >= 1280 || size.height > 576 { Matrix::Bt709 } else { Matrix::Bt601 }
    }

    /// Returns the name, `BT.601` or `BT.709`.
    pub fn name(self) -> &'static str {
        match self {
            Matrix::Bt601 => "BT.601",
            Matrix::Bt709 => "BT.709",
        }
    }

    /// Returns `Kr` and `Kb`.
    fn weights(self) -> (f64, f64) {
        match self {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        }
    }
}

/// Encoding of 8-bit luma and chroma samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color {
    /// Luma weights.
    pub matrix: Matrix,
    /// Whether samples use 0 to 255 instead of 16 to 235 (240 for chroma).
    pub full_range: bool,
}

/// The samples of one component: the sample at column `x` and row `y` of its grid is `data[x * step
/// + y * pitch]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'a> {
    pub data: &'a [u8],
    pub step: usize,
    pub pitch: usize,
}

impl<'a> Samples<'a> {
    /// Creates the samples of a contiguous plane with `width` samples per row.
    pub(super) fn plane(data: &'a [u8], width: usize) -> Self {
        Self { data, step: 1, pitch: width }
    }
}

/// Blue and red differences, one sample per `across * down` pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chroma<'a> {
    pub cb: Samples<'a>,
    pub cr: Samples<'a>,
    pub across: usize,
    pub down: usize,
}

/// Fractional bits of the fixed-point coefficients.
const FRACTION_BITS: u32 = 16;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn fixed(x: f64) -> i32 {
    (x * f64::from(1u32 << FRACTION_BITS)).round() as i32
}

fn clamp(x: i32) -> u8 {
    (x >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Converts to RGB, `[height, width, 3]`. Without chroma the image is gray.
pub(super) fn to_rgb(size: Size, luma: Samples, chroma: Option<Chroma>, color: Color) -> Vec<u8> {
    let (kr, kb) = color.matrix.weights();
    let kg = 1.0 - kr - kb;
    let (black, y_scale, c_scale) =
        if color.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
    let y_gain = fixed(y_scale);
    let (r_cr, b_cb) = (fixed(c_scale * 2.0 * (1.0 - kr)), fixed(c_scale * 2.0 * (1.0 - kb)));
    let (g_cb, g_cr) =
        (fixed(c_scale * 2.0 * (1.0 - kb) * kb / kg), fixed(c_scale * 2.0 * (1.0 - kr) * kr / kg));
    let mut rgb = vec![0; size.pixels() * 3];
    rgb.par_chunks_mut(3 * size.width).enumerate().for_each(|(y, row)| {
        let luma_row = &luma.data[y * luma.pitch..];
        let chroma_rows = chroma.map(|c| {
            let at = y / c.down;
            (&c.cb.data[at * c.cb.pitch..], &c.cr.data[at * c.cr.pitch..], c)
        });
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let value = (i32::from(luma_row[x * luma.step]) - black) * y_gain + HALF;
            let (cb, cr) = chroma_rows.map_or((0, 0), |(cb, cr, c)| {
                let at = x / c.across;
                (i32::from(cb[at * c.cb.step]) - 128, i32::from(cr[at * c.cr.step]) - 128)
            });
            pixel[0] = clamp(value + r_cr * cr);
            pixel[1] = clamp(value - g_cb * cb - g_cr * cr);
            pixel[2] = clamp(value + b_cb * cb);
        }
    });
    rgb
}

/// Converts RGB to a luma plane followed by two chroma planes at half the width and height (rounded
/// up). A chroma sample is the mean of the pixels that it covers.
pub(super) fn from_rgb_420(size: Size, rgb: &[u8], color: Color) -> Vec<u8> {
    let Size { width, height } = size;
    let (kr, kb) = color.matrix.weights();
    let kg = 1.0 - kr - kb;
    let (black, y_scale, c_scale) =
        if color.full_range { (0, 1.0, 1.0) } else { (16, 219.0 / 255.0, 224.0 / 255.0) };
    let y_weights = [kr, kg, kb].map(|k| fixed(k * y_scale));
    let cb_weights = [-kr, -kg, 1.0 - kb].map(|k| fixed(k * c_scale / (2.0 - 2.0 * kb)));
    let cr_weights = [1.0 - kr, -kg, -kb].map(|k| fixed(k * c_scale / (2.0 - 2.0 * kr)));
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let mut out = vec![0; width * height + 2 * cw * ch];
    let (luma, chroma) = out.split_at_mut(width * height);
    luma.par_chunks_mut(width).zip(rgb.par_chunks(3 * width)).for_each(|(out, row)| {
        for (y, p) in out.iter_mut().zip(row.chunks_exact(3)) {
            *y = clamp(
                dot(y_weights, [p[0], p[1], p[2]].map(i32::from)) + (black << FRACTION_BITS) + HALF,
            );
        }
    });
    let (cb, cr) = chroma.split_at_mut(cw * ch);
    cb.par_chunks_mut(cw).zip(cr.par_chunks_mut(cw)).zip(rgb.par_chunks(6 * width)).for_each(
        |((cb, cr), rows)| {
            for x in 0..cw {
                // Blocks at odd edges are smaller.
                let columns = 2 * x..(2 * x + 2).min(width);
                let block = rows
                    .chunks_exact(3 * width)
                    .flat_map(|row| columns.clone().map(move |x| &row[3 * x..3 * x + 3]));
                let (mut sum, mut n) = ([0; 3], 0);
                for p in block {
                    sum = [
                        sum[0] + i32::from(p[0]),
                        sum[1] + i32::from(p[1]),
                        sum[2] + i32::from(p[2]),
                    ];
                    n += 1;
                }
                let sample = |weights: [i32; 3]| {
                    clamp(dot(weights, sum) / n + (128 << FRACTION_BITS) + HALF)
                };
                (cb[x], cr[x]) = (sample(cb_weights), sample(cr_weights));
            }
        },
    );
    out
}

fn dot(a: [i32; 3], b: [i32; 3]) -> i32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED_601: Color = Color { matrix: Matrix::Bt601, full_range: false };
    const LIMITED_709: Color = Color { matrix: Matrix::Bt709, full_range: false };
    const FULL_601: Color = Color { matrix: Matrix::Bt601, full_range: true };

    fn pixel(yuv: [u8; 3], color: Color) -> [u8; 3] {
        let plane = |i: usize| Samples::plane(&yuv[i..=i], 1);
        let chroma = Chroma { cb: plane(1), cr: plane(2), across: 1, down: 1 };
        to_rgb(Size::square(1), plane(0), Some(chroma), color).try_into().unwrap()
    }

    /// 8-bit values of 100 % color bars: ITU-R BT.471 / BT.801 for BT.601, the same bars in BT.709,
    /// and JFIF for full range.
    #[test]
    fn color_bars_have_their_published_values() {
        let bars: [(Color, [u8; 3], [u8; 3]); 12] = [
            (LIMITED_601, [255, 255, 255], [235, 128, 128]),
            (LIMITED_601, [0, 0, 0], [16, 128, 128]),
            (LIMITED_601, [255, 0, 0], [81, 90, 240]),
            (LIMITED_601, [0, 255, 0], [145, 54, 34]),
            (LIMITED_601, [0, 0, 255], [41, 240, 110]),
            (LIMITED_601, [255, 255, 0], [210, 16, 146]),
            (LIMITED_709, [255, 0, 0], [63, 102, 240]),
            (LIMITED_709, [0, 255, 0], [173, 42, 26]),
            (LIMITED_709, [0, 0, 255], [32, 240, 118]),
            (LIMITED_709, [255, 255, 0], [219, 16, 138]),
            (FULL_601, [255, 0, 0], [76, 85, 255]),
            (FULL_601, [0, 0, 255], [29, 255, 107]),
        ];
        for (color, rgb, yuv) in bars {
            assert_eq!(from_rgb_420(Size::square(1), &rgb, color), yuv, "{rgb:?} in {color:?}");
            // Rounding to 8 bits changes chroma by up to a half, which the gains of 2.02 for chroma
            // and 1.16 for luma amplify to at most two.
            let back = pixel(yuv, color);
            assert!(
                back.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 2),
                "{yuv:?} in {color:?} gave {back:?} for {rgb:?}"
            );
        }
    }

    #[test]
    fn whole_numbers_are_within_one_of_the_formula() {
        for color in [LIMITED_601, LIMITED_709, FULL_601] {
            let (kr, kb) = color.matrix.weights();
            let (off, ys, cs) = if color.full_range {
                (0.0, 1.0, 1.0)
            } else {
                (16.0, 255.0 / 219.0, 255.0 / 224.0)
            };
            for code in 0..16 * 16 * 16u32 {
                let yuv = [code & 15, (code >> 4) & 15, code >> 8].map(|n| (n * 17) as u8);
                let (y, cb, cr) = (
                    (f64::from(yuv[0]) - off) * ys,
                    (f64::from(yuv[1]) - 128.0) * cs,
                    (f64::from(yuv[2]) - 128.0) * cs,
                );
                let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
                let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
                let expected = [r, g, b].map(|v| v.round().clamp(0.0, 255.0));
                let got = pixel(yuv, color);
                let near = got.iter().zip(expected).all(|(&a, b)| (f64::from(a) - b).abs() <= 1.0);
                assert!(near, "{yuv:?} in {color:?}: {got:?}, expected {expected:?}");
            }
        }
    }

    #[test]
    fn odd_edges_keep_their_own_chroma() {
        // 3 x 3, the last column red, the last row blue: their blocks contain no other pixels
        // except the corner.
        let mut rgb = vec![0; 27];
        for i in 0..2 {
            rgb[(i * 3 + 2) * 3] = 255;
            rgb[(6 + i) * 3 + 2] = 255;
        }
        let out = from_rgb_420(Size::square(3), &rgb, LIMITED_601);
        let (cb, cr) = (&out[9..13], &out[13..17]);
        assert_eq!((cb[1], cr[1]), (90, 240), "red at the right edge");
        assert_eq!((cb[2], cr[2]), (240, 110), "blue at the lower edge");
        assert_eq!((cb[0], cr[0], cb[3], cr[3]), (128, 128, 128, 128), "black elsewhere");
    }
}
