//! What a trainer keeps on its device, taken out of it and put back.

use super::Trainer;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::tensor::Tensor;
use crate::train::arena::ParameterArena;
use crate::train::parts::STATISTICS;
use std::collections::BTreeMap;

impl Trainer {
    /// The network's weights as they are now.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn weights(&self) -> Result<Weights> {
        let mut weights = self.read(&self.parameters, "parameters")?;
        for s in &STATISTICS {
            let found = self.read(&self.norms, s.running)?;
            weights.extend(
                found.into_iter().map(|(norm, tensor)| (format!("{norm}.{}", s.name), tensor)),
            );
        }
        let now = weights.into_iter().map(|(name, tensor)| (name, ParamRef::new(tensor)));
        Ok(self.others.clone().into_iter().chain(now).collect())
    }

    pub(super) fn set_weights(&self, weights: &Weights) -> Result<()> {
        let missing = |name: &str| error!(Weights, "parameter `{name}` is missing");
        let find = |name: &str| weights.get(name).map(|p| p.tensor());
        if let Some(entry) = self.parameters.entries().iter().find(|e| find(&e.name).is_none()) {
            return Err(missing(&entry.name));
        }
        self.write(&self.parameters, "parameters", &find)?;
        for s in &STATISTICS {
            let find = |norm: &str| find(&format!("{norm}.{}", s.name));
            if let Some(entry) = self.norms.entries().iter().find(|e| find(&e.name).is_none()) {
                return Err(missing(&format!("{}.{}", entry.name, s.name)));
            }
            self.write(&self.norms, s.running, &find)?;
        }
        Ok(())
    }

    /// What the optimizer keeps, by `STATE.PARAMETER`.
    ///
    /// # Errors
    /// Where the device fails.
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

    /// Goes on from what [`Trainer::weights`] and [`Trainer::optimizer_state`] gave after `step`
    /// steps.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape, or the device fails.
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
                    .advice("was it another optimizer?"));
            }
            self.write(&self.parameters, vector, &find)?;
        }
        self.step = step;
        Ok(())
    }

    /// Running statistics as they lie on the device, by buffer; none where the steps do not move
    /// them.
    pub(super) fn running_statistics(&self) -> Result<Vec<(String, Vec<f32>)>> {
        if self.statistics.is_none() {
            return Ok(Vec::new());
        }
        let buffers = STATISTICS.iter().flat_map(|s| self.norms.buffers(s.running));
        buffers.map(|(name, _)| self.store.read(&name).map(|numbers| (name, numbers))).collect()
    }

    /// Puts running statistics back.
    pub(super) fn set_running_statistics(&self, statistics: &[(String, Vec<f32>)]) -> Result<()> {
        statistics.iter().try_for_each(|(name, numbers)| self.store.write(name, numbers))
    }

    fn read(&self, arena: &ParameterArena, vector: &str) -> Result<BTreeMap<String, Tensor>> {
        let segments: Vec<Vec<f32>> =
            arena.buffers(vector).map(|(name, _)| self.store.read(&name)).collect::<Result<_>>()?;
        Ok(arena.unpack(&segments))
    }

    fn write<'t>(
        &self,
        arena: &ParameterArena,
        vector: &str,
        tensor: &dyn Fn(&str) -> Option<&'t Tensor>,
    ) -> Result<()> {
        let segments = arena.pack(tensor)?;
        arena
            .buffers(vector)
            .zip(segments)
            .try_for_each(|((name, _), numbers)| self.store.write(&name, &numbers))
    }
}
