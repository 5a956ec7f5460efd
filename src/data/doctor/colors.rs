//! Masks of colors that nothing names.

use super::before_training::sample;
use crate::data::Pair;
use crate::error::{Error, error};
use crate::image::{ClassTable, LabelMap, decode};
use crate::text;
use rayon::prelude::*;
use std::collections::HashMap;

/// Colors that an error lists.
const LISTED: usize = 12;
/// Masks with more colors are smoothed, or photos.
const PLAUSIBLE: usize = 256;

/// Returns an error that lists the colors of the masks, as lines of a `classes.txt` to be completed
/// with names. `None` if a sample of the masks has no colors.
pub fn unnamed_colors(pairs: &[Pair]) -> Option<Error> {
    let of_mask = |pair: &&Pair| -> Option<HashMap<[u8; 3], u64>> {
        let mask = pair.mask.stored()?;
        // What can be read without a table has values, which are classes.
        if LabelMap::read(mask, None::<&ClassTable>).is_ok() {
            return None;
        }
        let image = decode(mask).ok()?;
        let mut counts = HashMap::new();
        for color in image.rgb.as_chunks::<3>().0 {
            *counts.entry(*color).or_insert(0) += 1;
        }
        Some(counts)
    };
    let counted: Vec<HashMap<[u8; 3], u64>> =
        sample(pairs).par_iter().filter_map(of_mask).collect();
    let mut counts = HashMap::new();
    for (color, n) in counted.into_iter().flatten() {
        *counts.entry(color).or_insert(0) += n;
    }
    if counts.is_empty() {
        return None;
    }
    let mut counts: Vec<([u8; 3], u64)> = counts.into_iter().collect();
    counts.sort_by_key(|&(color, n)| (std::cmp::Reverse(n), color));
    let all: u64 = counts.iter().map(|(_, n)| n).sum();
    let line = |(class, ([r, g, b], n)): (usize, &([u8; 3], u64))| {
        format!(
            "{class} NAME {r} {g} {b}    ({:.2} % of the pixels)",
            100.0 * *n as f64 / all as f64
        )
    };
    let mut lines: Vec<String> = counts.iter().take(LISTED).enumerate().map(line).collect();
    if counts.len() > LISTED {
        lines.push(format!("and {} more", counts.len() - LISTED));
    }
    let advice = match counts.len() {
        0..=PLAUSIBLE => {
            "write a classes.txt beside the images: a line with number, name and color for each class, as below"
        }
        _ => {
            "these are not colors of classes: export again without antialiasing or JPEG compression"
        }
    };
    let colors = text::count(counts.len(), "color");
    let problem = error!(Data, "the masks have {colors}, and nothing says which classes they are");
    Some(problem.detail(lines.join("\n")).advice(advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;

    #[test]
    fn the_colors_of_masks_are_listed_as_lines_of_a_class_table() {
        let directory = tempfile::tempdir().unwrap();
        let mask = directory.path().join("a.png");
        let pair = Pair {
            name: "a".to_owned(),
            image: mask.clone(),
            mask: mask.clone().into(),
            values: MaskValues::CLASSES,
        };
        let color = |x: u32, _| image::Rgb(if x == 0 { [9, 8, 7] } else { [0, 0, 0] });
        image::RgbImage::from_fn(4, 4, color).save(&mask).unwrap();
        let error = unnamed_colors(std::slice::from_ref(&pair)).unwrap().to_string();
        for part in ["2 colors", "0 NAME 0 0 0", "75.00 %", "1 NAME 9 8 7", "classes.txt"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let many = |x: u32, y: u32| image::Rgb([x as u8, y as u8, 0]);
        image::RgbImage::from_fn(20, 20, many).save(&mask).unwrap();
        let error = unnamed_colors(std::slice::from_ref(&pair)).unwrap().to_string();
        assert!(error.contains("400 colors") && error.contains("and 388 more"), "{error}");
        assert!(error.contains("antialiasing"), "{error}");
        image::GrayImage::new(4, 4).save(&mask).unwrap();
        assert!(unnamed_colors(&[pair]).is_none());
    }
}
