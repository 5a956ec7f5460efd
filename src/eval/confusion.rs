//! The confusion matrix: counts of pixels by true and predicted class.

use crate::error::{Result, error};
use serde::Serialize;

/// Counts of pixels: rows are the true classes, columns the predicted ones. Pixels whose truth is
/// ignored are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    classes: usize,
    /// True labels that are left out, such as VOC's 255.
    ignored: Vec<u32>,
    /// `[truth, prediction]`.
    counts: Vec<u64>,
    /// Pixels that were left out.
    ignored_pixels: u64,
    /// Whether true labels that are no class are left out too, instead of being an error.
    #[serde(skip)]
    lenient: bool,
}

impl Confusion {
    /// The most classes that a matrix is made of.
    pub const MOST_CLASSES: usize = 4096;

    /// An empty matrix for `classes` classes, in which pixels with a true label of `ignored` do not
    /// count.
    ///
    /// A label below `classes` may be ignored too. Errors where there is no class, or more than
    /// [`Confusion::MOST_CLASSES`].
    pub fn new(classes: usize, ignored: &[u32]) -> Result<Self> {
        if !(1..=Self::MOST_CLASSES).contains(&classes) {
            return Err(error!(Usage, "a confusion matrix of {classes} classes"));
        }
        Ok(Self {
            classes,
            ignored: ignored.to_vec(),
            counts: vec![0; classes * classes],
            ignored_pixels: 0,
            lenient: false,
        })
    }

    /// Leaves out true labels that are no class, as training does.
    pub(crate) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    fn leaves_out(&self, truth: u32) -> bool {
        self.ignored.contains(&truth) || (self.lenient && truth as usize >= self.classes)
    }

    /// Counts the pixels of one image.
    ///
    /// Errors, with nothing counted, where the two differ in length, a true label is neither a
    /// class nor ignored, or a prediction is no class.
    pub fn add<T: Copy + Into<u32>, P: Copy + Into<u32>>(
        &mut self,
        truth: &[T],
        prediction: &[P],
    ) -> Result<()> {
        if truth.len() != prediction.len() {
            return Err(error!(
                Data,
                "{} true labels, but {} predicted ones",
                truth.len(),
                prediction.len()
            ));
        }
        let labels =
            || truth.iter().zip(prediction).map(|(&t, &p)| -> (u32, u32) { (t.into(), p.into()) });
        // Checked first, so that an error leaves the counts as they were.
        for (truth, prediction) in labels().filter(|&(truth, _)| !self.leaves_out(truth)) {
            if truth as usize >= self.classes {
                return Err(error!(
                    Data,
                    "the true label {truth} is none of {} classes, nor ignored", self.classes
                )
                .advice("name the label to ignore, or take the classes of this data"));
            }
            if prediction as usize >= self.classes {
                return Err(error!(
                    Data,
                    "the predicted label {prediction} is none of {} classes", self.classes
                ));
            }
        }
        for (truth, prediction) in labels() {
            if self.leaves_out(truth) {
                self.ignored_pixels += 1;
            } else {
                self.counts[truth as usize * self.classes + prediction as usize] += 1;
            }
        }
        Ok(())
    }

    /// Adds another matrix, counted elsewhere. Errors where it has other classes or ignores other
    /// labels.
    pub fn merge(&mut self, other: &Confusion) -> Result<()> {
        if self.classes != other.classes || self.ignored != other.ignored {
            return Err(error!(
                Usage,
                "a matrix of {} classes that ignores {:?} cannot take in one of {} that ignores {:?}",
                self.classes,
                self.ignored,
                other.classes,
                other.ignored
            ));
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.ignored_pixels += other.ignored_pixels;
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels of true class `truth` that were predicted as `prediction`; 0 for what is no class.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        if truth.max(prediction) < self.classes {
            self.counts[truth * self.classes + prediction]
        } else {
            0
        }
    }

    /// Pixels that count.
    pub fn pixels(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Pixels that were left out.
    pub fn ignored_pixels(&self) -> u64 {
        self.ignored_pixels
    }

    /// Pixels of the class in the truth.
    pub fn truth_pixels(&self, class: usize) -> u64 {
        (0..self.classes).map(|p| self.count(class, p)).sum()
    }

    /// Pixels of the class in the prediction.
    pub fn predicted_pixels(&self, class: usize) -> u64 {
        (0..self.classes).map(|t| self.count(t, class)).sum()
    }

    /// Right pixels of the class over all that are of it in the truth or the prediction; `None`
    /// where there are none.
    pub fn iou(&self, class: usize) -> Option<f64> {
        let right = self.count(class, class);
        ratio(right, self.truth_pixels(class) + self.predicted_pixels(class) - right)
    }

    /// Part of the class's true pixels that were found; `None` where the truth has none.
    pub fn accuracy(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.truth_pixels(class))
    }

    /// Part of the class's predicted pixels that are right; `None` where none was predicted.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.predicted_pixels(class))
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
