//! Scores near object borders (trimaps).

use super::Confusion;
use super::distance::to_other_label;
use crate::error::{Error, Result, error};
use crate::image::{ClassTable, LabelMap};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What the bands of a [`Trimap`] surround.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrimapAround {
    /// The void annotation, dilated: pixels with an ignored label, such as the outlines that PASCAL
    /// VOC draws around objects. This is the measure of the DeepLabv3+ paper (section 4.4, figure
    /// 5).
    Void,
    /// Every border between two different true labels, including ignored ones. For masks without
    /// void, and for masks whose void does not mark borders.
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

    /// Parses `void` or `boundary`.
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

/// Scores of the pixels in a band, as fractions of 1; `None` if no pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Band {
    /// Width in pixels, to each side of the border.
    pub width: f64,
    /// Number of pixels that count.
    pub pixels: u64,
    /// Mean IoU of the classes that occur in the truth of the band.
    pub mean_iou: Option<f64>,
    /// Fraction of correct pixels.
    pub pixel_accuracy: Option<f64>,
}

impl Trimap {
    /// Creates empty bands of these widths in pixels, for `classes` classes. `ignored` (the void
    /// labels) is as in [`Confusion::new`].
    ///
    /// # Errors
    /// Returns an error if there are no widths, or one is below 1 (no pixel is closer).
    pub fn new(
        widths: &[f64],
        around: TrimapAround,
        classes: usize,
        ignored: &[u32],
    ) -> Result<Self> {
        if widths.is_empty() {
            return Err(error!(Usage, "a trimap needs at least one width"));
        }
        if let Some(width) = widths.iter().find(|w| !(**w >= 1.0 && w.is_finite())) {
            return Err(error!(Usage, "a band must be at least 1 pixel wide, got {width}"));
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

    /// Counts the pixels of an image that are in the bands.
    ///
    /// # Errors
    /// Returns an error if the sizes differ, or a label is not a class.
    pub fn add(&mut self, truth: &LabelMap, prediction: &LabelMap) -> Result<()> {
        if truth.size() != prediction.size() {
            let (truth, prediction) = (truth.size(), prediction.size());
            return Err(error!(
                Data,
                "the truth has {truth} labels, but the prediction has {prediction}"
            ));
        }
        let distances = match self.around {
            TrimapAround::Boundary => to_other_label(&truth.labels, truth.width),
            // With only two labels, void and the rest, this is the distance of every other pixel
            // to void. Void pixels themselves are not scored.
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
            let is_in_band = |d: u32| d != u32::MAX && f64::from(d) <= *width * *width;
            let band: Vec<usize> =
                (0..distances.len()).filter(|&i| is_in_band(distances[i])).collect();
            let select = |map: &LabelMap| band.iter().map(|&i| map.labels[i]).collect::<Vec<u16>>();
            confusion.add(&select(truth), &select(prediction))?;
        }
        Ok(())
    }

    /// Scores of the bands, by width.
    pub fn bands(&self) -> Vec<Band> {
        let score = |(width, confusion): &(f64, Confusion)| {
            // The names are not used.
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
    use crate::geometry::Size;

    #[test]
    fn bands_grow_to_both_sides_of_a_border() {
        // Two classes, five columns each, three rows; the prediction is off by one column.
        let map = |border: usize| {
            LabelMap::new(Size::new(10, 3), (0..30).map(|i| u16::from(i % 10 >= border)).collect())
                .unwrap()
        };
        let mut trimap = Trimap::new(&[3.0, 1.0, 100.0], TrimapAround::Boundary, 2, &[]).unwrap();
        trimap.add(&map(5), &map(6)).unwrap();
        let bands = trimap.bands();
        let scores = |i: usize| (bands[i].width, bands[i].pixels, bands[i].pixel_accuracy.unwrap());
        assert_eq!(scores(0), (1.0, 6, 0.5));
        assert_eq!(scores(1), (3.0, 18, 15.0 / 18.0));
        assert_eq!(scores(2), (100.0, 30, 27.0 / 30.0));
        // In the narrowest band, class 0 has an IoU of 3 / 6 and class 1 is not predicted at all.
        assert_eq!(bands[0].mean_iou, Some(0.25));
    }

    #[test]
    fn void_is_a_border_and_is_not_scored() {
        let truth = LabelMap::new(Size::new(7, 1), vec![0, 0, 0, 255, 1, 1, 1]).unwrap();
        let prediction = LabelMap::new(Size::new(7, 1), vec![1, 0, 0, 0, 1, 0, 1]).unwrap();
        let mut trimap = Trimap::new(&[1.0, 2.0], TrimapAround::Boundary, 2, &[255]).unwrap();
        trimap.add(&truth, &prediction).unwrap();
        let bands = trimap.bands();
        assert_eq!((bands[0].pixels, bands[0].pixel_accuracy), (2, Some(1.0)));
        assert_eq!((bands[1].pixels, bands[1].pixel_accuracy), (4, Some(0.75)));
    }

    #[test]
    fn images_without_a_border_count_in_no_band() {
        let map = LabelMap::new(Size::new(3, 1), vec![1; 3]).unwrap();
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

    /// Golden values of scipy's binary dilation of the void annotation by disks:
    /// tests/golden/trimap.py.
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
            LabelMap::new(Size::new(golden.width, labels.len() / golden.width), labels).unwrap()
        };
        let (truth, prediction) = (map(golden.truth), map(golden.prediction));
        let widths: Vec<f64> = golden.bands.iter().map(|b| b.width).collect();
        let score = |around| {
            let mut trimap = Trimap::new(&widths, around, golden.classes, &[255]).unwrap();
            trimap.add(&truth, &prediction).unwrap();
            trimap.bands()
        };
        for (band, golden) in score(TrimapAround::Void).iter().zip(&golden.bands) {
            assert_eq!(band.pixels, golden.pixels, "width {}", golden.width);
            assert!((band.mean_iou.unwrap() - golden.mean_iou).abs() < 1e-12, "{band:?}");
            assert!(
                (band.pixel_accuracy.unwrap() - golden.pixel_accuracy).abs() < 1e-12,
                "{band:?}"
            );
        }
        // The scene has a border without void, which is only in the other kind of band.
        assert!(score(TrimapAround::Boundary)[0].pixels > golden.bands[0].pixels);
    }
}
