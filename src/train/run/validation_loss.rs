//! Loss over the validation images.

use super::super::options::TrainOptions;
use crate::image::LabelMap;
use crate::ops::{Denominator, PixelLoss};
use crate::segmenter::LossTarget;
use crate::tensor::{Shape, Tensor};

/// The loss of the training over whole images, without hard-pixel mining, auxiliary head and
/// dropout.
///
/// Each image counts by the denominator of its loss: the sum of its pixels' class weights, or the
/// number of its pixels that count. So the mean is the loss of all pixels together, except for
/// Dice, of which it is the mean over the images.
pub(super) struct ValidationLoss {
    pixel: PixelLoss,
    classes: usize,
    class_weights: Option<Tensor>,
    sum: f64,
    denominator: f64,
}

impl ValidationLoss {
    pub(super) fn new(options: &TrainOptions, classes: usize) -> Self {
        let vector = |weights: &Vec<f32>| {
            Tensor::new(Shape::vector(weights.len()), weights.clone())
                .expect("invariant: as many values as the shape has")
        };
        Self {
            pixel: PixelLoss { mined: false, ..options.step.loss },
            classes,
            class_weights: options.class_weights.as_ref().map(vector),
            sum: 0.0,
            denominator: 0.0,
        }
    }

    /// What the scores of an image with these labels are compared with.
    pub(super) fn target<'a>(&'a self, truth: &'a LabelMap) -> LossTarget<'a> {
        LossTarget { pixel: self.pixel, class_weights: self.class_weights.as_ref(), truth }
    }

    /// Adds the loss of an image with these labels.
    pub(super) fn add(&mut self, loss: f64, truth: &LabelMap) {
        let mut counts = vec![0u64; self.classes];
        for &label in truth.labels.iter().filter(|&&label| u32::from(label) != self.pixel.ignore) {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        let weights = self.class_weights.as_ref().map(Tensor::f32);
        let weights = weights.filter(|_| self.pixel.denominator == Denominator::Weights);
        let of_class = |(class, &count): (usize, &u64)| {
            count as f64 * weights.map_or(1.0, |weights| f64::from(weights[class]))
        };
        let denominator: f64 = counts.iter().enumerate().map(of_class).sum();
        // An image without a pixel that counts has no loss, even if that is not finite.
        if denominator > 0.0 {
            self.sum += loss * denominator;
            self.denominator += denominator;
        }
    }

    /// The mean so far; `None` if no pixel counts or it is not finite.
    pub(super) fn mean(&self) -> Option<f64> {
        Some(self.sum / self.denominator).filter(|mean| mean.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::train::Recipe;

    #[test]
    fn images_count_by_the_denominator_of_their_loss() {
        let map = |labels: [u16; 4]| LabelMap::new(Size::square(2), labels.to_vec()).unwrap();
        let mut options = Recipe::default().options().unwrap();
        // Two pixels of class 0, one of class 1; label 7 is no class.
        let (many, one, none) = (map([0, 0, 1, 255]), map([1, 255, 255, 255]), map([255, 7, 7, 7]));
        let mean = |options: &TrainOptions| {
            let mut loss = ValidationLoss::new(options, 2);
            assert_eq!(loss.mean(), None);
            loss.add(2.0, &many);
            loss.add(5.0, &one);
            loss.add(f64::NAN, &none);
            loss.mean().unwrap()
        };
        assert_eq!(mean(&options), (3.0 * 2.0 + 5.0) / 4.0);
        options.class_weights = Some(vec![0.5, 4.0]);
        assert_eq!(mean(&options), (5.0 * 2.0 + 4.0 * 5.0) / 9.0);
        options.step.loss.denominator = Denominator::Pixels;
        assert_eq!(mean(&options), (3.0 * 2.0 + 5.0) / 4.0);
    }
}
