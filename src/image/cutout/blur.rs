//! The blurred background of an image.
//!
//! The mean is over pixels of the background alone, so that the colors of what is cut out do not bleed
//! into it: the weights of a Gaussian are multiplied by the transparency, and their sum is normalized.

use super::sums::between;
use crate::error::Result;
use crate::geometry::Size;
use crate::memory;
use rayon::prelude::*;

/// Standard deviation of the Gaussian as a fraction of the image's long side.
const DEVIATION: f32 = 0.02;
/// Standard deviation in cells, at least: a blurred image needs no more of them.
const CELLS: f32 = 4.0;
/// Reach of the Gaussian in standard deviations.
const REACH: f32 = 3.0;

/// Weighted color of a cell, 0 to 255, and its weight.
type Cell = [f32; 4];

/// A blurred image, as the colors of cells between which pixels are interpolated.
#[derive(Debug)]
pub(super) struct Blurred {
    /// Side of a cell in pixels.
    side: usize,
    grid: Size,
    cells: Vec<Cell>,
}

impl Blurred {
    /// Blurs an image, `[height, width, 3]`, leaving out pixels by their opacity, `[height, width]`.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub(super) fn new(rgb: &[u8], alpha: &[u8], size: Size) -> Result<Self> {
        let deviation = DEVIATION * size.width.max(size.height) as f32;
        let side = ((deviation / CELLS) as usize).max(1);
        let grid = size.map(|pixels| pixels.div_ceil(side));
        let mut cells: Vec<Cell> = memory::zeros(grid.pixels())?;
        cells.par_chunks_exact_mut(grid.width).enumerate().for_each(|(row, cells)| {
            for y in row * side..((row + 1) * side).min(size.height) {
                let pixels = size.width * y..size.width * (y + 1);
                let rgb = &rgb[3 * pixels.start..3 * pixels.end];
                add_row(cells, rgb, &alpha[pixels], side);
            }
        });
        let mean = mean(&cells);
        let taps = taps(deviation / side as f32);
        let rows = convolved(&cells, grid, &taps)?;
        drop(cells);
        // The second pass is along what are now rows.
        let turned = Size::new(grid.height, grid.width);
        let mut cells = convolved(&rows, turned, &taps)?;
        // Far inside of what is cut out there is no background.
        cells.iter_mut().for_each(|cell| *cell = color(cell).unwrap_or(mean));
        Ok(Self { side, grid, cells })
    }

    /// Passes the color of each pixel of row `y` to `each`, from left to right.
    pub(super) fn row(&self, y: usize, width: usize, mut each: impl FnMut(usize, [u8; 3])) {
        let (above, below, down) = between(y, self.side, self.grid.height);
        let [above, below] =
            [above, below].map(|row| &self.cells[self.grid.width * row..][..self.grid.width]);
        for x in 0..width {
            let (left, right, along) = between(x, self.side, self.grid.width);
            each(
                x,
                [0, 1, 2].map(|i| {
                    let mix = |row: &[Cell]| row[left][i] + (row[right][i] - row[left][i]) * along;
                    let (above, below) = (mix(above), mix(below));
                    (above + (below - above) * down).round() as u8
                }),
            );
        }
    }
}

/// Adds a row of pixels to its cells. The square lets pixels of the edge, which contain colors of both
/// sides, count less.
fn add_row(cells: &mut [Cell], rgb: &[u8], alpha: &[u8], side: usize) {
    for (cell, (rgb, alpha)) in cells.iter_mut().zip(rgb.chunks(3 * side).zip(alpha.chunks(side))) {
        for (rgb, &alpha) in rgb.chunks_exact(3).zip(alpha) {
            let weight = (f32::from(255 - alpha) / 255.0).powi(2);
            cell.iter_mut().zip(rgb).for_each(|(sum, &v)| *sum += weight * f32::from(v));
            cell[3] += weight;
        }
    }
}

fn color(&[r, g, b, weight]: &Cell) -> Option<Cell> {
    (weight > 0.0).then(|| [r / weight, g / weight, b / weight, weight])
}

/// Returns the mean color, black if everything is cut out.
fn mean(cells: &[Cell]) -> Cell {
    let sum = cells
        .iter()
        .fold([0.0f64; 4], |sum, cell| std::array::from_fn(|i| sum[i] + f64::from(cell[i])));
    color(&sum.map(|v| v as f32)).unwrap_or_default()
}

/// Returns the weights of a Gaussian from its center outwards.
fn taps(deviation: f32) -> Vec<f32> {
    let reach = (REACH * deviation).ceil() as usize;
    (0..=reach).map(|i| (-0.5 * (i as f32 / deviation).powi(2)).exp()).collect()
}

/// Convolves the rows of a grid, and returns its transpose.
fn convolved(cells: &[Cell], grid: Size, taps: &[f32]) -> Result<Vec<Cell>> {
    let mut out: Vec<Cell> = memory::zeros(grid.pixels())?;
    out.par_chunks_exact_mut(grid.height).enumerate().for_each(|(x, column)| {
        let from = x.saturating_sub(taps.len() - 1);
        let to = (x + taps.len()).min(grid.width);
        for (y, sum) in column.iter_mut().enumerate() {
            for (i, cell) in (from..to).zip(&cells[grid.width * y + from..grid.width * y + to]) {
                let weight = taps[i.abs_diff(x)];
                sum.iter_mut().zip(cell).for_each(|(sum, v)| *sum += weight * v);
            }
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red square in front of a green background.
    #[test]
    fn what_is_cut_out_does_not_bleed_into_the_background() {
        let size = Size::new(200, 150);
        let inside = |at: usize| {
            let (x, y) = (at % size.width, at / size.width);
            (60..140).contains(&x) && (40..110).contains(&y)
        };
        let pixels = 0..size.pixels();
        let rgb: Vec<u8> = pixels
            .clone()
            .flat_map(|at| if inside(at) { [250, 0, 0] } else { [0, 180, 90] })
            .collect();
        let alpha: Vec<u8> = pixels.map(|at| if inside(at) { 255 } else { 0 }).collect();
        let blurred = Blurred::new(&rgb, &alpha, size).unwrap();
        let mut count = 0;
        for y in 0..size.height {
            blurred.row(y, size.width, |_, color| {
                count += 1;
                assert!(
                    color.iter().zip([0, 180, 90]).all(|(v, e)| v.abs_diff(e) <= 1),
                    "{color:?}"
                );
            });
        }
        assert_eq!(count, size.pixels());
    }

    #[test]
    fn a_pattern_is_blurred_and_its_mean_stays() {
        let size = Size::new(128, 96);
        let rgb: Vec<u8> =
            (0..size.pixels()).flat_map(|at| [if at % 2 == 0 { 255 } else { 0 }; 3]).collect();
        let blurred = Blurred::new(&rgb, &vec![0; size.pixels()], size).unwrap();
        blurred.row(50, size.width, |x, color| {
            // At the edge of the image the first column counts more than its neighbors.
            let is_mean = (118..=137).contains(&color[0]) || !(8..120).contains(&x);
            assert!(is_mean, "{color:?} at {x}");
        });
        let black = Blurred::new(&rgb, &vec![255; size.pixels()], size).unwrap();
        black.row(0, size.width, |_, color| assert_eq!(color, [0; 3]));
    }
}
