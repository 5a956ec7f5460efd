//! Pairs as decoded samples, kept in memory as far as there is room.

use super::Pair;
use super::augment::{IGNORED, Sample};
use crate::error::{Result, error};
use crate::image::ClassTable;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decoded pairs that are kept: a small data set is read hundreds of times. What came
/// first stays, since every pair is wanted once in an epoch, in another order each time, and no
/// rule of replacement would do better.
const KEPT: usize = 1 << 30;

/// The pairs of a data set, read when they are asked for.
pub(super) struct Samples {
    pairs: Vec<Pair>,
    table: Option<ClassTable>,
    classes: usize,
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    samples: HashMap<usize, Arc<Sample>>,
    bytes: usize,
}

impl Samples {
    pub(super) fn new(pairs: Vec<Pair>, table: Option<ClassTable>, classes: usize) -> Result<Self> {
        if pairs.is_empty() {
            return Err(error!(Data, "no images to train on"));
        }
        if !(1..usize::from(IGNORED)).contains(&classes) {
            return Err(error!(Config, "{classes} classes; 1 to {} can be trained", IGNORED - 1));
        }
        if let Some(table) = table.as_ref().filter(|t| t.len() > classes) {
            return Err(error!(
                Config,
                "the data has {} classes, the network {classes}",
                table.len()
            )
            .advice("make the network with as many classes as the data has"));
        }
        Ok(Self { pairs, table, classes, limit: KEPT, kept: Mutex::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.pairs[at].name
    }

    /// Pair `at`, decoded, its labels cut down to classes and [`IGNORED`]. Errors name the file.
    pub(super) fn get(&self, at: usize) -> Result<Arc<Sample>> {
        // A map without half-done changes survives a panic elsewhere.
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = kept().samples.get(&at) {
            return Ok(sample.clone());
        }
        let sample = Arc::new(self.read(&self.pairs[at])?);
        let mut kept = kept();
        if kept.bytes + sample.bytes() <= self.limit
            && kept.samples.insert(at, sample.clone()).is_none()
        {
            kept.bytes += sample.bytes();
        }
        Ok(sample)
    }

    fn read(&self, pair: &Pair) -> Result<Sample> {
        let (image, mask) = pair.load(self.table.as_ref())?;
        let ignored = self.table.as_ref().map(ClassTable::ignored_values).unwrap_or_default();
        let known =
            |&label: &u16| usize::from(label) < self.classes && !ignored.contains(&label.into());
        let labels = mask.labels.iter().map(|l| if known(l) { *l } else { IGNORED }).collect();
        Ok(Sample { width: image.width, height: image.height, rgb: image.rgb, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::write_pair;
    use crate::image::IgnoredLabel;

    #[test]
    fn labels_that_are_no_class_are_ignored_and_memory_has_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let pairs: Vec<Pair> = ["a", "b"]
            .map(|name| write_pair(directory.path(), name, (3, 1), |x, _| [0, 2, 7][x]))
            .into();
        let mut table = ClassTable::generic(3);
        let labels = |table: &ClassTable| {
            let samples = Samples::new(pairs[..1].to_vec(), Some(table.clone()), 3).unwrap();
            samples.get(0).unwrap().labels.clone()
        };
        assert_eq!(labels(&table), [0, 2, IGNORED]);
        table.ignored = vec![IgnoredLabel { label: 0, name: "void".into(), color: [0; 3] }];
        assert_eq!(labels(&table), [IGNORED, 2, IGNORED]);

        let mut samples = Samples::new(pairs, None, 3).unwrap();
        samples.limit = 15;
        let first = samples.get(0).unwrap();
        assert!(Arc::ptr_eq(&first, &samples.get(0).unwrap()), "15 bytes fit");
        assert!(
            !Arc::ptr_eq(&samples.get(1).unwrap(), &samples.get(1).unwrap()),
            "no room for a second one"
        );
        assert_eq!(samples.kept.lock().unwrap().bytes, 15);
    }
}
