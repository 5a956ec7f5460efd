//! The guided filter with a color guide (He, Sun, Tang: "Guided Image Filtering", ECCV 2010, section
//! 3.5).
//!
//! In each window the values are fitted by a linear function of the guide's color, and the filtered
//! value of a cell is the mean of the functions of all windows that contain it.
//!
//! All sums are integers, so that strips of rows give the bits of the whole.

use super::sums::Windows;
use crate::error::Result;
use crate::geometry::Size;
use crate::memory;
use std::ops::Range;

/// Largest component of a guide color.
pub(super) const WHITE: u16 = 16 * 255;
/// The value 1.
pub(super) const ONE: u16 = 4096;
/// The coefficient 1. A slope is at most the deviation of the values, a half, over twice the root of
/// [`GuidedFilter::epsilon`], which has to be above 1e-6: at most 250, and the offset at most 751.
const UNIT: f64 = (1 << 20) as f64;

/// What the filter reads of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// Color of the guide, 0 to [`WHITE`].
    pub guide: [u16; 3],
    /// Value to filter, 0 to [`ONE`].
    pub value: u16,
}

/// The mean of the functions of all windows that contain a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Coefficients {
    /// Factors of the guide's components, which are 0 to 1.
    pub slope: [f32; 3],
    pub offset: f32,
    /// Fraction of the values from one half on, 0 to 1: a mean over windows of means over windows. It
    /// is exactly 0 or 1 where there is no border within twice the radius.
    pub inside: f32,
}

/// A guided filter over the cells of a grid.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuidedFilter {
    /// Columns and rows.
    pub grid: Size,
    /// Cells on each side of a window's center.
    pub radius: usize,
    /// Variance of the guide, in colors of 0 to 1, that counts as noise.
    pub epsilon: f64,
}

/// Terms of the sums over a window: guide, products of the guide, value, products of both, and whether
/// the value is inside.
const TERMS: usize = 14;

impl GuidedFilter {
    /// Returns the coefficients of `rows`, row by row. `fill` writes the cells of a row.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub(super) fn coefficients(
        &self,
        rows: Range<usize>,
        fill: impl Fn(usize, &mut [Cell]),
    ) -> Result<Vec<Coefficients>> {
        let width = self.grid.width;
        let windows = Windows { grid: self.grid, radius: self.radius };
        let fitted = windows.reach(&rows);
        let read = windows.reach(&fitted);
        let count = width * read.len();
        let mut cells = memory::collect(count, std::iter::repeat_n(Cell::default(), count))?;
        cells.chunks_exact_mut(width).zip(read.clone()).for_each(|(row, y)| fill(y, row));
        let mut fits = memory::with_capacity(width * fitted.len())?;
        let cell = |x: usize, y: usize| &cells[width * (y - read.start) + x];
        windows.sum(
            fitted.clone(),
            |x, y| terms(cell(x, y)),
            |window| fits.push(self.fit(window.sums, window.cells)),
        )?;
        let mut means = memory::with_capacity(width * rows.len())?;
        windows.sum(
            rows,
            |x, y| fits[width * (y - fitted.start) + x].map(i64::from),
            |window| {
                let scale = 1.0 / (window.cells as f64 * UNIT);
                let [r, g, b, offset, inside] = window.sums.map(|sum| (sum as f64 * scale) as f32);
                means.push(Coefficients { slope: [r, g, b], offset, inside });
            },
        )?;
        Ok(means)
    }

    /// Returns the bytes that [`GuidedFilter::coefficients`] allocates for this number of rows.
    pub(super) fn bytes(&self, rows: usize) -> usize {
        let (read, fitted) = (rows + 4 * self.radius, rows + 2 * self.radius);
        let row = read * size_of::<Cell>() + fitted * size_of::<[i32; 5]>();
        let row = row + rows * size_of::<Coefficients>() + size_of::<[i64; TERMS]>();
        row.saturating_mul(self.grid.width)
    }

    /// Fits a linear function by least squares. Returns its slope and offset, and the fraction inside,
    /// in fixed point.
    fn fit(&self, sums: &[i64; TERMS], cells: i64) -> [i32; 5] {
        let [r, g, b, rr, rg, rb, gg, gb, bb, v, vr, vg, vb, inside] = *sums;
        let inside = (UNIT * inside as f64 / cells as f64).round() as i32;
        if v == 0 || v == cells * i64::from(ONE) {
            return [0, 0, 0, if v == 0 { 0 } else { UNIT as i32 }, inside];
        }
        let n = cells as f64;
        let guide = [r, g, b].map(|sum| sum as f64 / (n * f64::from(WHITE)));
        let product = |sum: i64, i: usize, j: usize| {
            sum as f64 / (n * f64::from(WHITE) * f64::from(WHITE)) - guide[i] * guide[j]
        };
        let value = v as f64 / (n * f64::from(ONE));
        let shared = |sum: i64, i: usize| {
            sum as f64 / (n * f64::from(WHITE) * f64::from(ONE)) - guide[i] * value
        };
        let variance = |sum, i| product(sum, i, i) + self.epsilon;
        let slope = solve(
            [
                variance(rr, 0),
                product(rg, 0, 1),
                product(rb, 0, 2),
                variance(gg, 1),
                product(gb, 1, 2),
                variance(bb, 2),
            ],
            [shared(vr, 0), shared(vg, 1), shared(vb, 2)],
        );
        let offset = value - slope.iter().zip(guide).map(|(a, b)| a * b).sum::<f64>();
        let fixed = |x: f64| (x * UNIT).round() as i32;
        [fixed(slope[0]), fixed(slope[1]), fixed(slope[2]), fixed(offset), inside]
    }
}

fn terms(cell: &Cell) -> [i64; TERMS] {
    let [r, g, b] = cell.guide.map(i64::from);
    let v = i64::from(cell.value);
    let inside = i64::from(cell.value >= ONE / 2);
    [r, g, b, r * r, r * g, r * b, g * g, g * b, b * b, v, v * r, v * g, v * b, inside]
}

/// Solves a positive definite system of three equations, given by the upper triangle of its matrix, by
/// Cramer's rule.
fn solve([a, b, c, d, e, f]: [f64; 6], [x, y, z]: [f64; 3]) -> [f64; 3] {
    let (df, be, bf) = (d * f - e * e, b * e - c * d, c * e - b * f);
    let (af, ae, ad) = (a * f - c * c, b * c - a * e, a * d - b * b);
    let scale = 1.0 / (a * df + b * bf + c * be);
    [
        (df * x + bf * y + be * z) * scale,
        (bf * x + af * y + ae * z) * scale,
        (be * x + ae * y + ad * z) * scale,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    fn noise(grid: Size, seed: u64) -> Vec<Cell> {
        let mut random = SplitMix64(seed);
        let mut up_to = |n: u16| (random.bits() % (u64::from(n) + 1)) as u16;
        (0..grid.pixels())
            .map(|_| Cell { guide: [(); 3].map(|()| up_to(WHITE)), value: up_to(ONE) })
            .collect()
    }

    fn run(filter: &GuidedFilter, cells: &[Cell], rows: Range<usize>) -> Vec<Coefficients> {
        let width = filter.grid.width;
        filter
            .coefficients(rows, |y, row| row.copy_from_slice(&cells[width * y..][..width]))
            .unwrap()
    }

    /// Filters by the formulas of the paper in f64, window by window, with Gaussian elimination.
    fn naive(filter: &GuidedFilter, cells: &[Cell]) -> Vec<f64> {
        let Size { width, height } = filter.grid;
        let r = filter.radius;
        let window = |at: usize| {
            let (x, y) = (at % width, at / width);
            let rows = y.saturating_sub(r)..(y + r + 1).min(height);
            rows.flat_map(move |y| {
                (x.saturating_sub(r)..(x + r + 1).min(width)).map(move |x| width * y + x)
            })
        };
        let guide = |at: usize| cells[at].guide.map(|v| f64::from(v) / f64::from(WHITE));
        let fit = |at: usize| {
            let mut normal = [[0.0; 5]; 4];
            for i in window(at) {
                let [a, b, c] = guide(i);
                let row = [a, b, c, 1.0, f64::from(cells[i].value) / f64::from(ONE)];
                for (j, k) in (0..4).flat_map(|j| (0..5).map(move |k| (j, k))) {
                    normal[j][k] += row[j] * row[k];
                }
            }
            let n = normal[3][3];
            (0..3).for_each(|j| normal[j][j] += n * filter.epsilon);
            eliminate(normal)
        };
        let fits: Vec<[f64; 4]> = (0..cells.len()).map(fit).collect();
        let filtered = |at: usize| {
            let [a, b, c] = guide(at);
            let (sum, n) = window(at).fold((0.0, 0.0), |(sum, n), i| {
                let f = fits[i];
                (sum + f[0] * a + f[1] * b + f[2] * c + f[3], n + 1.0)
            });
            sum / n
        };
        (0..cells.len()).map(filtered).collect()
    }

    fn eliminate(mut m: [[f64; 5]; 4]) -> [f64; 4] {
        for j in 0..4 {
            for i in (0..4).filter(|&i| i != j) {
                let factor = m[i][j] / m[j][j];
                (0..5).for_each(|k| m[i][k] -= factor * m[j][k]);
            }
        }
        [0, 1, 2, 3].map(|j| m[j][4] / m[j][j])
    }

    /// Coefficients are rounded to 2^-20 and then to f32. With four terms of at most 1 times the guide,
    /// and slopes far below 8 here, both are below 4 * (2^-21 + 8 * 2^-24) < 4e-6.
    #[test]
    fn it_is_the_filter_of_the_paper() {
        for (width, height, radius, epsilon) in
            [(1, 1, 2, 1e-4), (13, 9, 1, 1e-2), (17, 12, 3, 1e-3), (8, 21, 30, 1e-4)]
        {
            let filter = GuidedFilter { grid: Size::new(width, height), radius, epsilon };
            let cells = noise(filter.grid, 5);
            let got = run(&filter, &cells, 0..height);
            for ((got, expected), cell) in got.iter().zip(naive(&filter, &cells)).zip(&cells) {
                let guide = cell.guide.map(|v| f64::from(v) / f64::from(WHITE));
                let sum: f64 = guide.iter().zip(got.slope).map(|(g, s)| g * f64::from(s)).sum();
                let got = sum + f64::from(got.offset);
                assert!((got - expected).abs() < 4e-6, "{got} instead of {expected}");
            }
        }
    }

    #[test]
    fn strips_have_the_bits_of_the_whole() {
        let filter = GuidedFilter { grid: Size::new(11, 37), radius: 3, epsilon: 1e-4 };
        let cells = noise(filter.grid, 6);
        let whole = run(&filter, &cells, 0..37);
        for rows in [1, 4, 10, 36] {
            let starts = (0..37).step_by(rows);
            let strips = starts.flat_map(|y| run(&filter, &cells, y..(y + rows).min(37)));
            assert_eq!(strips.collect::<Vec<_>>(), whole, "{rows}");
        }
    }

    #[test]
    fn constant_values_stay_exactly_and_are_all_on_one_side() {
        let filter = GuidedFilter { grid: Size::new(9, 8), radius: 2, epsilon: 1e-4 };
        let mut cells = noise(filter.grid, 7);
        for (value, offset) in [(0, 0.0), (ONE, 1.0)] {
            cells.iter_mut().for_each(|cell| cell.value = value);
            let expected = Coefficients { slope: [0.0; 3], offset, inside: offset };
            assert!(run(&filter, &cells, 0..8).iter().all(|c| *c == expected));
        }
    }
}
