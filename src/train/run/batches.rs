//! The batches of a step, one at a time in memory.

use super::super::trainer::{BatchRef, BatchSource};
use crate::data::{Batch, Loader};
use crate::error::Result;
use std::sync::atomic::AtomicBool;

/// Batches of a step, from the loader.
pub(in crate::train) struct LoaderBatches<'l> {
    loader: &'l mut Loader,
    stop: &'l AtomicBool,
    /// Number of the step's first batch.
    first: u64,
    /// Number of batches requested in this step.
    requested: u64,
    current: Option<Batch>,
    /// Whether a pixel with this label counts in the loss.
    counts: &'l dyn Fn(u32) -> bool,
    /// Whether any pixel of the step counts.
    pub counted: bool,
    /// Number of batches without a pixel that counts, and the images of the first one.
    pub empty: u64,
    pub first_empty: Option<Vec<String>>,
}

impl<'l> LoaderBatches<'l> {
    /// Creates the source of a step whose first batch is number `first`.
    pub fn new(
        loader: &'l mut Loader,
        stop: &'l AtomicBool,
        first: u64,
        counts: &'l dyn Fn(u32) -> bool,
    ) -> Self {
        let (requested, current, counted, empty, first_empty) = (0, None, false, 0, None);
        Self { loader, stop, first, requested, current, counts, counted, empty, first_empty }
    }

    /// Returns the batch with a number, or `None` if stopped while waiting for it.
    fn fetch(&mut self, index: u64) -> Result<Option<Batch>> {
        // The loader has already returned the batches of a step that was abandoned or failed.
        if self.loader.position() > index {
            self.loader.replay(index).map(Some)
        } else {
            self.loader.next_unless(self.stop)
        }
    }
}

fn batch_ref(batch: &Batch) -> BatchRef<'_> {
    BatchRef { images: &batch.images, labels: &batch.labels, names: &batch.names }
}

impl BatchSource for LoaderBatches<'_> {
    fn next(&mut self) -> Result<Option<BatchRef<'_>>> {
        // Drop the batch before fetching the next one: they are large.
        self.current = None;
        self.current = self.fetch(self.first + self.requested)?;
        self.requested += 1;
        let Some(batch) = &self.current else { return Ok(None) };
        // Usually stops at the first pixel.
        if batch.labels.u32().iter().any(|&label| (self.counts)(label)) {
            self.counted = true;
        } else {
            self.empty += 1;
            self.first_empty.get_or_insert_with(|| batch.names.clone());
        }
        Ok(Some(batch_ref(batch)))
    }

    fn replay(&mut self, i: usize) -> Result<BatchRef<'_>> {
        let index = self.first + i as u64;
        let batch = match self.current.take().filter(|batch| batch.index == index) {
            Some(batch) => batch,
            None => self.loader.replay(index)?,
        };
        Ok(batch_ref(self.current.insert(batch)))
    }
}
