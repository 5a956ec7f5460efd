//! Adjusts training options to fit into memory, at the least cost.

use super::{MemoryEstimate, TrainOptions, Trainer, ValidationMemory};
use crate::error::{Result, error};
use crate::exec::Device;
use crate::models::Config;
use std::fmt;

/// Training options that fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFit {
    /// Images per batch.
    pub batch: usize,
    /// Batches whose gradients are accumulated for a step. `batch * accumulate` is the same as in
    /// the original options.
    pub accumulate: u32,
    /// Whether activations are recomputed.
    pub recompute: bool,
    /// Memory that the training takes with these options.
    pub estimate: MemoryEstimate,
}

impl MemoryFit {
    /// Returns the first of these options that takes at most `limit` bytes: unchanged; with
    /// activations recomputed, which takes time but changes no result; then the same two with
    /// smaller and smaller batches, of which more are accumulated. Smaller batches change the
    /// statistics of batch norms, so they come last.
    ///
    /// # Errors
    /// As [`Trainer::estimate_memory`]. Returns an error of kind `OutOfMemory` with the minimum if
    /// none fits.
    pub fn new(
        device: &Device,
        config: &Config,
        options: &TrainOptions,
        limit: u64,
    ) -> Result<Self> {
        Self::with_validation(device, config, options, limit, None)
    }

    /// As [`MemoryFit::new`], for a limit that includes the memory of evaluations.
    ///
    /// # Errors
    /// As [`MemoryFit::new`].
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn with_validation(
        device: &Device,
        config: &Config,
        options: &TrainOptions,
        limit: u64,
        validation: Option<&ValidationMemory>,
    ) -> Result<Self> {
        options.validate(config)?;
        let validation_bytes = validation.map_or(0, |validation| validation.bytes);
        let mut least: Option<MemoryFit> = None;
        let divides = |batch: &usize| options.batch.is_multiple_of(*batch);
        for batch in (1..=options.batch).rev().filter(divides) {
            let count = u32::try_from(options.batch / batch).ok();
            let Some(accumulate) = count.and_then(|count| options.accumulate.checked_mul(count))
            else {
                break;
            };
            for recompute in [false, true] {
                if options.step.recompute && !recompute {
                    continue;
                }
                let mut candidate = TrainOptions { batch, accumulate, ..options.clone() };
                candidate.step.recompute = recompute;
                let estimate = Trainer::estimate_memory(device, config, &candidate)?;
                let fit = MemoryFit { batch, accumulate, recompute, estimate };
                if estimate.total().saturating_add(validation_bytes) <= limit {
                    return Ok(fit);
                }
                if least.is_none_or(|least| estimate.total() < least.estimate.total()) {
                    least = Some(fit);
                }
            }
        }
        let least =
            least.expect("invariant: options with an image in a batch are tried at least once");
        let train_bytes = least.estimate.total();
        let (limit, minimum) =
            (rounded_up(limit), rounded_up(train_bytes.saturating_add(validation_bytes)));
        let to_validate = validation.map_or_else(String::new, |validation| {
            let ValidationMemory { size, bytes } = validation;
            format!(" and {} to evaluate images of up to {size}", rounded_up(*bytes))
        });
        let to_train = format!("{} to train ({least})", rounded_up(train_bytes));
        let error = error!(
            OutOfMemory,
            "training does not fit into {limit}; the minimum is {minimum}: {to_train}{to_validate}"
        );
        Err(error.advice(
            "use smaller crops, a smaller backbone or a larger output stride, or raise the limit",
        ))
    }
}

/// Formats bytes in whole units, rounded up, so that the result is sufficient as a limit.
fn rounded_up(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}

impl fmt::Display for MemoryFit {
    /// The options without the estimate: `batch 4, gradients of 2 batches accumulated, activations
    /// recomputed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}", self.batch)?;
        if self.accumulate > 1 {
            write!(f, ", gradients of {} batches accumulated", self.accumulate)?;
        }
        write!(f, ", activations {}", if self.recompute { "recomputed" } else { "kept" })
    }
}
