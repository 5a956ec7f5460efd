//! Sums over square windows, in constant time per cell.
//!
//! The terms are integers, so that sums are exact: a window's sum has the same bits whichever rows a
//! strip starts with, and a running sum does not drift.

use crate::error::Result;
use crate::geometry::Size;
use crate::memory;
use std::ops::Range;

/// Square windows around the cells of a grid, clipped at the grid's edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Columns and rows of the grid.
    pub grid: Size,
    /// Cells on each side of the center.
    pub radius: usize,
}

/// The window around one cell.
pub(super) struct Window<'a, const N: usize> {
    pub x: usize,
    pub y: usize,
    /// Sums of the terms.
    pub sums: &'a [i64; N],
    /// Number of cells.
    pub cells: i64,
}

impl Windows {
    /// Returns the rows that the windows around `rows` reach.
    pub(super) fn reach(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start.saturating_sub(self.radius)..(rows.end + self.radius).min(self.grid.height)
    }

    /// Passes the window around each cell of `rows` to `each`, row by row. `term` returns the terms of
    /// the cell in a column and row.
    ///
    /// # Errors
    /// Returns an error if memory for a row of sums runs out.
    pub(super) fn sum<const N: usize>(
        &self,
        rows: Range<usize>,
        term: impl Fn(usize, usize) -> [i64; N],
        mut each: impl FnMut(&Window<N>),
    ) -> Result<()> {
        let (width, r) = (self.grid.width, self.radius);
        let mut columns = memory::collect(width, std::iter::repeat_n([0; N], width))?;
        let mut reached = 0..0;
        for y in rows {
            let now = self.reach(&(y..y + 1));
            if reached.is_empty() {
                reached = now.start..now.start;
            }
            for row in reached.end..now.end {
                columns.iter_mut().enumerate().for_each(|(x, column)| add(column, &term(x, row)));
            }
            for row in reached.start..now.start {
                let old = columns.iter_mut().enumerate();
                old.for_each(|(x, column)| subtract(column, &term(x, row)));
            }
            reached = now;
            let mut sums = [0; N];
            columns[..r.min(width)].iter().for_each(|column| add(&mut sums, column));
            for x in 0..width {
                if let Some(column) = columns.get(x + r) {
                    add(&mut sums, column);
                }
                if x > r {
                    subtract(&mut sums, &columns[x - r - 1]);
                }
                let cells = reached.len() * ((x + r + 1).min(width) - x.saturating_sub(r));
                each(&Window { x, y, sums: &sums, cells: cells as i64 });
            }
        }
        Ok(())
    }
}

fn add<const N: usize>(sums: &mut [i64; N], terms: &[i64; N]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

fn subtract<const N: usize>(sums: &mut [i64; N], terms: &[i64; N]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum -= term);
}

/// Where pixels are between the centers of cells of `side` pixels: the cell before, the cell after, and
/// the weight of the latter, 0 to 1. Pixels beyond the first or last center have that cell alone.
pub(super) fn between(pixel: usize, side: usize, cells: usize) -> (usize, usize, f32) {
    // In half pixels from the center of the first cell.
    let at = (2 * pixel + 1).saturating_sub(side);
    let first = (at / (2 * side)).min(cells - 1);
    let weight = (at - 2 * side * first).min(2 * side) as f32 / (2 * side) as f32;
    (first, (first + 1).min(cells - 1), weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_summed_as_cell_by_cell_from_any_row_on() {
        let term = |x: usize, y: usize| [(x * 7 + y * 13) as i64 % 11, -((x * y) as i64)];
        for (width, height, radius) in [(1, 1, 3), (9, 7, 0), (9, 7, 2), (3, 20, 5), (20, 3, 30)] {
            let windows = Windows { grid: Size::new(width, height), radius };
            for first in [0, height / 2] {
                let mut seen = 0;
                let each = |window: &Window<2>| {
                    seen += 1;
                    let (mut sums, mut cells) = ([0; 2], 0);
                    for y in window.y.saturating_sub(radius)..(window.y + radius + 1).min(height) {
                        for x in window.x.saturating_sub(radius)..(window.x + radius + 1).min(width)
                        {
                            add(&mut sums, &term(x, y));
                            cells += 1;
                        }
                    }
                    assert_eq!((window.sums, window.cells), (&sums, cells));
                };
                windows.sum(first..height, term, each).unwrap();
                assert_eq!(seen, width * (height - first));
            }
        }
    }

    #[test]
    fn pixels_are_between_the_centers_of_cells() {
        assert_eq!(
            [0, 1, 2].map(|pixel| between(pixel, 1, 3)),
            [(0, 1, 0.0), (1, 2, 0.0), (2, 2, 0.0)]
        );
        let four: Vec<_> = (0..8).map(|pixel| between(pixel, 4, 2)).collect();
        assert_eq!(four[..3], [(0, 1, 0.0), (0, 1, 0.0), (0, 1, 0.125)]);
        assert_eq!((four[5], four[7]), ((0, 1, 0.875), (1, 1, 0.375)));
    }
}
