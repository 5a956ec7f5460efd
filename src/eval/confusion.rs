//! The confusion matrix: pixel counts by true and predicted class.

use crate::error::{Result, error};
use serde::Serialize;

/// Pixel counts: rows are the true classes, columns the predicted ones. Pixels with an ignored true
/// label are not included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    classes: usize,
    /// Ignored true labels, such as 255 in VOC.
    ignored: Vec<u32>,
    /// `[truth, prediction]`.
    counts: Vec<u64>,
    /// Number of ignored pixels.
    ignored_pixels: u64,
    /// Whether true labels that are not a class are ignored instead of being an error.
    #[serde(skip)]
    lenient: bool,
}

impl Confusion {
    /// Maximum number of classes.
    pub const MAX_CLASSES: usize = 4096;

    /// Creates an empty matrix for `classes` classes. Pixels with a true label in `ignored`, which
    /// may also contain classes, do not count.
    ///
    /// # Errors
    /// Returns an error if `classes` is 0 or more than [`Confusion::MAX_CLASSES`].
    pub fn new(classes: usize, ignored: &[u32]) -> Result<Self> {
        if !(1..=Self::MAX_CLASSES).contains(&classes) {
            return Err(error!(
                Usage,
                "a confusion matrix has 1 to {} classes, got {classes}",
                Self::MAX_CLASSES
            ));
        }
        Ok(Self {
            classes,
            ignored: ignored.to_vec(),
            counts: vec![0; classes * classes],
            ignored_pixels: 0,
            lenient: false,
        })
    }

    /// Ignores true labels that are not a class, as in training.
    pub(crate) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    fn is_ignored(&self, truth: u32) -> bool {
        self.ignored.contains(&truth) || (self.lenient && truth as usize >= self.classes)
    }

    /// Counts the pixels of an image.
    ///
    /// # Errors
    /// Returns an error, and counts nothing, if the lengths differ, a true label is neither a class
    /// nor ignored, or a predicted label is not a class.
    pub fn add<T: Copy + Into<u32>, P: Copy + Into<u32>>(
        &mut self,
        truth: &[T],
        prediction: &[P],
    ) -> Result<()> {
        if truth.len() != prediction.len() {
            return Err(error!(
                Data,
                "the truth has {} labels, but the prediction has {}",
                truth.len(),
                prediction.len()
            ));
        }
        let labels =
            || truth.iter().zip(prediction).map(|(&t, &p)| -> (u32, u32) { (t.into(), p.into()) });
        // Check all labels before counting any.
        for (truth, prediction) in labels().filter(|&(truth, _)| !self.is_ignored(truth)) {
            if truth as usize >= self.classes {
                return Err(error!(
                    Data,
                    "the true label {truth} is neither one of {} classes nor ignored", self.classes
                )
                .advice("ignore the label, or use the classes of this data set"));
            }
            if prediction as usize >= self.classes {
                return Err(error!(
                    Data,
                    "the predicted label {prediction} is not one of {} classes", self.classes
                ));
            }
        }
        for (truth, prediction) in labels() {
            if self.is_ignored(truth) {
                self.ignored_pixels += 1;
            } else {
                self.counts[truth as usize * self.classes + prediction as usize] += 1;
            }
        }
        Ok(())
    }

    /// Adds the counts of another matrix.
    ///
    /// # Errors
    /// Returns an error if the number of classes or the ignored labels differ.
    pub fn merge(&mut self, other: &Confusion) -> Result<()> {
        if self.classes != other.classes || self.ignored != other.ignored {
            return Err(error!(
                Usage,
                "cannot merge a matrix of {} classes that ignores {:?} with one of {} that ignores {:?}",
                self.classes,
                self.ignored,
                other.classes,
                other.ignored
            ));
        }
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        self.ignored_pixels += other.ignored_pixels;
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels of true class `truth` that were predicted as `prediction`; 0 for invalid classes.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        if truth.max(prediction) < self.classes {
            self.counts[truth * self.classes + prediction]
        } else {
            0
        }
    }

    /// Number of pixels that count.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Number of ignored pixels.
    pub fn ignored_pixels(&self) -> u64 {
        self.ignored_pixels
    }

    /// Number of true pixels of a class.
    pub fn truth_pixels(&self, class: usize) -> u64 {
        (0..self.classes).map(|p| self.count(class, p)).sum()
    }

    /// Number of predicted pixels of a class.
    pub fn predicted_pixels(&self, class: usize) -> u64 {
        (0..self.classes).map(|t| self.count(t, class)).sum()
    }

    /// Intersection over union of a class; `None` if it occurs neither in the truth nor in the
    /// prediction.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let correct = self.count(class, class);
        ratio(correct, self.truth_pixels(class) + self.predicted_pixels(class) - correct)
    }

    /// Recall of a class: fraction of its true pixels that were predicted; `None` if there are
    /// none.
    pub fn accuracy(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.truth_pixels(class))
    }

    /// Precision of a class: fraction of its predicted pixels that are correct; `None` if there are
    /// none.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.predicted_pixels(class))
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
