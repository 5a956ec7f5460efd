//! Evaluation of a network on pairs of images and masks.

use super::Confusion;
use crate::data::Pair;
use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap};
use crate::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Label that masks usually have on pixels of no class, even if a class table does not define it.
const DEFAULT_IGNORE: u32 = 255;

/// Number of images that are decoded ahead of the network.
const PREFETCH: usize = 2;

/// Interval at which a waiting thread checks for a stop request.
const POLL: Duration = Duration::from_millis(50);

/// A scored image.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Index in the list of pairs.
    pub index: usize,
    /// Files of the image and the mask.
    pub pair: &'a Pair,
    /// The image.
    pub image: &'a Image,
    /// True labels.
    pub truth: &'a LabelMap,
    /// Predicted labels.
    pub prediction: &'a LabelMap,
}

/// Compares the predictions of `predict` with the masks of all pairs.
///
/// The classes are those of `table`, which also maps the colors of RGB masks to classes. Its
/// ignored labels do not count, nor does 255 unless it is a class. The next images are read while
/// `predict` runs. `on_image` is called after each image, in list order.
///
/// # Errors
/// Returns an error that names the file if `predict` or `on_image` fail, a file cannot be read, or
/// a label is not a class.
#[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
pub fn evaluate(
    predict: &mut impl FnMut(&Image) -> Result<LabelMap>,
    pairs: &[Pair],
    table: &ClassTable,
    on_image: &mut dyn FnMut(&Scored) -> Result<()>,
) -> Result<Confusion> {
    let never = AtomicBool::new(false);
    let confusion = Confusion::new(table.len(), &ignored_labels(table))?;
    let mut predict = |image: &Image, _: &LabelMap| predict(image);
    let confusion = evaluate_unless(&never, confusion, &mut predict, pairs, table, on_image)?;
    Ok(confusion.expect("invariant: the flag is never set"))
}

/// As [`evaluate`], into an empty matrix that defines the ignored labels. `predict` also gets the
/// true labels, for a loss. Returns `None` once
/// `stop` is set: after the current image, or while waiting for the next one, which may never
/// arrive if a disk does not respond.
pub(crate) fn evaluate_unless(
    stop: &AtomicBool,
    mut confusion: Confusion,
    predict: &mut impl FnMut(&Image, &LabelMap) -> Result<LabelMap>,
    pairs: &[Pair],
    table: &ClassTable,
    on_image: &mut dyn FnMut(&Scored) -> Result<()>,
) -> Result<Option<Confusion>> {
    let (loaded, waiting) = sync_channel(PREFETCH);
    // Not a scoped thread: a scope would wait for the thread, which may be blocked on a disk. It
    // ends when the channel is closed.
    let (files, classes) = (pairs.to_vec(), table.clone());
    thread::spawn("to read images", move || {
        for pair in files {
            // The receiver is gone after an error or a stop.
            if loaded.send(pair.load(Some(&classes))).is_err() {
                return;
            }
        }
    })?;
    for (index, pair) in pairs.iter().enumerate() {
        let (image, truth) = loop {
            match waiting.recv_timeout(POLL) {
                _ if stop.load(Ordering::Relaxed) => return Ok(None),
                Ok(loaded) => break loaded?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(error!(Data, "could not read: the reading thread panicked")
                        .file(&pair.image));
                }
            }
        };
        let prediction = predict(&image, &truth).map_err(|e| e.file(&pair.image))?;
        confusion.add(&truth.labels, &prediction.labels).map_err(|e| e.file(pair.mask.path()))?;
        on_image(&Scored { index, pair, image: &image, truth: &truth, prediction: &prediction })?;
    }
    Ok(Some(confusion))
}

/// Labels that do not count: those that the table ignores, and 255 unless it is a class.
pub fn ignored_labels(table: &ClassTable) -> Vec<u32> {
    let mut labels = table.ignored_values();
    if table.len() <= DEFAULT_IGNORE as usize && !labels.contains(&DEFAULT_IGNORE) {
        labels.push(DEFAULT_IGNORE);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;
    use crate::error::ErrorKind;
    use crate::geometry::Size;
    use std::path::Path;

    /// Three pairs of 4 x 2 pixels: the label is 1 at bright pixels of the image, and 255 in one
    /// corner.
    fn pairs(directory: &Path) -> Vec<Pair> {
        let table = ClassTable::generic(2);
        let pair = |i: u8| {
            let bright = |p: usize| (p + usize::from(i)).is_multiple_of(3);
            let rgb = (0..8).flat_map(|p| [if bright(p) { 220 } else { 20 }; 3]).collect();
            let mut labels: Vec<u16> = (0..8).map(|p| u16::from(bright(p))).collect();
            labels[7] = 255;
            let name = format!("{i}");
            let (image, mask) =
                (directory.join(format!("{i}.png")), directory.join(format!("{i}-mask.png")));
            Image::new(Size::new(4, 2), rgb).unwrap().save(&image).unwrap();
            LabelMap::new(Size::new(4, 2), labels).unwrap().write(&mask, &table).unwrap();
            Pair { name, image, mask: mask.into(), values: MaskValues::CLASSES }
        };
        (0..3).map(pair).collect()
    }

    fn bright(image: &Image) -> Result<LabelMap> {
        let labels = image.rgb.chunks_exact(3).map(|p| u16::from(p[0] > 127)).collect();
        LabelMap::new(image.size(), labels)
    }

    #[test]
    fn every_pair_is_counted_once_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let pairs = pairs(directory.path());
        let mut seen = Vec::new();
        let mut each = |scored: &Scored| {
            assert_eq!(scored.truth.labels[..7], scored.prediction.labels[..7]);
            seen.push((scored.index, scored.pair.name.clone()));
            Ok(())
        };
        let confusion = evaluate(&mut bright, &pairs, &ClassTable::generic(2), &mut each).unwrap();
        assert_eq!((confusion.pixels(), confusion.ignored_pixels()), (21, 3));
        assert_eq!(confusion.scores(&ClassTable::generic(2)).mean_iou, Some(1.0));
        assert_eq!(seen, [(0, "0".to_owned()), (1, "1".to_owned()), (2, "2".to_owned())]);
    }

    #[test]
    fn the_first_failure_ends_it_and_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut pairs = pairs(directory.path());
        let table = ClassTable::generic(2);
        let mut fails = |_: &Image| Err(error!(Device, "is gone"));
        let error = evaluate(&mut fails, &pairs, &table, &mut |_| Ok(())).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Device && error.to_string().contains("0.png: is gone"),
            "{error}"
        );
        let error = evaluate(&mut bright, &pairs, &ClassTable::generic(1), &mut |_| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("0-mask.png") && error.contains("label 1"), "{error}");
        pairs[1].mask = directory.path().join("none.png").into();
        let mut seen = 0;
        let mut each = |_: &Scored| {
            seen += 1;
            Ok(())
        };
        let error = evaluate(&mut bright, &pairs, &table, &mut each).unwrap_err().to_string();
        assert!(error.contains("none.png") && seen == 1, "{error}");
    }

    #[test]
    fn a_stopped_evaluation_ends_after_the_current_image() {
        let directory = tempfile::tempdir().unwrap();
        let (pairs, table) = (pairs(directory.path()), ClassTable::generic(2));
        let (stop, mut seen) = (AtomicBool::new(false), 0);
        let mut each = |_: &Scored| {
            seen += 1;
            stop.store(true, Ordering::Relaxed);
            Ok(())
        };
        let empty = Confusion::new(2, &[255]).unwrap();
        let counted =
            evaluate_unless(&stop, empty, &mut |image, _| bright(image), &pairs, &table, &mut each)
                .unwrap();
        assert!(counted.is_none() && seen == 1);
    }

    #[test]
    fn labels_past_the_classes_are_ignored_if_the_table_or_convention_says_so() {
        assert_eq!(ignored_labels(&ClassTable::camvid()), [11, 255]);
        assert_eq!(ignored_labels(&ClassTable::voc()), [255]);
        assert_eq!(ignored_labels(&ClassTable::generic(300)), [0; 0]);
    }
}
