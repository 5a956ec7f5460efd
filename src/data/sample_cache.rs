//! Decoded pairs, cached in memory up to a limit.

use super::Pair;
use super::augment::{IGNORED, Sample};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::text::count;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum bytes of decoded pairs in the cache: a small data set is read hundreds of times. Entries
/// are never replaced: every pair is read once per epoch, in random order, so that no replacement
/// policy would have a better hit rate.
const CACHE_BYTES: usize = 1 << 30;

/// The pairs of a data set, decoded on demand.
pub(super) struct SampleCache {
    pairs: Vec<Pair>,
    table: Option<ClassTable>,
    classes: usize,
    limit: usize,
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    samples: HashMap<usize, Arc<Sample>>,
    bytes: usize,
}

impl SampleCache {
    pub(super) fn new(pairs: Vec<Pair>, table: Option<ClassTable>, classes: usize) -> Result<Self> {
        if pairs.is_empty() {
            return Err(error!(Data, "there are no training images"));
        }
        if !(1..usize::from(IGNORED)).contains(&classes) {
            return Err(error!(
                Config,
                "the number of classes must be 1 to {}, got {classes}",
                IGNORED - 1
            ));
        }
        if let Some(table) = table.as_ref().filter(|t| t.len() > classes) {
            return Err(error!(
                Config,
                "the data set has {}, but the network has {classes}",
                count(table.len(), "class")
            )
            .advice("create the network with the classes of the data set"));
        }
        Ok(Self { pairs, table, classes, limit: CACHE_BYTES, cached: Mutex::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.pairs[at].name
    }

    /// Returns pair `at`, decoded. Labels that are not a class are [`IGNORED`]. Errors name the
    /// file.
    pub(super) fn get(&self, at: usize) -> Result<Arc<Sample>> {
        // The map is consistent even if a thread panicked while it had the lock.
        let lock = || self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = lock().samples.get(&at) {
            return Ok(sample.clone());
        }
        let sample = Arc::new(self.read(&self.pairs[at])?);
        let mut cached = lock();
        if cached.bytes + sample.bytes() <= self.limit
            && cached.samples.insert(at, sample.clone()).is_none()
        {
            cached.bytes += sample.bytes();
        }
        Ok(sample)
    }

    fn read(&self, pair: &Pair) -> Result<Sample> {
        let (image, mask) = pair.load(self.table.as_ref())?;
        let ignored = self.table.as_ref().map(ClassTable::ignored_values).unwrap_or_default();
        let is_class =
            |&label: &u16| usize::from(label) < self.classes && !ignored.contains(&label.into());
        let labels = mask.labels.iter().map(|l| if is_class(l) { *l } else { IGNORED }).collect();
        Ok(Sample { width: image.width, height: image.height, rgb: image.rgb, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::write_pair;
    use crate::image::IgnoredLabel;

    #[test]
    fn labels_that_are_no_class_are_ignored_and_memory_is_limited() {
        let directory = tempfile::tempdir().unwrap();
        let pairs: Vec<Pair> = ["a", "b"]
            .map(|name| write_pair(directory.path(), name, (3, 1), |x, _| [0, 2, 7][x]))
            .into();
        let mut table = ClassTable::generic(3);
        let labels = |table: &ClassTable| {
            let samples = SampleCache::new(pairs[..1].to_vec(), Some(table.clone()), 3).unwrap();
            samples.get(0).unwrap().labels.clone()
        };
        assert_eq!(labels(&table), [0, 2, IGNORED]);
        table.ignored = vec![IgnoredLabel { label: 0, name: "void".into(), color: [0; 3] }];
        assert_eq!(labels(&table), [IGNORED, 2, IGNORED]);

        let mut samples = SampleCache::new(pairs, None, 3).unwrap();
        samples.limit = 15;
        let first = samples.get(0).unwrap();
        assert!(Arc::ptr_eq(&first, &samples.get(0).unwrap()), "15 bytes fit");
        assert!(
            !Arc::ptr_eq(&samples.get(1).unwrap(), &samples.get(1).unwrap()),
            "the cache is full"
        );
        assert_eq!(samples.cached.lock().unwrap().bytes, 15);
    }
}
