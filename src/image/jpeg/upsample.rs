//! Conversion of planes to RGB as in libjpeg: subsampled color is interpolated with a triangle
//! filter ("fancy upsampling", `jdsample.c`), then converted in fixed point (`jdcolor.c`).

use super::Plane;
use rayon::prelude::*;

/// Computes row `y` of a plane at full size into `out`.
fn upsample_row(plane: &Plane, y: usize, out: &mut [u8], sums: &mut Vec<i32>) {
    let (across, down) = (plane.factors.width, plane.factors.height);
    let row = |y: usize| &plane.samples[y * plane.stride..][..plane.width];
    // Planes of up to two columns are not interpolated horizontally, as in libjpeg.
    let fancy = plane.width > 2;
    let source = y / down;
    match (across, down) {
        (2, 1) if fancy => {
            sums.clear();
            sums.extend(row(source).iter().map(|&v| 4 * i32::from(v)));
            double_columns(sums, out, 4, 8);
        }
        (2, 2) if fancy => {
            let (near, far) = (row(source), row(neighbor(plane, source, y)));
            sums.clear();
            sums.extend(
                near.iter().zip(far).map(|(&near, &far)| 3 * i32::from(near) + i32::from(far)),
            );
            double_columns(sums, out, 8, 7);
        }
        (1, 2) => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            let (near, far) = (row(source), row(neighbor(plane, source, y)));
            for (out, (&near, &far)) in out.iter_mut().zip(near.iter().zip(far)) {
                *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
            }
        }
        (1, _) => out.copy_from_slice(&row(source)[..out.len()]),
        _ => {
            for (out, &sample) in out.chunks_mut(across).zip(row(source)) {
                out.fill(sample);
            }
        }
    }
}

/// Returns the source row that output row `y` is blended with: the one above for even rows, below
/// for odd rows, clamped at the edges.
fn neighbor(plane: &Plane, source: usize, y: usize) -> usize {
    if y.is_multiple_of(2) { source.saturating_sub(1) } else { (source + 1).min(plane.height - 1) }
}

/// Doubles the columns of vertically weighted sums: three quarters of the nearer sample and one
/// quarter of the farther one. `even` and `odd` are the rounding terms of even and odd columns.
fn double_columns(sums: &[i32], out: &mut [u8], even: i32, odd: i32) {
    let last = sums.len() - 1;
    for (x, out) in out.chunks_mut(2).enumerate() {
        let here = sums[x];
        let (before, after) =
            (if x == 0 { here } else { sums[x - 1] }, if x == last { here } else { sums[x + 1] });
        out[0] = ((3 * here + before + even) >> 4) as u8;
        if let Some(out) = out.get_mut(1) {
            *out = ((3 * here + after + odd) >> 4) as u8;
        }
    }
}

/// Converts to fixed point with 16 fractional bits.
const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fixed(1.40200) * cr + HALF) >> 16);
    let green = y + ((-fixed(0.34414) * cb - fixed(0.71414) * cr + HALF) >> 16);
    let blue = y + ((fixed(1.77200) * cb + HALF) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}

/// Converts luma and two chroma planes to the image, `[height, width, 3]`.
pub(super) fn to_rgb(planes: &[Plane; 3], width: usize, out: &mut [u8]) {
    out.par_chunks_exact_mut(3 * width).enumerate().for_each_init(
        || (vec![0u8; width], vec![0u8; width], vec![0u8; width], Vec::new()),
        |(luma, blue, red, sums), (y, out)| {
            upsample_row(&planes[0], y, luma, sums);
            upsample_row(&planes[1], y, blue, sums);
            upsample_row(&planes[2], y, red, sums);
            for (out, ((&y, &cb), &cr)) in
                out.as_chunks_mut::<3>().0.iter_mut().zip(luma.iter().zip(&*blue).zip(&*red))
            {
                *out = rgb(y, cb, cr);
            }
        },
    );
}
