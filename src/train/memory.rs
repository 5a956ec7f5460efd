//! How much memory a training takes, before it begins.

use super::arena::ParameterArena;
use super::options::TrainOptions;
use super::update;
use crate::error::Result;
use crate::exec::Device;
use crate::graph::Graph;
use crate::ops::GradientScale;
use std::fmt;

/// Bytes by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Need {
    /// Parameters and running statistics.
    pub parameters: u64,
    /// Gradients, and their sums over several batches.
    pub gradients: u64,
    /// What the optimizer keeps, and what an update takes while it runs.
    pub optimizer: u64,
    /// What the network computes on the way, forward and backward.
    pub activations: u64,
}

impl Need {
    pub(super) fn new(
        device: &Device,
        step: &Graph,
        parameters: &ParameterArena,
        norms: &ParameterArena,
        options: &TrainOptions,
    ) -> Result<Self> {
        let bytes = |arena: &ParameterArena| {
            4 * arena.buffers("").map(|(_, numbers)| numbers as u64).sum::<u64>()
        };
        let (of_parameters, of_norms) = (bytes(parameters), bytes(norms));
        let sums = if options.accumulate > 1 { 2 } else { 1 };
        // Devices overwrite what is updated; the processor computes it beside the old vectors.
        let scale = GradientScale { scale: 1.0, max_norm: None };
        let update = update::update(parameters, &options.optimizer, scale, "gradients", 1)?;
        let beside = device.activation_bytes(&update);
        Ok(Self {
            parameters: of_parameters + 4 * of_norms,
            gradients: sums * of_parameters,
            optimizer: options.optimizer.states().len() as u64 * of_parameters + beside,
            activations: device.activation_bytes(step),
        })
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.optimizer + self.activations
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
        write!(
            f,
            "{} (activations {}, parameters {}, gradients {}, optimizer {})",
            mib(self.total()),
            mib(self.activations),
            mib(self.parameters),
            mib(self.gradients),
            mib(self.optimizer)
        )
    }
}
