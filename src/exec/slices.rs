//! Runs that leave their results on the device, as a whole or in slices.
//!
//! A device processes a single queue. A whole network in one submission delays the drawing of a
//! window until it is done, on a slow device by a large part of a second. With slices of a few
//! milliseconds, each submitted when the previous one is done, drawing can run in between.

use super::{Kind, Runner};
use crate::error::{Result, error};
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
    /// Runs once without returning outputs: results are the values in a store. On a device this
    /// does not wait; later work on the same device runs after it. On the CPU the run is complete
    /// when this returns.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`]. Later failures on a device are returned by the
    /// next call.
    pub fn enqueue(&self, inputs: &[(&str, &Tensor)]) -> Result<()> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())).map(drop),
            Kind::Gpu(runner) => runner.enqueue(&ordered),
        }
    }

    /// Partitions a run into slices of about `budget` each, by running twice node by node: once to
    /// warm up the driver, and once to measure. On the CPU there is one slice.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`].
    pub fn slices(&self, inputs: &[(&str, &Tensor)], budget: Duration) -> Result<Slices> {
        let ordered = self.ordered(inputs)?;
        let times = match &self.kind {
            Kind::Cpu(runner) => {
                let mut sum = Duration::ZERO;
                runner.run(&ordered, |_, time, _| {
                    sum += time;
                    Ok(())
                })?;
                vec![sum]
            }
            Kind::Gpu(runner) => {
                let nodes: Vec<Range<usize>> = (0..runner.node_count()).map(|i| i..i + 1).collect();
                runner.run_pieces(&ordered, &nodes)?;
                runner.run_pieces(&ordered, &nodes)?
            }
        };
        Ok(Slices::cut(&times, budget))
    }

    /// Like [`Runner::enqueue`], in slices: each is submitted when the previous one is done, so
    /// that other work on the device waits for at most one. Returns when the last one is done.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`], and an error if the slices belong to another
    /// runner.
    pub fn run_in_slices(&self, inputs: &[(&str, &Tensor)], slices: &Slices) -> Result<()> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())).map(drop),
            Kind::Gpu(runner) => {
                if slices.pieces.last().map(|p| p.end) != Some(runner.node_count()) {
                    return Err(error!(Usage, "the slices belong to another graph"));
                }
                runner.run_pieces(&ordered, &slices.pieces).map(drop)
            }
        }
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
