//! Following the borders of components.

use super::components::{Components, NONE};
use super::{Corner, Polygon};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Size;
use crate::image::LabelMap;
use crate::image::alloc::filled;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    East,
    South,
    West,
    North,
}

impl Heading {
    const ALL: [Self; 4] = [Self::East, Self::South, Self::West, Self::North];

    /// Turns by quarters, clockwise on the screen.
    fn turned(self, quarters: usize) -> Self {
        Self::ALL[(self as usize + quarters) % 4]
    }
}

/// Returns the outlines of the components, in their order.
pub(super) fn trace(labels: &LabelMap, components: &Components) -> Result<Vec<Polygon>> {
    let (width, ids) = (labels.width, &components.ids);
    let mut tracer = Tracer {
        ids,
        size: labels.size(),
        visited: filled(0u64, ids.len().div_ceil(64), "the outlines")?,
    };
    let mut polygons: Vec<Polygon> = Vec::new();
    for (i, &id) in ids.iter().enumerate() {
        // Every ring has a piece along the upper side of a pixel, and begins with the first.
        let is_border = id != NONE && (i < width || ids[i - width] != id);
        if !is_border || tracer.is_visited(i) {
            continue;
        }
        let ring = tracer.ring(i)?;
        match polygons.get_mut(id as usize) {
            Some(polygon) => polygon.holes.push(ring),
            // The first border of a component, row by row, is on its outer ring.
            None => polygons.push(Polygon {
                class: labels.labels[i],
                pixels: components.pixels[id as usize],
                corner: bounds(&ring).0,
                size: bounds(&ring).1,
                outer: ring,
                holes: Vec::new(),
            }),
        }
    }
    Ok(polygons)
}

/// Returns the box around a ring.
fn bounds(ring: &[Corner]) -> (Corner, Size) {
    let range = |of: fn(&Corner) -> u32| {
        let (min, max) = (ring.iter().map(of).min(), ring.iter().map(of).max());
        (min.unwrap_or(0), max.unwrap_or(0))
    };
    let ((left, right), (top, bottom)) = (range(|c| c.x), range(|c| c.y));
    let size = Size::new((right - left) as usize, (bottom - top) as usize);
    (Corner { x: left, y: top }, size)
}

struct Tracer<'a> {
    ids: &'a [u32],
    size: Size,
    /// A bit for each pixel whose upper side was passed.
    visited: Vec<u64>,
}

impl Tracer<'_> {
    fn is_visited(&self, pixel: usize) -> bool {
        self.visited[pixel / 64] >> (pixel % 64) & 1 == 1
    }

    /// Whether the pixel in column `x - 1` and row `y - 1` belongs to `id`.
    fn has(&self, id: u32, x: usize, y: usize) -> bool {
        let Size { width, height } = self.size;
        (1..=width).contains(&x)
            && (1..=height).contains(&y)
            && self.ids[(y - 1) * width + x - 1] == id
    }

    /// Follows the border that begins with the upper side of a pixel, with the component on the
    /// right.
    ///
    /// Where two pixels of the component meet only at a corner, the ring turns left, around the
    /// pixel that is not of the component. A path through the component joins the two, so the
    /// pixels left and right of it are bordered by different rings, and none passes the corner
    /// twice.
    fn ring(&mut self, start: usize) -> Result<Vec<Corner>> {
        let id = self.ids[start];
        let first = (start % self.size.width, start / self.size.width);
        let ((mut x, mut y), mut heading) = (first, Heading::East);
        let mut ring = Vec::new();
        loop {
            match heading {
                Heading::East => {
                    let pixel = y * self.size.width + x;
                    self.visited[pixel / 64] |= 1 << (pixel % 64);
                    x += 1;
                }
                Heading::South => y += 1,
                Heading::West => x -= 1,
                Heading::North => y -= 1,
            }
            // The pixels ahead, left and right of the way.
            let (upper, lower) = ([(x, y), (x + 1, y)], [(x, y + 1), (x + 1, y + 1)]);
            let (left, right) = match heading {
                Heading::East => (upper[1], lower[1]),
                Heading::South => (lower[1], lower[0]),
                Heading::West => (lower[0], upper[0]),
                Heading::North => (upper[0], upper[1]),
            };
            let turn = match (self.has(id, left.0, left.1), self.has(id, right.0, right.1)) {
                (true, _) => 3,
                (false, true) => 0,
                (false, false) => 1,
            };
            heading = heading.turned(turn);
            if turn != 0 {
                ring.try_reserve(1).map_err(|e| {
                    Error::new(ErrorKind::OutOfMemory, "not enough memory for the outlines")
                        .source(e)
                        .advice("scale the image down first")
                })?;
                ring.push(Corner { x: x as u32, y: y as u32 });
            }
            if (x, y) == first && heading == Heading::East {
                // The start is a corner, and was added last.
                ring.rotate_right(1);
                ring.shrink_to_fit();
                return Ok(ring);
            }
        }
    }
}
