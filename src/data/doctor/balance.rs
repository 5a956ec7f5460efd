//! Class balance of a split's masks, and class weights derived from it.

use super::mask;
use crate::data::Pair;
use crate::error::{Result, error};
use crate::image::ClassTable;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// Returns statistics of each class in the masks of these pairs, which are read on all cores. Calls
/// `on_mask` after each mask, from any thread.
///
/// # Errors
/// Returns an error that names the file if a mask cannot be read.
pub fn count_classes(
    pairs: &[Pair],
    table: &ClassTable,
    on_mask: impl Fn() + Sync,
) -> Result<Vec<ClassCount>> {
    let counts = count_labels(pairs, table, on_mask)?;
    let mut sums = Sums::new(table.len());
    counts.iter().for_each(|counts| sums.add(counts.iter()));
    Ok(sums.finish(|class| table.name(class)))
}

/// Returns the number of pixels by label for each of these pairs; as [`count_classes`].
///
/// # Errors
/// As [`count_classes`].
pub fn count_labels(
    pairs: &[Pair],
    table: &ClassTable,
    on_mask: impl Fn() + Sync,
) -> Result<Vec<BTreeMap<u16, u64>>> {
    let count = |pair: &Pair| {
        let mut findings = Vec::new();
        let mask = mask::check(pair, Some(table), &mut findings);
        on_mask();
        mask.map(|mask| mask.counts).ok_or_else(|| {
            findings.pop().map_or_else(
                || error!(Data, "the mask cannot be read").at(&pair.name),
                |finding| {
                    let (title, detail) = (finding.problem.title(), finding.detail);
                    error!(Data, "{title}: {detail}")
                        .file(&finding.file)
                        .advice(finding.problem.advice())
                },
            )
        })
    };
    pairs.par_iter().map(count).collect()
}

/// Statistics of a class in the masks of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassCount {
    /// Class number.
    pub class: usize,
    /// Class name.
    pub name: String,
    /// Number of pixels.
    pub pixels: u64,
    /// Fraction of the labeled pixels, 0 to 1.
    pub share: f64,
    /// Number of images with the class.
    pub images: usize,
    /// Weight by median frequency balancing (Eigen and Fergus, "Predicting Depth, Surface Normals
    /// and Semantic Labels", 2015, section 4.3.2): the median of all classes' frequencies divided
    /// by the frequency of this class, both relative to the images that contain the class.
    pub median_weight: Option<f64>,
    /// Weight by `1 / ln(1.02 + share)` (Paszke et al., "ENet", 2016, section 5.2): from 1.4 to 50.
    pub log_weight: Option<f64>,
}

/// Sums over the masks of a split.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// For each class: its pixels, its images, and the labeled pixels of those images.
    classes: Vec<(u64, usize, u64)>,
    pub(super) ignored: u64,
    pub(super) images: usize,
}

impl Sums {
    pub(super) fn new(classes: usize) -> Self {
        Self { classes: vec![(0, 0, 0); classes], ..Self::default() }
    }

    /// Adds a mask: the number of pixels by label. Labels that are not a class count as ignored, as
    /// in training.
    pub(super) fn add<'a>(&mut self, counts: impl Iterator<Item = (&'a u16, &'a u64)> + Clone) {
        let classes = self.classes.len();
        let is_class = |label: u16| usize::from(label) < classes;
        let labeled: u64 = counts.clone().filter(|(l, _)| is_class(**l)).map(|(_, n)| n).sum();
        for (&label, &n) in counts {
            match self.classes.get_mut(usize::from(label)) {
                Some((pixels, images, image_pixels)) => {
                    *pixels += n;
                    *images += 1;
                    *image_pixels += labeled;
                }
                None => self.ignored += n,
            }
        }
        self.images += 1;
    }

    pub(super) fn finish(&self, name: impl Fn(usize) -> String) -> Vec<ClassCount> {
        let total: u64 = self.classes.iter().map(|c| c.0).sum();
        let frequency = |&(pixels, _, image_pixels): &(u64, usize, u64)| {
            (pixels > 0).then(|| pixels as f64 / image_pixels as f64)
        };
        let mut sorted: Vec<f64> = self.classes.iter().filter_map(frequency).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = |n: usize| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        let median = if sorted.is_empty() { 0.0 } else { middle(sorted.len()) };
        let count = |(class, counts): (usize, &(u64, usize, u64))| {
            let share = if total == 0 { 0.0 } else { counts.0 as f64 / total as f64 };
            ClassCount {
                class,
                name: name(class),
                pixels: counts.0,
                share,
                images: counts.1,
                median_weight: frequency(counts).map(|f| median / f),
                log_weight: (counts.0 > 0).then(|| 1.0 / (1.02 + share).ln()),
            }
        };
        self.classes.iter().enumerate().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_are_those_of_the_formulas() {
        let mut sums = Sums::new(4);
        // Two masks of 100 pixels. Class 1 is only in the first one, which has 90 labeled pixels.
        for counts in [[(0, 60), (1, 30), (9, 10)].as_slice(), &[(0, 20), (2, 80)]] {
            let counts: BTreeMap<u16, u64> = counts.iter().copied().collect();
            sums.add(counts.iter());
        }
        let counts = sums.finish(|c| format!("c{c}"));
        assert_eq!((sums.ignored, sums.images), (10, 2));
        assert_eq!(
            counts.iter().map(|c| (c.pixels, c.images)).collect::<Vec<_>>(),
            [(80, 2), (30, 1), (80, 1), (0, 0)]
        );
        // Frequencies 80 / 190, 30 / 90, 80 / 100: the median is the first.
        let expected = [Some(1.0), Some(80.0 / 190.0 * 3.0), Some(80.0 / 190.0 / 0.8), None];
        for (count, expected) in counts.iter().zip(expected) {
            match (count.median_weight, expected) {
                (Some(w), Some(e)) => assert!((w - e).abs() < 1e-12, "{w} for {e}"),
                other => assert_eq!(other, (None, None)),
            }
        }
        assert!(
            (counts[1].log_weight.unwrap() - 1.0 / (1.02f64 + 30.0 / 190.0).ln()).abs() < 1e-12
        );
        assert_eq!(counts[3].log_weight, None);
    }
}
