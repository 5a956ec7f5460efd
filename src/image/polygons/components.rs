//! Connected components of a label map.

use crate::error::{Error, ErrorKind, Result, error};
use crate::image::LabelMap;
use crate::image::alloc::filled;
use crate::memory;

/// Marks pixels of no component.
pub(super) const NONE: u32 = u32::MAX;

/// Component of each pixel, `[height, width]`: numbers in the order of their first pixels, or
/// [`NONE`]; and the number of pixels of each.
pub(super) struct Components {
    pub ids: Vec<u32>,
    pub pixels: Vec<u64>,
}

/// Returns the components of `labels` whose class is wanted and that have at least `min_pixels`
/// pixels, and the number of smaller ones.
pub(super) fn components(
    labels: &LabelMap,
    wanted: impl Fn(u16) -> bool,
    min_pixels: u64,
) -> Result<(Components, usize)> {
    let (width, count) = (labels.width, labels.labels.len());
    if count >= NONE as usize {
        return Err(error!(Usage, "a label map of {count} pixels has no polygons"));
    }
    memory::check(4 * count as u64, "the connected components")?;
    let wanted: Vec<bool> = (0..=labels.max()).map(wanted).collect();
    let mut ids = filled(NONE, count, "the connected components")?;
    let mut sets = Sets::default();
    for (i, &label) in labels.labels.iter().enumerate() {
        if !wanted[usize::from(label)] {
            continue;
        }
        let same = |j: usize| (labels.labels[j] == label).then(|| ids[j]);
        let left = (i % width > 0).then(|| same(i - 1)).flatten();
        let above = (i >= width).then(|| same(i - width)).flatten();
        ids[i] = match (left, above) {
            (Some(left), Some(above)) => sets.union(left, above),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => sets.add()?,
        };
    }
    let mut pixels = filled(0u64, sets.parents.len(), "the connected components")?;
    for id in ids.iter_mut().filter(|id| **id != NONE) {
        *id = sets.root(*id);
        pixels[*id as usize] += 1;
    }
    // Numbered anew, without those that are too small.
    let (mut kept, mut dropped) = (Vec::new(), 0);
    for (root, parent) in sets.parents.iter_mut().enumerate() {
        let area = pixels[root];
        *parent = NONE;
        if area >= min_pixels.max(1) {
            *parent = kept.len() as u32;
            kept.push(area);
        } else if area > 0 {
            dropped += 1;
        }
    }
    for id in ids.iter_mut().filter(|id| **id != NONE) {
        *id = sets.parents[*id as usize];
    }
    Ok((Components { ids, pixels: kept }, dropped))
}

/// Disjoint sets. The root of a set is its smallest member.
#[derive(Default)]
struct Sets {
    parents: Vec<u32>,
}

impl Sets {
    fn add(&mut self) -> Result<u32> {
        let id = self.parents.len() as u32;
        self.parents.try_reserve(1).map_err(|e| {
            Error::new(ErrorKind::OutOfMemory, "not enough memory for the connected components")
                .source(e)
                .advice("scale the image down first")
        })?;
        self.parents.push(id);
        Ok(id)
    }

    fn root(&mut self, mut id: u32) -> u32 {
        while self.parents[id as usize] != id {
            // Halves the path for later calls.
            let grandparent = self.parents[self.parents[id as usize] as usize];
            self.parents[id as usize] = grandparent;
            id = grandparent;
        }
        id
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.root(a), self.root(b));
        let (first, second) = (a.min(b), a.max(b));
        self.parents[second as usize] = first;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    #[test]
    fn pixels_are_joined_by_sides_and_not_by_corners() {
        let rows = [[1, 0, 1, 2], [1, 1, 1, 0], [0, 0, 0, 1], [3, 3, 0, 1]];
        let labels = LabelMap::new(Size::new(4, 4), rows.concat()).unwrap();
        let (found, dropped) = components(&labels, |class| class != 0, 1).unwrap();
        let n = NONE;
        let ids = [[0, n, 0, 1], [0, 0, 0, n], [n, n, n, 2], [3, 3, n, 2]];
        assert_eq!((found.ids, found.pixels, dropped), (ids.concat(), vec![5, 1, 2, 2], 0));
        let (found, dropped) = components(&labels, |class| class != 0, 2).unwrap();
        assert_eq!((found.pixels, dropped, found.ids[3]), (vec![5, 2, 2], 1, NONE));
        let (found, _) = components(&labels, |class| class == 3, 0).unwrap();
        assert_eq!(found.pixels, [2]);
    }
}
