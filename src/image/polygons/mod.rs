//! The objects of a label map as polygons: connected components, outlined along the borders of
//! pixels, and simplified.
//!
//! A component is a set of pixels of one class that are joined by their sides. Its outline runs
//! between pixels, so it encloses exactly the component's pixels. Every ring visits each corner at
//! most once: where two pixels of a component meet only at a corner, a hole and its outer ring, or
//! two holes, touch there.

mod components;
mod simplify;
mod topology;
mod trace;

use super::labels::LabelMap;
use crate::error::{Result, error};
use crate::geometry::Size;
use serde::Serialize;

/// A corner of pixels, in pixels from the image's upper left corner: (0, 0) is the upper left
/// corner of the first pixel, (width, height) the lower right corner of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Corner {
    /// To the right.
    pub x: u32,
    /// Down.
    pub y: u32,
}

/// As `[x, y]`.
impl Serialize for Corner {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.x, self.y].serialize(serializer)
    }
}

/// The outline of an object: a ring, and the rings of its holes.
///
/// A ring is a list of corners, each joined to the next and the last to the first. On the screen the
/// outer ring runs clockwise, holes run counterclockwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polygon {
    /// Class number.
    pub class: u16,
    /// The outer ring.
    pub outer: Vec<Corner>,
    /// The rings of the holes.
    pub holes: Vec<Vec<Corner>>,
    /// Number of pixels of the object; simplifying the outline does not change it.
    pub pixels: u64,
    /// Upper left corner of the box around the object's pixels.
    pub corner: Corner,
    /// Size of that box.
    pub size: Size,
}

impl Polygon {
    /// Returns the outer ring, then the holes.
    pub fn rings(&self) -> impl Iterator<Item = &[Corner]> {
        std::iter::once(&self.outer).chain(&self.holes).map(Vec::as_slice)
    }

    /// Returns the area that the rings enclose, in pixels. Before simplification it is
    /// [`Polygon::pixels`].
    pub fn enclosed_area(&self) -> f64 {
        self.rings().map(signed_area).sum()
    }

    /// Returns the polygon with fewer corners: no corner of the original is farther than `tolerance`
    /// pixels from the ring that replaces its own (Douglas and Peucker, 1973). Rings with up to four
    /// corners are unchanged.
    ///
    /// The result is as valid as the original: no ring crosses itself or another one, and holes stay
    /// inside. Where dropping corners would change that, they are kept. Neighboring objects are
    /// simplified independently, so that they may overlap, or leave a gap, by up to twice the
    /// tolerance.
    ///
    /// # Errors
    /// Returns an error if the tolerance is negative or not finite.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn simplified(&self, tolerance: f64) -> Result<Self> {
        if !(tolerance.is_finite() && tolerance >= 0.0) {
            return Err(error!(Usage, "the tolerance must be 0 or more pixels, got {tolerance}"));
        }
        if tolerance == 0.0 {
            return Ok(self.clone());
        }
        let mut rings: Vec<_> =
            self.rings().map(|ring| simplify::Simplified::new(ring, tolerance)).collect();
        topology::repair(&mut rings);
        let mut rings = rings.into_iter().map(|ring| ring.corners());
        let outer = rings.next().expect("invariant: the first ring is the outer one");
        Ok(Self { outer, holes: rings.collect(), ..*self })
    }
}

/// The objects of a label map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polygons {
    /// In the order of their first pixels, row by row.
    pub polygons: Vec<Polygon>,
    /// Number of objects that were smaller than the minimum.
    pub dropped: usize,
}

impl Polygons {
    /// Outlines the connected components of the classes for which `wanted` holds, except those of
    /// fewer than `min_pixels` pixels.
    ///
    /// ```
    /// use atrous::Size;
    /// use atrous::image::{LabelMap, Polygons};
    ///
    /// let labels = LabelMap::new(Size::new(3, 2), vec![0, 7, 7, 0, 7, 0])?;
    /// let found = Polygons::trace(&labels, |class| class != 0, 1)?;
    /// let [object] = &found.polygons[..] else { panic!("one object") };
    /// assert_eq!((object.class, object.pixels, object.outer.len()), (7, 3, 6));
    /// # Ok::<(), atrous::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the map has 2^32 pixels or more, or there is no memory for the outlines.
    pub fn trace(labels: &LabelMap, wanted: impl Fn(u16) -> bool, min_pixels: u64) -> Result<Self> {
        let (components, dropped) = components::components(labels, wanted, min_pixels)?;
        Ok(Self { polygons: trace::trace(labels, &components)?, dropped })
    }
}

/// Area of a ring in pixels, positive if it runs clockwise on the screen.
fn signed_area(ring: &[Corner]) -> f64 {
    let twice = |(a, b): (&Corner, &Corner)| {
        i128::from(a.x) * i128::from(b.y) - i128::from(b.x) * i128::from(a.y)
    };
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(twice).sum::<i128>() as f64 / 2.0
}

#[cfg(test)]
#[path = "polygons_tests.rs"]
mod tests;
