//! COCO's JSON: `instances_*.json`, as pycocotools reads it.

use super::paths::with_slashes;
use super::{Object, Scene, json};
use crate::error::Result;
use crate::geometry::Size;
use crate::image::{ClassTable, Corner, Polygon};
use serde::Serialize;

/// The file.
#[derive(Serialize)]
pub(super) struct Document {
    info: Info,
    licenses: [(); 0],
    images: Vec<Picture>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Serialize)]
struct Info {
    description: &'static str,
}

#[derive(Serialize)]
struct Picture {
    id: usize,
    file_name: String,
    width: usize,
    height: usize,
}

#[derive(Serialize)]
struct Category {
    id: usize,
    name: String,
    supercategory: &'static str,
}

#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    category_id: u16,
    segmentation: Segmentation,
    /// Number of pixels.
    area: u64,
    /// Left, top, width and height.
    bbox: [usize; 4],
    iscrowd: u8,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Segmentation {
    /// A list of polygons, each `x, y, x, y, ...`. They cannot have holes.
    Polygons([Vec<u32>; 1]),
    /// Run lengths of zeros and ones in turn, column by column; height and width.
    Runs { counts: Vec<u64>, size: [usize; 2] },
}

impl Document {
    pub(super) fn new(classes: &[usize], table: &ClassTable) -> Self {
        let category = |&id: &usize| Category { id, name: table.name(id), supercategory: "" };
        Self {
            info: Info { description: "Segmented by atrous. Category numbers are class numbers." },
            licenses: [],
            images: Vec::new(),
            annotations: Vec::new(),
            categories: classes.iter().map(category).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Adds an image with its objects. Numbers count from 1.
    pub(super) fn add(&mut self, scene: &Scene) {
        let image_id = self.images.len() + 1;
        let Size { width, height } = scene.size;
        let file_name = with_slashes(&scene.job.name);
        self.images.push(Picture { id: image_id, file_name, width, height });
        for object in &scene.objects {
            let Object { exact, .. } = object;
            let box_size = [exact.size.width, exact.size.height];
            let [left, top] = [exact.corner.x as usize, exact.corner.y as usize];
            self.annotations.push(Annotation {
                id: self.annotations.len() + 1,
                image_id,
                category_id: exact.class,
                segmentation: segmentation(object, scene.size),
                area: exact.pixels,
                bbox: [left, top, box_size[0], box_size[1]],
                iscrowd: 0,
            });
        }
    }

    pub(super) fn text(&self) -> Result<String> {
        json(self)
    }
}

fn segmentation(object: &Object, size: Size) -> Segmentation {
    if object.exact.holes.is_empty() {
        let corners = object.outline.outer.iter();
        return Segmentation::Polygons([corners.flat_map(|c| [c.x, c.y]).collect()]);
    }
    let Size { width, height } = size;
    Segmentation::Runs { counts: runs(&object.exact, size), size: [height, width] }
}

/// Returns the run lengths of an exact polygon, column by column, beginning with zeros.
fn runs(polygon: &Polygon, size: Size) -> Vec<u64> {
    let left = polygon.corner.x as usize;
    // The rows at which each column enters or leaves the polygon: those of its horizontal edges.
    let mut columns: Vec<Vec<u32>> = vec![Vec::new(); polygon.size.width];
    for ring in polygon.rings() {
        let edges = ring.iter().zip(ring.iter().cycle().skip(1));
        for (Corner { x: from, y }, to) in edges.filter(|(a, b)| a.y == b.y) {
            for column in (*from).min(to.x)..(*from).max(to.x) {
                columns[column as usize - left].push(*y);
            }
        }
    }
    let height = size.height as u64;
    let (mut counts, mut end) = (Vec::new(), 0);
    for (column, mut rows) in columns.into_iter().enumerate() {
        rows.sort_unstable();
        let start_of_column = (left + column) as u64 * height;
        for run in rows.chunks_exact(2) {
            let [from, to] = [run[0], run[1]].map(|row| start_of_column + u64::from(row));
            match counts.last_mut() {
                // Down to the last row, and on from the first of the next column.
                Some(last) if from == end => *last += to - from,
                _ => counts.extend([from - end, to - from]),
            }
            end = to;
        }
    }
    let all = size.width as u64 * height;
    if end < all {
        counts.push(all - end);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{LabelMap, Polygons};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_the_pixels_column_by_column(w in 1usize..12, h in 1usize..12, seed in 0u64..10_000) {
            let noise = |i: usize| (seed + 1).wrapping_mul(i as u64 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
            let labels = (0..w * h).map(|i| u16::from(noise(i) > 0)).collect();
            let labels = LabelMap::new(Size::new(w, h), labels).unwrap();
            let mut sum = vec![0u8; w * h];
            for polygon in Polygons::trace(&labels, |class| class == 1, 1).unwrap().polygons {
                let counts = runs(&polygon, labels.size());
                prop_assert_eq!(counts.iter().sum::<u64>(), (w * h) as u64);
                prop_assert!(counts[1..].iter().all(|&count| count > 0), "{:?}", counts);
                let ones: u64 = counts.iter().skip(1).step_by(2).sum();
                prop_assert_eq!(ones, polygon.pixels);
                let values = counts.iter().enumerate().flat_map(|(run, &count)| {
                    std::iter::repeat_n((run % 2) as u8, count as usize)
                });
                for (i, value) in values.enumerate() {
                    sum[i % h * w + i / h] += value;
                }
            }
            let expected: Vec<u8> = labels.labels.iter().map(|&label| label as u8).collect();
            prop_assert_eq!(sum, expected);
        }
    }
}
