//! Scoring a network on pairs of images and masks.

use super::Confusion;
use crate::data::Pair;
use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap};
use crate::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// The label that masks usually mark pixels of no class with, also where a class table does not
/// name it.
const USUAL_IGNORE: u32 = 255;

/// Images that may lie decoded, waiting for the network.
const WAITING: usize = 2;

/// How often a thread that waits looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// An image that was scored.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Its place in the list.
    pub index: usize,
    /// Its files.
    pub pair: &'a Pair,
    /// The image.
    pub image: &'a Image,
    /// The true classes.
    pub truth: &'a LabelMap,
    /// The classes that were found.
    pub prediction: &'a LabelMap,
}

/// Counts what `predict` says of every pair's image against the pair's mask.
///
/// The classes are those of `table`, whose ignored labels do not count (nor does 255, where that is
/// no class); it also tells what colors of RGB masks mean. The next images are read while `predict`
/// works, and `each` sees every image when it was counted, in the order of the list.
///
/// # Errors
/// What `predict` or `each` return; a file that cannot be read; labels that are no classes. Each
/// names the file.
pub fn evaluate(
    predict: &mut impl FnMut(&Image) -> Result<LabelMap>,
    pairs: &[Pair],
    table: &ClassTable,
    each: &mut dyn FnMut(&Scored) -> Result<()>,
) -> Result<Confusion> {
    let (never, confusion) =
        (AtomicBool::new(false), Confusion::new(table.len(), &ignored(table))?);
    let counted = count_unless(&never, confusion, predict, pairs, table, each)?;
    Ok(counted.expect("invariant: nobody stops this"))
}

/// As [`evaluate`], into an empty matrix that knows what to leave out. `None` once `stop` is set,
/// after the image in work, also where the next one never comes: a disk may not answer any more.
pub(crate) fn count_unless(
    stop: &AtomicBool,
    mut confusion: Confusion,
    predict: &mut impl FnMut(&Image) -> Result<LabelMap>,
    pairs: &[Pair],
    table: &ClassTable,
    each: &mut dyn FnMut(&Scored) -> Result<()>,
) -> Result<Option<Confusion>> {
    let (loaded, waiting) = sync_channel(WAITING);
    // No scope, which would wait for a thread that may wait for a disk; this one ends when the
    // channel does.
    let (files, classes) = (pairs.to_vec(), table.clone());
    thread::spawn("to read images", move || {
        for pair in files {
            // The other end is gone where counting ended with an error, or was stopped.
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
                    return Err(error!(Data, "could not be read: the thread that reads panicked")
                        .file(&pair.image));
                }
            }
        };
        let prediction = predict(&image).map_err(|e| e.file(&pair.image))?;
        confusion.add(&truth.labels, &prediction.labels).map_err(|e| e.file(&pair.mask))?;
        each(&Scored { index, pair, image: &image, truth: &truth, prediction: &prediction })?;
    }
    Ok(Some(confusion))
}

/// The labels that do not count: the table's, and 255 where that is no class.
pub fn ignored(table: &ClassTable) -> Vec<u32> {
    let mut labels = table.ignored_values();
    if table.len() <= USUAL_IGNORE as usize && !labels.contains(&USUAL_IGNORE) {
        labels.push(USUAL_IGNORE);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;
    use crate::error::ErrorKind;
    use std::path::Path;

    /// Three pairs of 4 x 2 pixels: the mask's label is 1 where the image is bright, and 255 in one
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
            Image::new(4, 2, rgb).unwrap().save(&image).unwrap();
            LabelMap::new(4, 2, labels).unwrap().write(&mask, &table).unwrap();
            Pair { name, image, mask, ids: MaskValues::Classes }
        };
        (0..3).map(pair).collect()
    }

    fn bright(image: &Image) -> Result<LabelMap> {
        let labels = image.rgb.chunks_exact(3).map(|p| u16::from(p[0] > 127)).collect();
        LabelMap::new(image.width, image.height, labels)
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
        pairs[1].mask = directory.path().join("none.png");
        let mut seen = 0;
        let mut each = |_: &Scored| {
            seen += 1;
            Ok(())
        };
        let error = evaluate(&mut bright, &pairs, &table, &mut each).unwrap_err().to_string();
        assert!(error.contains("none.png") && seen == 1, "{error}");
    }

    #[test]
    fn an_evaluation_that_is_stopped_ends_after_the_image_in_work() {
        let directory = tempfile::tempdir().unwrap();
        let (pairs, table) = (pairs(directory.path()), ClassTable::generic(2));
        let (stop, mut seen) = (AtomicBool::new(false), 0);
        let mut each = |_: &Scored| {
            seen += 1;
            stop.store(true, Ordering::Relaxed);
            Ok(())
        };
        let empty = Confusion::new(2, &[255]).unwrap();
        let counted = count_unless(&stop, empty, &mut bright, &pairs, &table, &mut each).unwrap();
        assert!(counted.is_none() && seen == 1);
    }

    #[test]
    fn labels_past_the_classes_are_ignored_where_the_table_or_custom_says_so() {
        assert_eq!(ignored(&ClassTable::camvid()), [11, 255]);
        assert_eq!(ignored(&ClassTable::voc()), [255]);
        assert_eq!(ignored(&ClassTable::generic(300)), [0; 0]);
    }
}
