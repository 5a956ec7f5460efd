//! Runs that leave their results on the device, as a whole or in slices.
//!
//! A device processes a single queue. A whole network in one submission delays the drawing of a
//! window until it is done, on a slow device by a large part of a second. With slices of a few
//! milliseconds, each submitted when the previous one is done, drawing can run in between.

use super::backend::Program;
use super::runner::{AnyProgram, Runner, with_program};
use crate::error::Result;
use crate::tensor::Tensor;
use std::ops::Range;
use std::time::Duration;

/// Partition of a run into slices of whole nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    pieces: Vec<Range<usize>>,
    longest: Duration,
}

impl Slices {
    /// Cuts nodes into slices that take at most `budget`, unless a single node takes longer.
    fn cut(times: &[Duration], budget: Duration) -> Self {
        let (mut pieces, mut longest) = (Vec::new(), Duration::ZERO);
        let (mut first, mut sum) = (0, Duration::ZERO);
        for (i, &time) in times.iter().enumerate() {
            if i > first && sum + time > budget {
                pieces.push(first..i);
                (first, sum) = (i, Duration::ZERO);
            }
            sum += time;
            longest = longest.max(sum);
        }
        pieces.push(first..times.len());
        Self { pieces, longest }
    }

    /// Returns the number of slices.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Returns the measured time of the longest slice. A slice takes at least as long as its
    /// longest node.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

impl Runner {
    /// Partitions a run into slices of about `budget` each, by running twice node by node: once to
    /// warm up the driver, and once to measure. On the CPU there is one slice.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`].
    pub fn slices(&self, inputs: &[(&str, &Tensor)], budget: Duration) -> Result<Slices> {
        let inputs = self.ordered(inputs)?;
        let times = with_program!(&self.program, program => program.time_pieces(&inputs))?;
        Ok(Slices::cut(&times, budget))
    }

    /// Like [`Runner::enqueue`], in slices: each is submitted when the previous one is done, so
    /// that other work on the device waits for at most one. Returns when the last one is done.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`], and an error if the slices belong to another
    /// runner.
    pub fn run_in_slices(&self, inputs: &[(&str, &Tensor)], slices: &Slices) -> Result<()> {
        let inputs = self.ordered(inputs)?;
        with_program!(&self.program, program => program.run_pieces(&inputs, &slices.pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_all_nodes_in_order_and_keep_to_the_budget() {
        let ms = |all: &[u64]| all.iter().map(|&t| Duration::from_millis(t)).collect::<Vec<_>>();
        let budget = Duration::from_millis(4);
        let cut = Slices::cut(&ms(&[1, 2, 1, 3, 9, 0, 4, 1]), budget);
        assert_eq!(cut.pieces, [0..3, 3..4, 4..5, 5..7, 7..8]);
        assert_eq!((cut.count(), cut.longest()), (5, Duration::from_millis(9)));
        assert_eq!(Slices::cut(&ms(&[1, 1]), budget).pieces.first(), Some(&(0..2)));
        assert_eq!(Slices::cut(&[], budget).pieces.first(), Some(&(0..0)));
    }
}
