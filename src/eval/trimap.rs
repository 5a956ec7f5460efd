//! Scores near borders: how well a network finds the outlines of things.

use super::Confusion;
use super::distance::to_other_label;
use crate::error::{Error, Result, error};
use crate::image::{ClassTable, LabelMap};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What the bands of a [`Trimap`] are measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrimapAround {
    /// The void annotation, dilated: pixels whose label is ignored, such as the line that PASCAL
    /// VOC draws around every object. This is the measure of the DeepLabv3+ paper (section 4.4,
    /// figure 5).
    Void,
    /// Every border between two different true labels, ignored ones included. For masks without
    /// void, and for those whose void marks something else than borders.
    Boundary,
}

impl fmt::Display for TrimapAround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrimapAround::Void => "void",
            TrimapAround::Boundary => "boundary",
        })
    }
}

impl FromStr for TrimapAround {
    type Err = Error;

    /// `void` or `boundary`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "void" => Ok(TrimapAround::Void),
            "boundary" => Ok(TrimapAround::Boundary),
            _ => {
                Err(error!(Usage, "`{text}` is not a kind of trimap")
                    .advice("use void or boundary"))
            }
        }
    }
}

/// Confusion matrices of bands around object borders (DeepLabv3+ paper, section 4.4 and figure 5;
/// Krähenbühl and Koltun, arXiv 1210.5644, section 5).
///
/// [`TrimapAround`] selects what a band surrounds. A pixel is in the band of width `w` if the
/// center of a void pixel ([`TrimapAround::Void`]), or of a pixel with another true label
/// ([`TrimapAround::Boundary`]), is at most `w` pixels away (Euclidean): a dilation by a disk of
/// radius `w`. Ignored pixels are never scored. The image's edge is not a border.
#[derive(Debug, Clone)]
pub struct Trimap {
    around: TrimapAround,
    ignored: Vec<u32>,
    bands: Vec<(f64, Confusion)>,
}

/// Scores of the pixels in a band. Fractions of 1; `None` where no pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Band {
    /// Its width in pixels, to each side of the border.
    pub width: f64,
    /// Pixels in it that count.
    pub pixels: u64,
    /// Mean of the classes' IoU, over the classes that occur in the band's truth.
    pub mean_iou: Option<f64>,
    /// Right pixels over all that count.
    pub pixel_accuracy: Option<f64>,
}

impl Trimap {
    /// Empty bands of these widths in pixels around `around`, for `classes` classes; `ignored` (the
    /// void labels) as in [`Confusion::new`].
    ///
    /// # Errors
    /// Where there is no width, or one below 1 (no other pixel is nearer).
    pub fn new(
        widths: &[f64],
        around: TrimapAround,
        classes: usize,
        ignored: &[u32],
    ) -> Result<Self> {
        if widths.is_empty() {
            return Err(error!(Usage, "a trimap without a width"));
        }
        if let Some(width) = widths.iter().find(|w| !(**w >= 1.0 && w.is_finite())) {
            return Err(error!(Usage, "a band of {width} pixels holds no pixel")
                .advice("give widths of 1 and more"));
        }
        let mut widths = widths.to_vec();
        widths.sort_by(f64::total_cmp);
        widths.dedup();
        let bands = widths
            .into_iter()
            .map(|w| Ok((w, Confusion::new(classes, ignored)?)))
            .collect::<Result<_>>()?;
        Ok(Self { around, ignored: ignored.to_vec(), bands })
    }

    /// What the bands surround.
    pub fn around(&self) -> TrimapAround {
        self.around
    }

    /// Counts an image's pixels that lie in the bands.
    ///
    /// # Errors
    /// Where the two differ in size, or hold labels that are no classes.
    pub fn add(&mut self, truth: &LabelMap, prediction: &LabelMap) -> Result<()> {
        if (truth.width, truth.height) != (prediction.width, prediction.height) {
            let ((w, h), (pw, ph)) =
                ((truth.width, truth.height), (prediction.width, prediction.height));
            return Err(error!(Data, "{w} x {h} true labels, but {pw} x {ph} predicted ones"));
        }
        let distances = match self.around {
            TrimapAround::Boundary => to_other_label(&truth.labels, truth.width),
            // Two labels alone, void and the rest: the distance of every other pixel to void. Those
            // of void pixels are not scored.
            TrimapAround::Void => {
                let void: Vec<u16> = truth
                    .labels
                    .iter()
                    .map(|&label| u16::from(self.ignored.contains(&u32::from(label))))
                    .collect();
                to_other_label(&void, truth.width)
            }
        };
        for (width, confusion) in &mut self.bands {
            let within = |d: u32| d != u32::MAX && f64::from(d) <= *width * *width;
            let near: Vec<usize> = (0..distances.len()).filter(|&i| within(distances[i])).collect();
            let of = |map: &LabelMap| near.iter().map(|&i| map.labels[i]).collect::<Vec<u16>>();
            confusion.add(&of(truth), &of(prediction))?;
        }
        Ok(())
    }

    /// The bands' scores, by width.
    pub fn bands(&self) -> Vec<Band> {
        let score = |(width, confusion): &(f64, Confusion)| {
            // Names play no part.
            let scores = confusion.scores(&ClassTable::generic(confusion.classes()));
            Band {
                width: *width,
                pixels: scores.pixels,
                mean_iou: scores.mean_iou,
                pixel_accuracy: scores.pixel_accuracy,
            }
        };
        self.bands.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_grow_to_both_sides_of_a_border() {
        // Two classes, five columns each, three rows; the prediction is one column off.
        let map = |border: usize| {
            LabelMap::new(10, 3, (0..30).map(|i| u16::from(i % 10 >= border)).collect()).unwrap()
        };
        let mut trimap = Trimap::new(&[3.0, 1.0, 100.0], TrimapAround::Boundary, 2, &[]).unwrap();
        trimap.add(&map(5), &map(6)).unwrap();
        let bands = trimap.bands();
        let right = |i: usize| (bands[i].width, bands[i].pixels, bands[i].pixel_accuracy.unwrap());
        assert_eq!(right(0), (1.0, 6, 0.5));
        assert_eq!(right(1), (3.0, 18, 15.0 / 18.0));
        assert_eq!(right(2), (100.0, 30, 27.0 / 30.0));
        // In the narrowest band class 0 is right but for 3 more pixels (3 of 6), class 1 not found
        // at all.
        assert_eq!(bands[0].mean_iou, Some(0.25));
    }

    #[test]
    fn void_is_a_border_and_is_not_scored() {
        let truth = LabelMap::new(7, 1, vec![0, 0, 0, 255, 1, 1, 1]).unwrap();
        let prediction = LabelMap::new(7, 1, vec![1, 0, 0, 0, 1, 0, 1]).unwrap();
        let mut trimap = Trimap::new(&[1.0, 2.0], TrimapAround::Boundary, 2, &[255]).unwrap();
        trimap.add(&truth, &prediction).unwrap();
        let bands = trimap.bands();
        assert_eq!((bands[0].pixels, bands[0].pixel_accuracy), (2, Some(1.0)));
        assert_eq!((bands[1].pixels, bands[1].pixel_accuracy), (4, Some(0.75)));
    }

    #[test]
    fn images_without_a_border_count_in_no_band() {
        let map = LabelMap::new(3, 1, vec![1; 3]).unwrap();
        for around in [TrimapAround::Boundary, TrimapAround::Void] {
            let mut trimap = Trimap::new(&[1e9], around, 2, &[]).unwrap();
            trimap.add(&map, &map).unwrap();
            assert_eq!((trimap.bands()[0].pixels, trimap.bands()[0].mean_iou), (0, None));
            assert!(
                Trimap::new(&[0.5], around, 2, &[]).is_err()
                    && Trimap::new(&[], around, 2, &[]).is_err()
            );
            assert_eq!(around.to_string().parse::<TrimapAround>().unwrap(), around);
        }
        assert!(
            "outline".parse::<TrimapAround>().unwrap_err().to_string().contains("void or boundary")
        );
    }

    /// scipy's binary dilation of the void annotation by disks: tests/golden/trimap.py.
    #[test]
    fn void_bands_are_the_papers_dilated_void_annotation() {
        #[derive(serde::Deserialize)]
        struct Golden {
            width: usize,
            classes: usize,
            truth: Vec<u16>,
            prediction: Vec<u16>,
            bands: Vec<GoldenBand>,
        }
        #[derive(serde::Deserialize)]
        struct GoldenBand {
            width: f64,
            pixels: u64,
            mean_iou: f64,
            pixel_accuracy: f64,
        }
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/eval/trimap.json")).unwrap();
        let map = |labels: Vec<u16>| {
            LabelMap::new(golden.width, labels.len() / golden.width, labels).unwrap()
        };
        let (truth, prediction) = (map(golden.truth), map(golden.prediction));
        let widths: Vec<f64> = golden.bands.iter().map(|b| b.width).collect();
        let score = |around| {
            let mut trimap = Trimap::new(&widths, around, golden.classes, &[255]).unwrap();
            trimap.add(&truth, &prediction).unwrap();
            trimap.bands()
        };
        for (found, golden) in score(TrimapAround::Void).iter().zip(&golden.bands) {
            assert_eq!(found.pixels, golden.pixels, "width {}", golden.width);
            assert!((found.mean_iou.unwrap() - golden.mean_iou).abs() < 1e-12, "{found:?}");
            assert!(
                (found.pixel_accuracy.unwrap() - golden.pixel_accuracy).abs() < 1e-12,
                "{found:?}"
            );
        }
        // The scene has a border without void, which only the other kind sees.
        assert!(score(TrimapAround::Boundary)[0].pixels > golden.bands[0].pixels);
    }
}
