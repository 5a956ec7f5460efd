//! Areas of COCO, with the pixels of pycocotools: polygons (`rleFrPoly`) and run lengths, plain and
//! as text (`rleFrString`). The rules are those of `common/maskApi.c` in cocodataset/cocoapi.

use super::canvas::Canvas;
use crate::error::{Error, Result, error};
use crate::memory;

/// Points are rounded to this fraction of a pixel.
const SCALE: f64 = 5.0;

/// Maximum distance of a point from the origin, in pixels.
const MAX_COORDINATE: f64 = (1 << 24) as f64;

/// Returns a coordinate in fifths of a pixel, rounded as pycocotools does; `None` if it is absurd.
pub(in crate::data) fn fifths(pixels: f64) -> Option<i32> {
    // Truncated, as C does: rounding differs for negative numbers.
    (pixels.abs() <= MAX_COORDINATE).then_some((SCALE * pixels + 0.5) as i32)
}

/// Draws a polygon with points in fifths of a pixel.
///
/// The boundary is followed in steps of a fifth. Where it passes the middle of a column's center,
/// from the fifth 5x + 2 to 5x + 3, it switches between outside and inside for all rows below.
///
/// # Errors
/// Returns an error if there is no memory, or the polygon is too complex.
pub(super) fn polygon(canvas: &mut Canvas, points: &[[i32; 2]], label: u16) -> Result<()> {
    let (width, height) = canvas.extent();
    let xs = || points.iter().map(|[x, _]| i64::from(*x));
    let (Some(least), Some(most)) = (xs().min(), xs().max()) else { return Ok(()) };
    let (first, last) = columns(least, most, width);
    if first > last {
        return Ok(());
    }
    // A bit for each row and the end of each column.
    let stride = height as usize + 1;
    let bits = (last - first + 1) as usize * stride;
    let mut switches: Vec<u64> = memory::zeros(bits.div_ceil(64))?;
    let (mut top, mut bottom) = (height, 0);
    let sides = || points.iter().zip(points.iter().cycle().skip(1));
    let edges = || sides().map(|(&start, &end)| Edge::new(start, end));
    let steps = edges().map(|edge| edge.steps(width)).fold(0, u64::saturating_add);
    canvas.spend(steps)?;
    for edge in edges() {
        let (from, to) = columns(edge.least_x(), edge.most_x(), width);
        for column in from..=to {
            let y = edge.row_at(column, height);
            (top, bottom) = (top.min(y), bottom.max(y));
            let bit = (column - first) as usize * stride + y as usize;
            switches[bit / 64] ^= 1 << (bit % 64);
        }
    }
    canvas.spend(((last - first + 1) * (bottom - top).max(0)) as u64)?;
    for column in first..=last {
        let start = (column - first) as usize * stride;
        let mut inside = false;
        for y in top..bottom.min(height) {
            let bit = start + y as usize;
            inside ^= switches[bit / 64] >> (bit % 64) & 1 == 1;
            if inside {
                canvas.set((y * width + column) as usize, label);
            }
        }
    }
    Ok(())
}

/// Returns the first and last column of the image whose middle is between two fifths.
fn columns(least: i64, most: i64, width: i64) -> (i64, i64) {
    let first = (least - 2).div_euclid(5) + i64::from((least - 2).rem_euclid(5) > 0);
    (first.max(0), (most - 3).div_euclid(5).min(width - 1))
}

/// A side of a polygon, from its left end, or its upper end if it is steep.
struct Edge {
    start: [i64; 2],
    end: [i64; 2],
    is_steep: bool,
    /// Change along the other axis with each step.
    slope: f64,
}

impl Edge {
    fn new(a: [i32; 2], b: [i32; 2]) -> Self {
        let (a, b) = (a.map(i64::from), b.map(i64::from));
        let (dx, dy) = ((b[0] - a[0]).abs(), (b[1] - a[1]).abs());
        let is_steep = dx < dy;
        let axis = usize::from(is_steep);
        let (start, end) = if a[axis] > b[axis] { (b, a) } else { (a, b) };
        let slope = (end[1 - axis] - start[1 - axis]) as f64 / dx.max(dy) as f64;
        Self { start, end, is_steep, slope }
    }

    fn least_x(&self) -> i64 {
        self.start[0].min(self.end[0])
    }

    fn most_x(&self) -> i64 {
        self.start[0].max(self.end[0])
    }

    /// Number of steps that `row_at` takes in all columns.
    fn steps(&self, width: i64) -> u64 {
        let (from, to) = columns(self.least_x(), self.most_x(), width);
        let each = if self.is_steep { 32 } else { 2 };
        1 + each * (to - from + 1).max(0) as u64
    }

    /// Coordinate along the other axis after `t` steps.
    fn other(&self, t: i64) -> i64 {
        let start = self.start[usize::from(!self.is_steep)];
        (start as f64 + self.slope * t as f64 + 0.5) as i64
    }

    /// Returns the row at which the side passes the middle of a column, up to `height`.
    fn row_at(&self, column: i64, height: i64) -> i64 {
        let fifth = 5 * column + 2;
        let upper = if self.is_steep {
            self.start[1] + self.steps_to(fifth) - 1
        } else {
            let t = fifth - self.start[0];
            self.other(t).min(self.other(t + 1))
        };
        let row = ((upper as f64 + 0.5) / SCALE - 0.5).clamp(0.0, height as f64);
        row.ceil() as i64
    }

    /// Returns the first number of steps after which a steep side is past a fifth.
    fn steps_to(&self, fifth: i64) -> i64 {
        let is_past = |t: i64| {
            if self.slope > 0.0 { self.other(t) > fifth } else { self.other(t) <= fifth }
        };
        // The coordinate never turns back, so the place is found by bisection.
        let (mut before, mut past) = (0, self.end[1] - self.start[1]);
        while past - before > 1 {
            let middle = before + (past - before) / 2;
            if is_past(middle) {
                past = middle;
            } else {
                before = middle;
            }
        }
        past
    }
}

/// Draws runs without and with the label in turn, down the columns.
///
/// # Errors
/// Returns an error if a run is malformed or they do not cover the image exactly.
pub(super) fn runs(
    canvas: &mut Canvas,
    runs: impl Iterator<Item = Result<u32>>,
    label: u16,
) -> Result<()> {
    let pixels = canvas.size().pixels();
    let (mut at, mut is_inside) = (0, false);
    for run in runs {
        let run = run? as usize;
        if run > pixels - at {
            return Err(wrong_sum("more", pixels));
        }
        // Empty runs would be free otherwise.
        canvas.spend(1 + run as u64)?;
        if is_inside {
            canvas.run(at, run, label);
        }
        at += run;
        is_inside = !is_inside;
    }
    if at == pixels { Ok(()) } else { Err(wrong_sum("fewer", pixels)) }
}

fn wrong_sum(relation: &str, pixels: usize) -> Error {
    error!(Data, "the runs cover {relation} pixels than the image's {pixels}")
        .advice("export the annotations again")
}

/// Decodes the text form of run lengths: 5 bits a character from `0` on, the sixth set if more
/// follow, the least significant ones first; after the third, differences to the last but one.
pub(super) fn unpack(text: &[u8]) -> impl Iterator<Item = Result<u32>> + '_ {
    let mut rest = text.iter();
    let (mut before, mut count) = ([0i64; 2], 0usize);
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let run = number(*first, &mut rest).and_then(|value| {
            let value = if count > 2 { value + before[count % 2] } else { value };
            u32::try_from(value).map_err(|_| damaged())
        });
        if let Ok(run) = run {
            before[count % 2] = run.into();
        }
        count += 1;
        Some(run)
    })
}

/// Decodes a signed number that begins with `first`.
fn number(first: u8, rest: &mut std::slice::Iter<u8>) -> Result<i64> {
    let (mut value, mut character) = (0i64, first);
    // Seven characters have more bits than any image has pixels.
    for shift in (0..35).step_by(5) {
        let bits = character.checked_sub(b'0').filter(|bits| *bits < 64).ok_or_else(damaged)?;
        value |= i64::from(bits & 0x1f) << shift;
        if bits & 0x20 == 0 {
            let is_negative = bits & 0x10 != 0;
            return Ok(if is_negative { value | -1 << (shift + 5) } else { value });
        }
        character = *rest.next().ok_or_else(damaged)?;
    }
    Err(damaged())
}

fn damaged() -> Error {
    error!(Data, "`counts` is not a valid run-length code").advice("export the annotations again")
}
