//! Polygons with the pixels of OpenCV's `cv2.fillPoly` (`modules/imgproc/src/drawing.cpp` of
//! version 4.12 and 5.0): the sides as lines of Bresenham, and what is between them by the even-odd
//! rule, with 16 bits after the point.

use super::canvas::Canvas;
use crate::error::Result;

/// Bits after the point.
const SHIFT: u32 = 16;

/// A point, x and y.
type Point = [i64; 2];

/// Draws a polygon.
///
/// # Errors
/// Returns an error if the polygon is too complex.
pub(in crate::data) fn polygon(canvas: &mut Canvas, points: &[[i32; 2]], label: u16) -> Result<()> {
    let mut edges = Vec::new();
    let Some(last) = points.last() else { return Ok(()) };
    let mut from = last.map(i64::from);
    for point in points {
        let to = point.map(i64::from);
        line(canvas, from, to, label)?;
        edges.extend(Edge::new(canvas.extent(), from, to));
        from = to;
    }
    fill(canvas, edges, label)
}

/// A side that is not horizontal.
#[derive(Clone, Copy)]
struct Edge {
    top: i64,
    /// The first row that it does not reach.
    bottom: i64,
    /// Column in the current row, times 2^16, and its change from row to row.
    x: i64,
    dx: i64,
}

impl Edge {
    /// Sides that leave the image have the slope of their part inside, as in OpenCV.
    fn new(extent: (i64, i64), from: Point, to: Point) -> Option<Self> {
        if from[1] == to[1] {
            return None;
        }
        let (mut a, mut b) = (from, to);
        if !(is_inside(extent, from) && is_inside(extent, to)) {
            clip(extent, &mut a, &mut b);
            if a[1] == b[1] {
                (a[1], b[1]) = (from[1], to[1]);
            }
        }
        let (ax, bx) = (a[0] << SHIFT, b[0] << SHIFT);
        let dx = (bx - ax) / (b[1] - a[1]);
        Some(if from[1] < to[1] {
            Self { top: from[1], bottom: to[1], x: ax + (from[1] - a[1]) * dx, dx }
        } else {
            Self { top: to[1], bottom: from[1], x: bx + (to[1] - b[1]) * dx, dx }
        })
    }
}

fn is_inside((width, height): (i64, i64), [x, y]: Point) -> bool {
    (0..width).contains(&x) && (0..height).contains(&y)
}

/// Shortens a line to the part in the image. Returns whether there is one; if not, the ends may
/// have moved, which OpenCV's slopes depend on.
fn clip((width, height): (i64, i64), a: &mut Point, b: &mut Point) -> bool {
    let (right, bottom) = (width - 1, height - 1);
    let beside = |x: i64| u8::from(x < 0) + 2 * u8::from(x > right);
    let outside = |p: &Point| beside(p[0]) + 4 * u8::from(p[1] < 0) + 8 * u8::from(p[1] > bottom);
    let (mut c1, mut c2) = (outside(a), outside(b));
    if c1 & c2 == 0 && c1 | c2 != 0 {
        if c1 & 12 != 0 {
            let y = if c1 < 8 { 0 } else { bottom };
            a[0] += (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]);
            a[1] = y;
            c1 = beside(a[0]);
        }
        if c2 & 12 != 0 {
            let y = if c2 < 8 { 0 } else { bottom };
            b[0] += (y - b[1]) * (b[0] - a[0]) / (b[1] - a[1]);
            b[1] = y;
            c2 = beside(b[0]);
        }
        if c1 & c2 == 0 && c1 | c2 != 0 {
            if c1 != 0 {
                let x = if c1 == 1 { 0 } else { right };
                a[1] += (x - a[0]) * (b[1] - a[1]) / (b[0] - a[0]);
                a[0] = x;
                c1 = 0;
            }
            if c2 != 0 {
                let x = if c2 == 1 { 0 } else { right };
                b[1] += (x - b[0]) * (b[1] - a[1]) / (b[0] - a[0]);
                b[0] = x;
                c2 = 0;
            }
        }
    }
    c1 | c2 == 0
}

/// Draws a line of Bresenham, both ends included, from left to right.
fn line(canvas: &mut Canvas, mut a: Point, mut b: Point, label: u16) -> Result<()> {
    let extent = canvas.extent();
    let leaves = !is_inside(extent, a) || !is_inside(extent, b);
    if leaves && !clip(extent, &mut a, &mut b) {
        return Ok(());
    }
    if b[0] < a[0] {
        (a, b) = (b, a);
    }
    let (dx, dy) = (b[0] - a[0], (b[1] - a[1]).abs());
    let down = if b[1] < a[1] { -1 } else { 1 };
    let is_steep = dy > dx;
    let (long, short) = if is_steep { (dy, dx) } else { (dx, dy) };
    canvas.spend(long as u64 + 1)?;
    let [mut x, mut y] = a;
    let mut error = long - 2 * short;
    for _ in 0..=long {
        canvas.row(y, x, x, label);
        let is_diagonal = error < 0;
        error += if is_diagonal { 2 * (long - short) } else { -2 * short };
        x += i64::from(!is_steep || is_diagonal);
        y += if is_steep || is_diagonal { down } else { 0 };
    }
    Ok(())
}

/// Fills what is between pairs of sides, row by row.
fn fill(canvas: &mut Canvas, mut edges: Vec<Edge>, label: u16) -> Result<()> {
    edges.sort_by_key(|edge| (edge.top, edge.x, edge.dx));
    let Some(mut y) = edges.first().map(|edge| edge.top) else { return Ok(()) };
    let bottom = edges.iter().map(|edge| edge.bottom).max().unwrap_or(y);
    let bottom = bottom.min(canvas.extent().1);
    let (mut active, mut next): (Vec<Edge>, usize) = (Vec::new(), 0);
    while y < bottom {
        active.retain(|edge| edge.bottom != y);
        // A new side is before those at the same place, as OpenCV's list has it.
        let begin = next;
        while edges.get(next).is_some_and(|edge| edge.top == y) {
            next += 1;
        }
        if begin < next {
            let kept = std::mem::take(&mut active);
            active = edges[begin..next].iter().copied().chain(kept).collect();
            active.sort_by_key(|edge| edge.x);
        }
        canvas.spend(1 + active.len() as u64)?;
        for pair in active.as_chunks_mut::<2>().0 {
            let (left, right) = (pair[0].x.min(pair[1].x), pair[0].x.max(pair[1].x));
            canvas.row(y, (left + (1 << SHIFT) - 1) >> SHIFT, right >> SHIFT, label);
            pair.iter_mut().for_each(|edge| edge.x += edge.dx);
        }
        active.sort_by_key(|edge| edge.x);
        y += 1;
    }
    Ok(())
}
