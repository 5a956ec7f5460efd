//! The foreground's own colors at the edge of a cut-out, where pixels are mixtures with the background.
//!
//! As Forte: "Approximate Fast Foreground Colour Estimation" (ICIP 2021): foreground and background are
//! first assumed to vary slowly, as weighted means over a window, and the foreground then gets its part
//! of what is left of the pixel's color. Here the means are of the pixels that are nearly opaque and
//! nearly transparent, so that one pass suffices.

use super::sums::{Windows, between};
use crate::error::Result;
use crate::geometry::Size;
use crate::memory;
use rayon::prelude::*;
use std::ops::Range;

/// Radius of the windows in cells.
const RADIUS: usize = 4;
/// Largest side of a cell: its sums of `FULL * 255` per pixel fit into 32 bits.
const MAX_SIDE: usize = 64;
/// Weight of an opaque pixel.
const FULL: f32 = 4095.0;
/// Rows of cells in a strip.
const STRIP: usize = 4;

/// Sums over the pixels of a cell: red, green, blue and weight of the foreground, then of the background.
type Sums = [u32; 8];

/// Mean colors of foreground and background, 0 to 255.
type Means = [f32; 6];

/// Replaces the colors of pixels with an opacity between 0 and 255 by an estimate of the foreground's,
/// and of transparent pixels by black. `rgb` is `[height, width, 3]`, `alpha` is `[height, width]`, and
/// `reach` is the distance in pixels at which opaque and transparent pixels are found.
///
/// # Errors
/// Returns an error if there is not enough memory.
pub(super) fn decontaminate(rgb: &mut [u8], alpha: &[u8], size: Size, reach: usize) -> Result<()> {
    let side = reach.div_ceil(RADIUS).clamp(1, MAX_SIDE);
    let grid = size.map(|pixels| pixels.div_ceil(side));
    let windows = Windows { grid, radius: reach.div_ceil(side) };
    memory::check((grid.pixels() * size_of::<Sums>()) as u64, "the colors of the cut-out")?;
    let weights = weights();
    let mut cells: Vec<Sums> = memory::zeros(grid.pixels())?;
    cells.par_chunks_exact_mut(grid.width).enumerate().for_each(|(row, cells)| {
        let rows = row * side..((row + 1) * side).min(size.height);
        for y in rows {
            let pixels = size.width * y..size.width * (y + 1);
            let rgb = &rgb[3 * pixels.start..3 * pixels.end];
            add_row(cells, rgb, &alpha[pixels], side, &weights);
        }
    });
    let strips = rgb.par_chunks_mut(3 * size.width * side * STRIP).enumerate();
    strips.try_for_each(|(index, rgb)| {
        let first = index * STRIP;
        let rows = first.saturating_sub(1)..(first + STRIP + 1).min(grid.height);
        let means = means(&cells, windows, rows.clone())?;
        let mut line = memory::with_capacity(grid.width)?;
        for (y, rgb) in (first * side..).zip(rgb.chunks_exact_mut(3 * size.width)) {
            let (above, below, weight) = between(y, side, grid.height);
            let row = |row: usize| &means[grid.width * (row - rows.start)..][..grid.width];
            line.clear();
            line.extend(row(above).iter().zip(row(below)).map(|(a, b)| mix(a, b, weight)));
            correct_row(rgb, &alpha[size.width * y..][..size.width], &line, side);
        }
        Ok(())
    })
}

/// Returns the weight of a pixel in the foreground's mean, by opacity: at least 1 unless it is
/// transparent, so that there is a mean wherever one is needed.
fn weights() -> [u32; 256] {
    std::array::from_fn(|alpha| {
        let weight = FULL * (alpha as f32 / 255.0).powi(8);
        (weight.round() as u32).max(u32::from(alpha > 0))
    })
}

/// Adds a row of pixels to the sums of its cells.
fn add_row(cells: &mut [Sums], rgb: &[u8], alpha: &[u8], side: usize, weights: &[u32; 256]) {
    let pixels = rgb.chunks(3 * side).zip(alpha.chunks(side));
    for (sums, (rgb, alpha)) in cells.iter_mut().zip(pixels) {
        for (rgb, &alpha) in rgb.chunks_exact(3).zip(alpha) {
            let both = [weights[usize::from(alpha)], weights[usize::from(255 - alpha)]];
            for (sums, weight) in sums.chunks_exact_mut(4).zip(both) {
                sums.iter_mut().zip(rgb).for_each(|(sum, &v)| *sum += weight * u32::from(v));
                sums[3] += weight;
            }
        }
    }
}

/// Returns the mean colors around the cells of `rows`.
fn means(cells: &[Sums], windows: Windows, rows: Range<usize>) -> Result<Vec<Means>> {
    let width = windows.grid.width;
    let mut means = memory::with_capacity(width * rows.len())?;
    windows.sum(
        rows,
        |x, y| cells[width * y + x].map(i64::from),
        |window| {
            let [r, g, b, n, br, bg, bb, bn] = window.sums.map(|sum| sum as f64);
            let mean = |sum: f64, n: f64| if n == 0.0 { 0.0 } else { (sum / n) as f32 };
            means.push([
                mean(r, n),
                mean(g, n),
                mean(b, n),
                mean(br, bn),
                mean(bg, bn),
                mean(bb, bn),
            ]);
        },
    )?;
    Ok(means)
}

fn mix(a: &Means, b: &Means, weight: f32) -> Means {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * weight)
}

/// Replaces the colors of a row of pixels. `line` holds the means of its cells.
fn correct_row(rgb: &mut [u8], alpha: &[u8], line: &[Means], side: usize) {
    for (x, (rgb, &alpha)) in rgb.chunks_exact_mut(3).zip(alpha).enumerate() {
        match alpha {
            0 => rgb.fill(0),
            255 => {}
            _ => {
                let (left, right, weight) = between(x, side, line.len());
                let means = mix(&line[left], &line[right], weight);
                let alpha = f32::from(alpha) / 255.0;
                for (value, i) in rgb.iter_mut().zip(0..3) {
                    let (front, behind) = (means[i], means[3 + i]);
                    let rest = f32::from(*value) - alpha * front - (1.0 - alpha) * behind;
                    *value = (front + alpha * rest).round() as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A foreground and a background of nearly constant colors, mixed over a slanted edge of six
    /// pixels.
    fn scene(size: Size) -> (Vec<u8>, Vec<u8>) {
        let (mut rgb, mut alpha) = (Vec::new(), Vec::new());
        for (y, x) in (0..size.height).flat_map(|y| (0..size.width).map(move |x| (y, x))) {
            let distance = x as f32 + y as f32 / 4.0 - size.width as f32 / 2.0;
            let a = (0.5 + distance / 6.0).clamp(0.0, 1.0);
            let front = front(x);
            let behind = [30.0, 200.0 - y as f32 / 4.0, 60.0];
            rgb.extend((0..3).map(|i| (a * front[i] + (1.0 - a) * behind[i]).round() as u8));
            alpha.push((255.0 * a).round() as u8);
        }
        (rgb, alpha)
    }

    fn front(x: usize) -> [f32; 3] {
        [220.0, 90.0 + x as f32 / 8.0, 40.0]
    }

    #[test]
    fn the_foregrounds_own_color_is_found_at_the_edge() {
        let size = Size::new(120, 70);
        for reach in [8, 16, 30] {
            let (mut rgb, alpha) = scene(size);
            let before = rgb.clone();
            decontaminate(&mut rgb, &alpha, size, reach).unwrap();
            let mut mixed = 0;
            for (at, (rgb, &alpha)) in rgb.chunks_exact(3).zip(&alpha).enumerate() {
                match alpha {
                    0 => assert_eq!(rgb, [0; 3]),
                    255 => assert_eq!(rgb, &before[3 * at..3 * at + 3]),
                    _ => {
                        mixed += 1;
                        // The background's green is 100 steps away. The colors change by 2 steps
                        // in a window of 16 pixels.
                        let expected = front(at % size.width);
                        let error =
                            rgb.iter().zip(expected).map(|(&v, e)| (f32::from(v) - e).abs());
                        assert!(
                            error.fold(0.0, f32::max) <= 8.0,
                            "{rgb:?} instead of {expected:?}"
                        );
                    }
                }
            }
            assert!(mixed > 300);
        }
    }

    #[test]
    fn an_image_without_an_edge_is_unchanged() {
        let size = Size::new(9, 5);
        let rgb: Vec<u8> = (0..135).map(|i| (i * 31 % 251) as u8).collect();
        let mut same = rgb.clone();
        decontaminate(&mut same, &[255; 45], size, 8).unwrap();
        assert_eq!(same, rgb);
        // Nothing is opaque: the mean is that of the half-transparent pixels.
        decontaminate(&mut same, &[1; 45], size, 8).unwrap();
        decontaminate(&mut same, &[0; 45], size, 8).unwrap();
        assert!(same.iter().all(|&v| v == 0));
    }
}
