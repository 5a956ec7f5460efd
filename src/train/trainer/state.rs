//! Reads and restores the state of a trainer.

use super::Trainer;
use crate::error::{Result, error};
use crate::graph::{ParamRef, Weights};
use crate::tensor::Tensor;
use crate::train::arena::ParameterArena;
use crate::train::step_layout::{FROZEN, STATISTICS};
use crate::train::update::AVERAGES;
use std::collections::BTreeMap;

impl Trainer {
    /// Returns the current weights of the network.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn weights(&self) -> Result<Weights> {
        self.weights_in(AVERAGES.map(|(_, current)| current))
    }

    /// Returns the weights to evaluate and to keep: the average of those after each step if
    /// [`TrainOptions::ema`](crate::train::TrainOptions::ema) is set, else the current ones.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn averaged_weights(&self) -> Result<Weights> {
        match self.average {
            Some(_) => self.weights_in(AVERAGES.map(|(average, _)| average)),
            None => self.weights(),
        }
    }

    /// Returns the weights of the network, from these vectors of parameters, means and variances.
    fn weights_in(&self, [parameters, mean, variance]: [&str; 3]) -> Result<Weights> {
        let mut weights = self.read(&self.parameters, parameters)?;
        weights.extend(self.read(&self.frozen, FROZEN)?);
        for (s, vector) in STATISTICS.iter().zip([mean, variance]) {
            let statistics = self.read(&self.norms, vector)?;
            weights
                .extend(statistics.into_iter().map(|(norm, tensor)| (s.parameter(&norm), tensor)));
        }
        let current = weights.into_iter().map(|(name, tensor)| (name, ParamRef::new(tensor)));
        Ok(self.others.clone().into_iter().chain(current).collect())
    }

    pub(super) fn set_weights(&self, weights: &Weights) -> Result<()> {
        let missing = |name: &str| error!(Weights, "parameter `{name}` is missing");
        let find = |name: &str| weights.get(name).map(|p| p.tensor());
        for (arena, vector) in [(&self.parameters, "parameters"), (&self.frozen, FROZEN)] {
            if let Some(entry) = arena.entries().iter().find(|e| find(&e.name).is_none()) {
                return Err(missing(&entry.name));
            }
            self.write(arena, vector, &find)?;
        }
        for s in &STATISTICS {
            let find = |norm: &str| find(&s.parameter(norm));
            if let Some(entry) = self.norms.entries().iter().find(|e| find(&e.name).is_none()) {
                return Err(missing(&s.parameter(&entry.name)));
            }
            self.write(&self.norms, s.running, &find)?;
        }
        if self.average.is_some() {
            // An average begins with the current values.
            for (average, current) in AVERAGES {
                let arena = self.averaged(average);
                for ((to, _), (from, _)) in arena.buffers(average).zip(arena.buffers(current)) {
                    let values = self.pipeline.store().read(&from)?;
                    self.pipeline.store().write(&to, &values)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the layout of a vector of averages.
    fn averaged(&self, average: &str) -> &ParameterArena {
        if average == AVERAGES[0].0 { &self.parameters } else { &self.norms }
    }

    /// Returns the state of the optimizer, by `STATE.PARAMETER`, and the averages if there are any:
    /// `average.PARAMETER`, `average_mean.NORM` and `average_variance.NORM`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn optimizer_state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        let states = self.options.optimizer.states().iter().map(|&state| (state, &self.parameters));
        let averages = AVERAGES.map(|(average, _)| (average, self.averaged(average)));
        let averages = averages.into_iter().filter(|_| self.average.is_some());
        for (vector, arena) in states.chain(averages) {
            let tensors = self.read(arena, vector)?;
            all.extend(tensors.into_iter().map(|(name, t)| (format!("{vector}.{name}"), t)));
        }
        Ok(all)
    }

    /// Restores the state that [`Trainer::weights`] and [`Trainer::optimizer_state`] returned after
    /// `step` steps. Averages that it does not have begin with the weights.
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
                    .advice("`optimizer` or `freeze` of the checkpoint may be different ones"));
            }
            self.write(&self.parameters, vector, &find)?;
        }
        let is_average = |name: &String| name.starts_with(AVERAGES[0].0);
        if self.average.is_some() && state.keys().any(is_average) {
            self.restore_averages(state)?;
        }
        self.step = step;
        Ok(())
    }

    fn restore_averages(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (average, _) in AVERAGES {
            let arena = self.averaged(average);
            let find = |name: &str| state.get(&format!("{average}.{name}"));
            if let Some(entry) = arena.entries().iter().find(|e| find(&e.name).is_none()) {
                return Err(error!(Weights, "`{average}.{}` is missing", entry.name)
                    .advice("`freeze` of the checkpoint may be a different one"));
            }
            self.write(arena, average, &find)?;
        }
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
