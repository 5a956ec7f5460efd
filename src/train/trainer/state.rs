//! Reads and restores the state of a trainer.

use super::Trainer;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::tensor::Tensor;
use crate::train::arena::ParameterArena;
use crate::train::step_layout::STATISTICS;
use std::collections::BTreeMap;

impl Trainer {
    /// Returns the current weights of the network.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn weights(&self) -> Result<Weights> {
        let mut weights = self.read(&self.parameters, "parameters")?;
        for s in &STATISTICS {
            let statistics = self.read(&self.norms, s.running)?;
            weights
                .extend(statistics.into_iter().map(|(norm, tensor)| (s.parameter(&norm), tensor)));
        }
        let current = weights.into_iter().map(|(name, tensor)| (name, ParamRef::new(tensor)));
        Ok(self.others.clone().into_iter().chain(current).collect())
    }

    pub(super) fn set_weights(&self, weights: &Weights) -> Result<()> {
        let missing = |name: &str| error!(Weights, "parameter `{name}` is missing");
        let find = |name: &str| weights.get(name).map(|p| p.tensor());
        if let Some(entry) = self.parameters.entries().iter().find(|e| find(&e.name).is_none()) {
            return Err(missing(&entry.name));
        }
        self.write(&self.parameters, "parameters", &find)?;
        for s in &STATISTICS {
            let find = |norm: &str| find(&s.parameter(norm));
            if let Some(entry) = self.norms.entries().iter().find(|e| find(&e.name).is_none()) {
                return Err(missing(&s.parameter(&entry.name)));
            }
            self.write(&self.norms, s.running, &find)?;
        }
        Ok(())
    }

    /// Returns the state of the optimizer, by `STATE.PARAMETER`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn optimizer_state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        for state in self.options.optimizer.states() {
            all.extend(
                self.read(&self.parameters, state)?
                    .into_iter()
                    .map(|(name, t)| (format!("{state}.{name}"), t)),
            );
        }
        Ok(all)
    }

    /// Restores the state that [`Trainer::weights`] and [`Trainer::optimizer_state`] returned after
    /// `step` steps.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing or has a different shape, or the device fails.
    pub fn restore(
        &mut self,
        step: u64,
        weights: &Weights,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        self.set_weights(weights)?;
        for vector in self.options.optimizer.states() {
            let find = |name: &str| state.get(&format!("{vector}.{name}"));
            if let Some(entry) = self.parameters.entries().iter().find(|e| find(&e.name).is_none())
            {
                return Err(error!(Weights, "`{vector}.{}` is missing", entry.name)
                    .advice("the optimizer of the checkpoint may be a different one"));
            }
            self.write(&self.parameters, vector, &find)?;
        }
        self.step = step;
        Ok(())
    }

    /// Reads the running statistics, by buffer; empty if the steps do not move them.
    pub(super) fn running_statistics(&self) -> Result<Vec<(String, Vec<f32>)>> {
        if self.statistics.is_none() {
            return Ok(Vec::new());
        }
        let buffers = STATISTICS.iter().flat_map(|s| self.norms.buffers(s.running));
        buffers
            .map(|(name, _)| self.pipeline.store().read(&name).map(|values| (name, values)))
            .collect()
    }

    /// Restores running statistics.
    pub(super) fn set_running_statistics(&self, statistics: &[(String, Vec<f32>)]) -> Result<()> {
        for (name, values) in statistics {
            self.pipeline.store().write(name, values)?;
        }
        Ok(())
    }

    fn read(&self, arena: &ParameterArena, vector: &str) -> Result<BTreeMap<String, Tensor>> {
        let segments: Vec<Vec<f32>> = arena
            .buffers(vector)
            .map(|(name, _)| self.pipeline.store().read(&name))
            .collect::<Result<_>>()?;
        Ok(arena.unpack(&segments))
    }

    fn write<'t>(
        &self,
        arena: &ParameterArena,
        vector: &str,
        tensor: &dyn Fn(&str) -> Option<&'t Tensor>,
    ) -> Result<()> {
        let segments = arena.pack(tensor)?;
        for ((name, _), values) in arena.buffers(vector).zip(segments) {
            self.pipeline.store().write(&name, &values)?;
        }
        Ok(())
    }
}
