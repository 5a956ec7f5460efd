//! Repeat factor sampling (Gupta, Dollar and Girshick 2019, "LVIS", section 5.2): images with rare
//! classes are drawn more often.

use super::data::TrainingData;
use super::recipe::Recipe;
use crate::data::doctor::count_labels;
use crate::error::Result;
use crate::random::{SplitMix64, fnv1a_32};
use std::collections::BTreeMap;

impl TrainingData {
    /// Repeats training images with rare classes if the recipe asks for it and they are not repeated
    /// yet. All masks are read, on all cores; calls `on_mask` after each, from any thread. Returns a
    /// line about it for people.
    ///
    /// With `f(c)` the fraction of the images that contain class `c`, and `t` the median of these
    /// fractions over the classes that occur (LVIS sets `t` to 0.001, for images with few classes),
    /// an image is in an epoch `max(1, sqrt(t / f(c)))` times for the class `c` of the image for
    /// which that is largest. The fraction after the decimal point is the probability of one more;
    /// it is drawn once for the whole run, from the seed.
    ///
    /// # Errors
    /// Returns an error that names the file if a mask cannot be read.
    pub fn oversample(
        &mut self,
        recipe: &Recipe,
        on_mask: impl Fn() + Sync,
    ) -> Result<Option<String>> {
        if !recipe.data.oversample || std::mem::replace(&mut self.is_oversampled, true) {
            return Ok(None);
        }
        let counts = count_labels(&self.training, &self.table, on_mask)?;
        let factors = RepeatFactors::new(&counts, self.table.len());
        let repeats = counts.iter().enumerate().map(|(image, counts)| {
            let (factor, draw) = (factors.of_image(counts), unit(recipe.seed, image));
            factor as usize + usize::from(draw < factor.fract())
        });
        let repeated = self.training.iter().zip(repeats);
        self.training =
            repeated.flat_map(|(pair, n)| std::iter::repeat_n(pair, n).cloned()).collect();
        let rarest = factors.classes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let rarest = rarest.filter(|(_, factor)| **factor > 1.0).map_or_else(
            || "; no class is rarer than the median".to_owned(),
            |(class, factor)| {
                format!("; those with `{}` most often, {factor:.2} times", self.table.name(class))
            },
        );
        let (drawn, images) = (self.training.len(), self.images);
        Ok(Some(format!("oversampling: an epoch has {drawn} draws of {images} images{rarest}")))
    }
}

/// Repeat factors of classes, at least 1.
struct RepeatFactors {
    classes: Vec<f64>,
}

impl RepeatFactors {
    fn new(counts: &[BTreeMap<u16, u64>], classes: usize) -> Self {
        let images = |class: usize| {
            counts.iter().filter(|counts| counts.keys().any(|&l| usize::from(l) == class)).count()
        };
        let frequencies: Vec<f64> =
            (0..classes).map(|class| images(class) as f64 / counts.len() as f64).collect();
        let mut present: Vec<f64> = frequencies.iter().copied().filter(|f| *f > 0.0).collect();
        present.sort_by(f64::total_cmp);
        let middle = |n: usize| (present[(n - 1) / 2] + present[n / 2]) / 2.0;
        let median = if present.is_empty() { 0.0 } else { middle(present.len()) };
        let factor = |&f: &f64| if f > 0.0 { (median / f).sqrt().max(1.0) } else { 1.0 };
        Self { classes: frequencies.iter().map(factor).collect() }
    }

    fn of_image(&self, counts: &BTreeMap<u16, u64>) -> f64 {
        let factors = counts.keys().filter_map(|&label| self.classes.get(usize::from(label)));
        factors.copied().fold(1.0, f64::max)
    }
}

/// A number from 0 to 1 for an image.
fn unit(seed: u32, image: usize) -> f64 {
    let key = fnv1a_32(seed, "oversample");
    let bits = SplitMix64((u64::from(key) << 32) ^ image as u64).bits();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_of_the_paper_with_the_median_as_threshold() {
        let image = |labels: &[u16]| labels.iter().map(|&label| (label, 5)).collect();
        // Class 0 in all of 16 images, 1 in four, 2 in one, 3 in none; 255 is no class.
        let counts: Vec<BTreeMap<u16, u64>> = (0..16)
            .map(|i| match i {
                0 => image(&[0, 1, 2]),
                1..4 => image(&[0, 1, 255]),
                _ => image(&[0, 255]),
            })
            .collect();
        let factors = RepeatFactors::new(&counts, 4);
        assert_eq!(factors.classes, [1.0, 1.0, 2.0, 1.0], "the median is 4 of 16");
        assert_eq!([0, 1, 9].map(|i| factors.of_image(&counts[i])), [2.0, 1.0, 1.0]);
        let draws: Vec<f64> = (0..1000).map(|image| unit(7, image)).collect();
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean) && draws.iter().all(|d| (0.0..1.0).contains(d)));
    }
}
