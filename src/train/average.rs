//! Exponential moving average of the weights (Polyak averaging).

use crate::error::{Result, error};

/// Exponent of the warm-up, as in timm's `ModelEmaV3` with `use_warmup`.
const WARMUP_POWER: f64 = 2.0 / 3.0;

/// Decay of the average at an update, counted from 1: `max`, or less in the first updates, so that
/// the initial weights are forgotten. As in timm's `ModelEmaV3` with `use_warmup`, it is `1 - n^(-2 /
/// 3)` for the `n`-th update: 0 for the first, which copies the weights; 0.9 for the 32nd, 0.99 for
/// the 1000th, 0.999 for the 31623rd.
pub(super) fn decay(max: f64, update: u64) -> f64 {
    max.min(1.0 - (update.max(1) as f64).powf(-WARMUP_POWER))
}

/// Checks the decay of an average.
///
/// # Errors
/// Returns an error if it is not between 0 and 1.
pub(super) fn validate(decay: f64) -> Result<()> {
    if decay > 0.0 && decay < 1.0 {
        return Ok(());
    }
    Err(error!(Config, "`ema` must be above 0 and below 1, got {decay}")
        .advice("0.999 averages about the last thousand steps; leave the key out for no average"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_rises_as_timms_does() {
        // ModelEmaV3(decay=0.999, use_warmup=True).get_decay(n), whose steps are counted from 1.
        for (update, expected) in
            [(1, 0.0), (2, 0.37003947505), (32, 0.90078743), (1000, 0.99), (40_000, 0.999)]
        {
            let got = decay(0.999, update);
            assert!((got - expected).abs() < 1e-6, "{got} at {update}");
        }
        assert_eq!(decay(0.5, 1000), 0.5);
        for bad in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(validate(bad).unwrap_err().to_string().contains("`ema`"));
        }
    }
}
