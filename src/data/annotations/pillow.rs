//! Shapes with the pixels of Pillow's `ImageDraw`, filled with an outline of the same value, as
//! labelme draws them (`src/libImaging/Draw.c` of Pillow 13, and labelme's `shape_to_mask`).

use super::canvas::Canvas;
use crate::error::{Error, ErrorKind, Result, error};
use crate::geometry::Size;
use crate::memory;

/// A side of a polygon.
struct Edge {
    /// The end that the polygon's order has first.
    x0: i32,
    y0: i32,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    /// Change of the column from row to row.
    dx: f32,
}

impl Edge {
    fn new([x0, y0]: [i32; 2], [x1, y1]: [i32; 2]) -> Self {
        let dx = if y0 == y1 { 0.0 } else { (x1 - x0) as f32 / (y1 - y0) as f32 };
        let (left, right, top, bottom) = (x0.min(x1), x0.max(x1), y0.min(y1), y0.max(y1));
        Self { x0, y0, left, right, top, bottom, dx }
    }

    /// Column in a row, also beyond the ends.
    fn at(&self, y: i32) -> f32 {
        (y - self.y0) as f32 * self.dx + self.x0 as f32
    }

    fn ends_in(&self, y: i32) -> bool {
        y == self.top || y == self.bottom
    }
}

/// Draws a polygon.
///
/// # Errors
/// Returns an error if the polygon is too complex.
pub(super) fn polygon(canvas: &mut Canvas, points: &[[i32; 2]], label: u16) -> Result<()> {
    let (_, height) = canvas.extent();
    let edges = sides(points);
    let (mut top, mut bottom) = (height as i32 - 1, 0);
    for edge in &edges {
        (top, bottom) = (top.min(edge.top), bottom.max(edge.bottom));
        if edge.top == edge.bottom {
            canvas.row(edge.top.into(), edge.left.into(), edge.right.into(), label);
        }
    }
    let slanted: Vec<&Edge> = edges.iter().filter(|edge| edge.top != edge.bottom).collect();
    let (top, bottom) = (top.max(0), bottom.min(height as i32));
    let mut by_top: Vec<usize> = (0..slanted.len()).collect();
    by_top.sort_by_key(|&i| slanted[i].top);
    let mut waiting = by_top.into_iter().peekable();
    // Places in `slanted`, in its order, of the sides that a row meets.
    let mut active: Vec<usize> = Vec::new();
    for y in top..=bottom {
        active.retain(|&i| slanted[i].bottom >= y);
        while let Some(i) = waiting.next_if(|&i| slanted[i].top <= y) {
            if slanted[i].bottom >= y {
                let place = active.partition_point(|&other| other < i);
                active.insert(place, i);
            }
        }
        canvas.spend(1 + 2 * active.len() as u64)?;
        let mut columns = crossings(canvas, &slanted, &active, y, bottom)?;
        columns.sort_by(f32::total_cmp);
        for pair in columns.as_chunks::<2>().0 {
            canvas.row(y.into(), round_up(pair[0]), round_down(pair[1]), label);
        }
    }
    Ok(())
}

/// Returns the sides. Horizontal ones that continue each other are one.
fn sides(points: &[[i32; 2]]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(points.len());
    for (i, pair) in points.windows(2).enumerate() {
        let [from, to] = [pair[0], pair[1]];
        let before = i.checked_sub(1).map(|before| points[before]);
        if let (Some(before), Some(last)) = (before, edges.last_mut())
            && from[1] == to[1]
            && from[1] == before[1]
        {
            if to[0] > from[0] && from[0] > before[0] {
                last.right = to[0];
                continue;
            }
            if to[0] < from[0] && from[0] < before[0] {
                last.left = to[0];
                continue;
            }
        }
        edges.push(Edge::new(from, to));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last())
        && first != last
    {
        edges.push(Edge::new(*last, *first));
    }
    edges
}

/// Returns the columns at which the sides meet a row, in any order. `bottom` is the last row.
fn crossings(
    canvas: &mut Canvas,
    edges: &[&Edge],
    active: &[usize],
    y: i32,
    bottom: i32,
) -> Result<Vec<f32>> {
    let mut columns = Vec::with_capacity(2 * active.len());
    // Sides before the current one that end in this row and are not vertical.
    let mut corners: Vec<&Edge> = Vec::new();
    for edge in active.iter().map(|&i| edges[i]) {
        let mut x = edge.at(y);
        let is_corner = edge.ends_in(y) && edge.dx != 0.0;
        if y == edge.bottom && y < bottom {
            // The side below begins here too, and both count.
            columns.push(x);
        } else if is_corner {
            canvas.spend(corners.len() as u64)?;
            x = connected(x, edge, &corners, y);
        }
        columns.push(x);
        if is_corner {
            corners.push(edge);
        }
    }
    Ok(columns)
}

/// Returns the column of a corner, moved to where the two sides that meet in it leave no gap to
/// the next row.
fn connected(x: f32, edge: &Edge, corners: &[&Edge], y: i32) -> f32 {
    let next = if y == edge.bottom { y - 1 } else { y + 1 };
    let own = edge.at(next);
    for other in corners {
        if x.round() != other.at(y).round() || next < other.top || next > other.bottom {
            continue;
        }
        let others = other.at(next);
        if x > own + 1.0 && x > others + 1.0 {
            return own.max(others).round() + 1.0;
        }
        if x < own - 1.0 && x < others - 1.0 {
            return own.min(others).round() - 1.0;
        }
        return x;
    }
    x
}

/// Rounds to the nearest integer, halves away from zero.
fn round_up(x: f32) -> i64 {
    if x >= 0.0 { (x + 0.5).floor() as i64 } else { -((f64::from(x.abs()) + 0.5).floor() as i64) }
}

/// Rounds to the nearest integer, halves toward zero.
fn round_down(x: f32) -> i64 {
    if x >= 0.0 { (x - 0.5).ceil() as i64 } else { -((f64::from(x.abs()) - 0.5).ceil() as i64) }
}

/// Draws a rectangle with these pixels at its corners.
///
/// # Errors
/// Returns an error if too much was drawn before.
pub(super) fn rectangle(canvas: &mut Canvas, frame: [i32; 4], label: u16) -> Result<()> {
    let [left, top, right, bottom] = frame.map(i64::from);
    let (top, bottom) = (top.max(0), bottom.min(canvas.extent().1 - 1));
    canvas.spend(1 + (bottom - top + 1).max(0) as u64)?;
    for y in top..=bottom {
        canvas.row(y, left, right, label);
    }
    Ok(())
}

/// Draws the ellipse in a frame.
///
/// # Errors
/// Returns an error if it is too large.
pub(super) fn ellipse(canvas: &mut Canvas, frame: [i32; 4], label: u16) -> Result<()> {
    let [left, top, right, bottom] = frame.map(i64::from);
    let (a, b) = (right - left, bottom - top);
    if a < 0 || b < 0 || a + b == 0 {
        return Ok(());
    }
    canvas.spend((a + b) as u64)?;
    // The upper right quarter on a grid of half pixels, from its right end to its top. Each row of
    // pixels is as wide as the first point in it.
    let (mut x, mut y) = (a, b % 2);
    let mut drawn = -1;
    loop {
        if y > drawn {
            for row in [top + (b + y) / 2, top + (b - y) / 2] {
                canvas.row(row, left + (a - x) / 2, left + (a + x) / 2, label);
            }
            drawn = y;
        }
        if x == a % 2 && y == b {
            return Ok(());
        }
        (x, y) = following(a, b, x, y);
    }
}

/// Returns the neighbor of a point of a quarter of an ellipse that is nearest to the curve.
fn following(a: i64, b: i64, x: i64, y: i64) -> (i64, i64) {
    let (a2, b2) = (i128::from(a) * i128::from(a), i128::from(b) * i128::from(b));
    let distance = |x: i64, y: i64| {
        let (x2, y2) = (i128::from(x) * i128::from(x), i128::from(y) * i128::from(y));
        (a2 * y2 + b2 * x2 - a2 * b2).abs()
    };
    let up = (x, y + 2);
    if x <= 1 {
        return up;
    }
    // The first of equals.
    let neighbors = [up, (x - 2, y + 2), (x - 2, y)];
    neighbors.into_iter().min_by_key(|&(x, y)| distance(x, y)).unwrap_or(up)
}

/// Draws the pixels of a PNG that are not 0, at a place in the image.
///
/// # Errors
/// Returns an error if the place is not in the image, or the PNG is damaged, colored or of another
/// size than its place.
pub(super) fn bitmap(canvas: &mut Canvas, frame: [i32; 4], png: &[u8], label: u16) -> Result<()> {
    let [left, top, right, bottom] = frame.map(i64::from);
    let (width, height) = canvas.extent();
    if left < 0 || top < 0 || right >= width || bottom >= height || left > right || top > bottom {
        return Err(error!(
            Data,
            "the mask is at {left} {top} to {right} {bottom}, not in the image"
        ));
    }
    let expected = Size::new((right - left + 1) as usize, (bottom - top + 1) as usize);
    canvas.spend(expected.pixels() as u64)?;
    let gray = decode(png, expected)?;
    for (row, y) in gray.chunks_exact(expected.width).zip(top..) {
        for (_, x) in row.iter().zip(left..).filter(|(value, _)| **value != 0) {
            canvas.row(y, x, x, label);
        }
    }
    Ok(())
}

/// Decodes a gray PNG of a known size into a byte for each pixel.
fn decode(png: &[u8], expected: Size) -> Result<Vec<u8>> {
    let damaged = |e: png::DecodingError| {
        Error::new(ErrorKind::Data, "the mask is not a readable PNG").source(e)
    };
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let info = decoder.read_header_info().map_err(damaged)?;
    let found = Size::new(info.width as usize, info.height as usize);
    if found != expected {
        return Err(error!(Data, "the mask has {found} pixels, but its points span {expected}"));
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    if reader.output_color_type() != (png::ColorType::Grayscale, png::BitDepth::Eight) {
        return Err(error!(Data, "the mask is not a gray PNG"));
    }
    let mut gray = memory::zeros(expected.pixels())?;
    reader.next_frame(&mut gray).map_err(damaged)?;
    Ok(gray)
}
