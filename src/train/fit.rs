//! Making a training fit into memory, at the least price.

use super::{Need, Scoring, TrainOptions, Trainer};
use crate::error::{Result, error};
use crate::exec::Device;
use crate::models::Config;
use std::fmt;

/// How a training fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFit {
    /// Images of a batch.
    pub batch: usize,
    /// Batches whose gradients are added up for a step. `batch * accumulate` is as many images as
    /// before.
    pub accumulate: u32,
    /// Whether activations are computed again.
    pub recompute: bool,
    /// What that needs.
    pub need: Need,
}

impl MemoryFit {
    /// The first of these that needs at most `limit` bytes: as it is; with activations computed
    /// again, which takes time and changes no number; then the same two with ever smaller batches,
    /// of which more are added up. These change what batch norms see, so they come last.
    ///
    /// # Errors
    /// As [`Trainer::need`]; of kind `OutOfMemory` where none fits, with the least that would be
    /// needed.
    pub fn new(
        device: &Device,
        config: &Config,
        options: &TrainOptions,
        limit: u64,
    ) -> Result<Self> {
        Self::beside(device, config, options, limit, None)
    }

    /// As [`MemoryFit::new`], where the limit is for training and for scoring beside it.
    ///
    /// # Errors
    /// As [`MemoryFit::new`].
    pub fn beside(
        device: &Device,
        config: &Config,
        options: &TrainOptions,
        limit: u64,
        scoring: Option<&Scoring>,
    ) -> Result<Self> {
        options.validate(config)?;
        let apart = scoring.map_or(0, |scoring| scoring.bytes);
        let mut least: Option<MemoryFit> = None;
        for batch in (1..=options.batch).rev().filter(|batch| options.batch.is_multiple_of(*batch))
        {
            let parts = u32::try_from(options.batch / batch).ok();
            let Some(accumulate) = parts.and_then(|parts| options.accumulate.checked_mul(parts))
            else {
                break;
            };
            for recompute in [false, true] {
                if options.step.recompute && !recompute {
                    continue;
                }
                let mut tried = TrainOptions { batch, accumulate, ..options.clone() };
                tried.step.recompute = recompute;
                let fit = MemoryFit {
                    batch,
                    accumulate,
                    recompute,
                    need: Trainer::need(device, config, &tried)?,
                };
                if fit.need.total().saturating_add(apart) <= limit {
                    return Ok(fit);
                }
                if least.is_none_or(|least| fit.need.total() < least.need.total()) {
                    least = Some(fit);
                }
            }
        }
        let least =
            least.expect("invariant: options with an image in a batch are tried at least once");
        let (limit, all) = (at_least(limit), at_least(least.need.total().saturating_add(apart)));
        let beside = scoring.map_or_else(String::new, |Scoring { width, height, bytes }| {
            format!(", and {} to score images of up to {width}x{height}", at_least(*bytes))
        });
        let train = format!("{} to train ({least})", at_least(least.need.total()));
        let error = error!(
            OutOfMemory,
            "no way to train fits into {limit}; the least is {all}: {train}{beside}"
        );
        Err(error.advice(
            "take smaller crops, a smaller backbone or a larger output stride, or allow more",
        ))
    }
}

/// Bytes in whole units, rounded up: a limit of what is written is enough.
fn at_least(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}

impl fmt::Display for MemoryFit {
    /// What the training does, without what it needs: `batches of 4, the gradients of 2 added up,
    /// activations computed again`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batches of {}", self.batch)?;
        if self.accumulate > 1 {
            write!(f, ", the gradients of {} added up", self.accumulate)?;
        }
        write!(f, ", activations {}", if self.recompute { "computed again" } else { "kept" })
    }
}
