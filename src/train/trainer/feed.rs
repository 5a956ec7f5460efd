//! Where a step's batches come from: one is held at a time, however many gradients are added up.

use super::Pictures;
use crate::error::Result;

/// The batches of one step.
pub(crate) trait Feed {
    /// The next batch; they are asked for in order. `None` gives the step up.
    fn next(&mut self) -> Result<Option<Pictures<'_>>>;

    /// The `i`-th batch once more, to look for what is wrong in it.
    fn again(&mut self, i: usize) -> Result<Pictures<'_>>;
}

/// Batches that the caller holds.
pub(super) struct Held<'b> {
    batches: &'b [Pictures<'b>],
    next: usize,
}

impl<'b> Held<'b> {
    pub(super) fn new(batches: &'b [Pictures<'b>]) -> Self {
        Self { batches, next: 0 }
    }
}

impl Feed for Held<'_> {
    fn next(&mut self) -> Result<Option<Pictures<'_>>> {
        let batch = self.batches.get(self.next).copied();
        self.next += 1;
        Ok(batch)
    }

    fn again(&mut self, i: usize) -> Result<Pictures<'_>> {
        Ok(self.batches[i])
    }
}
