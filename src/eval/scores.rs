//! Scores derived from a confusion matrix.

use super::confusion::{Confusion, ratio};
use crate::image::ClassTable;
use serde::Serialize;

/// Scores of one class, as fractions of 1; `None` (JSON `null`) if the class does not occur.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// Class number.
    pub class: usize,
    /// Class name.
    pub name: String,
    /// Intersection over union.
    pub iou: Option<f64>,
    /// Recall: fraction of its true pixels that were predicted.
    pub accuracy: Option<f64>,
    /// Precision: fraction of its predicted pixels that are correct.
    pub precision: Option<f64>,
    /// Number of its true pixels.
    pub truth_pixels: u64,
    /// Number of its predicted pixels.
    pub predicted_pixels: u64,
}

/// Scores of all classes, as fractions of 1; `None` (JSON `null`) if no pixel counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Number of pixels that count.
    pub pixels: u64,
    /// Number of pixels with an ignored true label.
    pub ignored_pixels: u64,
    /// Fraction of correct pixels.
    pub pixel_accuracy: Option<f64>,
    /// Mean accuracy of the classes that occur in the truth.
    pub mean_accuracy: Option<f64>,
    /// mIoU: mean IoU of the classes that **occur in the truth**.
    ///
    /// On a full validation set this is the usual definition. On a few images it leaves out the
    /// classes that are in none of them. A class that only occurs in the prediction still lowers
    /// the IoU of the true classes of its pixels.
    pub mean_iou: Option<f64>,
    /// Mean IoU of the classes that occur in the truth **or the prediction**: a class that only
    /// occurs in the prediction counts as 0. At most [`Scores::mean_iou`].
    pub mean_iou_union: Option<f64>,
    /// IoU weighted by the frequency of each class in the truth.
    pub frequency_weighted_iou: Option<f64>,
    /// Scores of all classes, by number.
    pub classes: Vec<ClassScore>,
    /// Confusion matrix, `[truth][prediction]`.
    pub confusion: Vec<Vec<u64>>,
}

impl Scores {
    /// Returns over how many of the classes the means are, in words, if not over all: `over 11 of 12
    /// classes`.
    pub fn coverage(&self) -> Option<String> {
        let (all, covered) = (self.classes.len(), self.covered_classes());
        (covered < all).then(|| format!("over {covered} of {all} classes"))
    }

    /// Returns the number of classes that occur in the truth, over which the means are.
    pub fn covered_classes(&self) -> usize {
        self.classes.iter().filter(|class| class.truth_pixels > 0).count()
    }
}

impl Confusion {
    /// Computes the scores. `table` has the names of the classes.
    pub fn scores(&self, table: &ClassTable) -> Scores {
        let classes: Vec<ClassScore> = (0..self.classes())
            .map(|class| ClassScore {
                class,
                name: table.name(class),
                iou: self.iou(class),
                accuracy: self.accuracy(class),
                precision: self.precision(class),
                truth_pixels: self.truth_pixels(class),
                predicted_pixels: self.predicted_pixels(class),
            })
            .collect();
        let pixels = self.pixels();
        let correct = (0..self.classes()).map(|c| self.count(c, c)).sum();
        let weighted =
            classes.iter().map(|c| c.iou.unwrap_or(0.0) * c.truth_pixels as f64).sum::<f64>();
        Scores {
            pixels,
            ignored_pixels: self.ignored_pixels(),
            pixel_accuracy: ratio(correct, pixels),
            mean_accuracy: mean(classes.iter().filter_map(|c| c.accuracy)),
            mean_iou: mean(classes.iter().filter(|c| c.truth_pixels > 0).filter_map(|c| c.iou)),
            mean_iou_union: mean(classes.iter().filter_map(|c| c.iou)),
            frequency_weighted_iou: (pixels > 0).then(|| weighted / pixels as f64),
            classes,
            confusion: (0..self.classes())
                .map(|t| (0..self.classes()).map(|p| self.count(t, p)).collect())
                .collect(),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn a_case_computed_by_hand() {
        let mut confusion = Confusion::new(4, &[255]).unwrap();
        // Truth 0: five pixels, four correct, one predicted as 1. Truth 1: three, one correct, one
        // predicted as 0, one as 2. 255 is ignored.
        let truth = [0u8, 0, 0, 0, 0, 1, 1, 1, 255, 255];
        let prediction = [0u32, 0, 0, 0, 1, 1, 0, 2, 3, 0];
        confusion.add(&truth, &prediction).unwrap();
        let scores = confusion.scores(&ClassTable::generic(4));
        assert_eq!((scores.pixels, scores.ignored_pixels), (8, 2));
        let ious: Vec<_> = scores.classes.iter().map(|c| c.iou).collect();
        assert_eq!(ious, [Some(4.0 / 6.0), Some(1.0 / 4.0), Some(0.0), None]);
        assert_eq!(scores.pixel_accuracy, Some(5.0 / 8.0));
        assert_eq!(scores.coverage().as_deref(), Some("over 2 of 4 classes"));
        assert_eq!(scores.mean_accuracy, Some((4.0 / 5.0 + 1.0 / 3.0) / 2.0));
        assert_eq!(
            scores.mean_iou,
            Some((4.0 / 6.0 + 1.0 / 4.0) / 2.0),
            "class 2 is only predicted"
        );
        assert_eq!(scores.mean_iou_union, Some((4.0 / 6.0 + 1.0 / 4.0) / 3.0));
        assert!(
            (scores.frequency_weighted_iou.unwrap() - (5.0 * 4.0 / 6.0 + 3.0 / 4.0) / 8.0).abs()
                < 1e-12
        );
        assert_eq!(scores.classes[0].precision, Some(4.0 / 5.0));
        assert_eq!(scores.confusion, [[4, 1, 0, 0], [1, 1, 1, 0], [0; 4], [0; 4]]);
        let json: serde_json::Value = serde_json::to_value(&scores).unwrap();
        assert_eq!(
            (&json["classes"][3]["iou"], &json["confusion"][1][2]),
            (&serde_json::Value::Null, &1.into())
        );
    }

    #[test]
    fn nothing_counted_has_no_scores() {
        let scores = Confusion::new(3, &[]).unwrap().scores(&ClassTable::generic(3));
        assert_eq!(
            (scores.pixel_accuracy, scores.mean_iou, scores.mean_iou_union),
            (None, None, None)
        );
        assert_eq!((scores.mean_accuracy, scores.frequency_weighted_iou), (None, None));
    }

    #[test]
    fn labels_out_of_range_are_refused_and_nothing_is_counted() {
        let mut confusion = Confusion::new(2, &[9]).unwrap();
        for (truth, prediction) in
            [(vec![0u8, 2], vec![0u8, 0]), (vec![0, 1], vec![0, 2]), (vec![0, 9], vec![1])]
        {
            assert_eq!(confusion.add(&truth, &prediction).unwrap_err().kind(), ErrorKind::Data);
            assert_eq!(confusion.pixels(), 0);
        }
        confusion.add(&[9u8], &[77u8]).unwrap();
        assert_eq!(
            (confusion.pixels(), confusion.ignored_pixels()),
            (0, 1),
            "predictions on ignored pixels are not checked"
        );
        assert!(confusion.merge(&Confusion::new(3, &[9]).unwrap()).is_err());
        assert!(Confusion::new(0, &[]).is_err());
    }

    proptest! {
        #[test]
        fn scores_agree_with_a_naive_oracle(pixels in prop::collection::vec((0u32..6, 0u32..5), 0..300), cut in 0usize..300) {
            // Label 5 is ignored.
            let (truth, prediction): (Vec<u32>, Vec<u32>) = pixels.iter().copied().unzip();
            let cut = cut.min(truth.len());
            let (mut a, mut b) = (Confusion::new(5, &[5]).unwrap(), Confusion::new(5, &[5]).unwrap());
            a.add(&truth[..cut], &prediction[..cut]).unwrap();
            b.add(&truth[cut..], &prediction[cut..]).unwrap();
            a.merge(&b).unwrap();
            let scores = a.scores(&ClassTable::generic(5));
            let counted: Vec<_> = pixels.iter().filter(|p| p.0 != 5).collect();
            let mut present = Vec::new();
            for class in 0..5 {
                let both = counted.iter().filter(|p| p.0 == class && p.1 == class).count();
                let either = counted.iter().filter(|p| p.0 == class || p.1 == class).count();
                let wanted = (either > 0).then(|| both as f64 / either as f64);
                prop_assert_eq!(scores.classes[class as usize].iou, wanted);
                if counted.iter().any(|p| p.0 == class) {
                    present.push(wanted.unwrap());
                }
            }
            let wanted = (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64);
            prop_assert_eq!(scores.mean_iou.is_some(), wanted.is_some());
            prop_assert!((scores.mean_iou.unwrap_or(0.0) - wanted.unwrap_or(0.0)).abs() < 1e-12);
            if let (Some(truth), Some(union)) = (scores.mean_iou, scores.mean_iou_union) {
                prop_assert!(union <= truth + 1e-12);
            }
            let right = counted.iter().filter(|p| p.0 == p.1).count();
            prop_assert_eq!(scores.pixel_accuracy, (!counted.is_empty()).then(|| right as f64 / counted.len() as f64));
            prop_assert_eq!(a.pixels() + a.ignored_pixels(), pixels.len() as u64);
        }
    }
}
