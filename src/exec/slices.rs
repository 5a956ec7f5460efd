//! Runs that leave their results on the device, whole or in slices.
//!
//! A device works off one queue. A whole network in one submission keeps what a window draws
//! waiting until it is done, on a slow device for a large part of a second. In slices of a few
//! milliseconds, each started when the one before is done, the window's work gets in between.

use super::{Kind, Runner};
use crate::error::{Result, error};
use crate::tensor::Tensor;
use std::ops::Range;
use std::time::Duration;

/// Where a run is cut: into pieces of whole nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    pieces: Vec<Range<usize>>,
    longest: Duration,
}

impl Slices {
    /// Pieces that take at most `budget`, where a single node does not take longer.
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

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// How long the longest took when it was measured. No piece is shorter than its longest node.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

impl Runner {
    /// Runs once and returns nothing: results are the values that lie in a store. On a device it
    /// does not wait; what is started later on the same device runs after it. On the processor it
    /// is done when this returns.
    ///
    /// # Errors
    /// As [`Runner::run`]. What goes wrong on a device afterwards is told by the next call.
    pub fn enqueue(&self, inputs: &[(&str, &Tensor)]) -> Result<()> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())).map(drop),
            Kind::Gpu(runner) => runner.enqueue(&ordered),
        }
    }

    /// Finds pieces of about `budget` each, by running twice node by node: once so that drivers
    /// have everything ready, and once with a clock. On the processor there is one piece.
    ///
    /// # Errors
    /// As [`Runner::run`].
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

    /// As [`Runner::enqueue`], in pieces: each is started when the one before is done, so that
    /// other work on the device need not wait for more than one. It returns when the last is done.
    ///
    /// # Errors
    /// As [`Runner::run`]; and where the pieces are those of another runner.
    pub fn run_in_slices(&self, inputs: &[(&str, &Tensor)], slices: &Slices) -> Result<()> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())).map(drop),
            Kind::Gpu(runner) => {
                if slices.pieces.last().map(|p| p.end) != Some(runner.node_count()) {
                    return Err(error!(Usage, "these slices were cut for another graph"));
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
