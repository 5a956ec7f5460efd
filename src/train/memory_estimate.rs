//! Estimate of the memory that training takes.

use super::arena::ParameterArena;
use super::options::TrainOptions;
use super::step_layout::StepLayout;
use super::update;
use crate::error::Result;
use crate::exec::Device;
use crate::ops::GradientScale;
use std::fmt;

/// Memory that training takes, in bytes by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MemoryEstimate {
    /// Parameters and running statistics, and their averages if there are any.
    pub parameters: u64,
    /// Gradients, and their sums if several batches are accumulated.
    pub gradients: u64,
    /// State of the optimizer, and temporary memory of updates.
    pub optimizer: u64,
    /// Intermediate values of the forward and the backward pass.
    pub activations: u64,
}

impl MemoryEstimate {
    pub(super) fn new(
        device: &Device,
        layout: &StepLayout,
        options: &TrainOptions,
    ) -> Result<Self> {
        let bytes = |arena: &ParameterArena| {
            4 * arena.buffers("").map(|(_, elements)| elements as u64).sum::<u64>()
        };
        let StepLayout { parameters, frozen, norms, graph: step, .. } = layout;
        let (parameter_bytes, norm_bytes) = (bytes(parameters), bytes(norms));
        let sums = if options.accumulate > 1 { 2 } else { 1 };
        // Devices update in place; the CPU computes new vectors before it drops the old ones.
        let scale = GradientScale { scale: 1.0, max_norm: None };
        let update = update::update(parameters, &options.optimizer, scale, "gradients", 1)?.graph;
        let mut update_bytes = device.activation_bytes(&update);
        let mut average_bytes = 0;
        if options.ema.is_some() {
            average_bytes = parameter_bytes + 2 * norm_bytes;
            let average = update::average(parameters, norms)?.graph;
            update_bytes = update_bytes.max(device.activation_bytes(&average));
        }
        let states = options.optimizer.states().len() as u64;
        Ok(Self {
            parameters: parameter_bytes + bytes(frozen) + 4 * norm_bytes + average_bytes,
            gradients: sums * parameter_bytes,
            optimizer: states * parameter_bytes + update_bytes,
            activations: device.activation_bytes(step),
        })
    }

    /// Sum of all fields.
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.optimizer + self.activations
    }
}

impl fmt::Display for MemoryEstimate {
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
