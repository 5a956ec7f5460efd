//! The graphs after the backward pass, prepared for a device with the inputs that are the same in
//! every step.

use crate::error::Result;
use crate::exec::Runner;
use crate::graph::{Graph, InputId, OutputId};
use crate::ops::GradientScale;
use crate::pipeline::Pipeline;
use crate::tensor::{Shape, Tensor};
use crate::train::arena::ParameterArena;
use crate::train::average;
use crate::train::options::TrainOptions;
use crate::train::step_layout::{StepLayout, group_inputs, norm_tables};
use crate::train::update;

/// Inputs by the names that a run takes.
pub(super) fn named<'t>(
    graph: &'t Graph,
    inputs: impl IntoIterator<Item = (InputId, &'t Tensor)>,
) -> Vec<(&'t str, &'t Tensor)> {
    inputs.into_iter().map(|(id, tensor)| (graph.input_at(id).0, tensor)).collect()
}

/// A tensor of one value per channel.
pub(super) fn vector(values: Vec<f32>) -> Tensor {
    Tensor::new(Shape::vector(values.len()), values)
        .expect("invariant: as many values as the shape has")
}

/// Runs a graph with borrowed inputs.
fn run(runner: &Runner, inputs: &[(InputId, &Tensor)]) -> Result<Vec<Tensor>> {
    runner.run(&named(runner.graph(), inputs.iter().copied()))
}

/// The optimizer's update.
pub(super) struct UpdateRunner {
    runner: Runner,
    groups: Vec<(InputId, Tensor)>,
    table: InputId,
    scale: OutputId,
}

impl UpdateRunner {
    /// Prepares the update. `group` is the group of each parameter, of `groups` in all.
    pub(super) fn new(
        pipeline: &Pipeline,
        parameters: &ParameterArena,
        options: &TrainOptions,
        group: &[u32],
        groups: usize,
    ) -> Result<Self> {
        let scale = GradientScale {
            scale: 1.0 / options.accumulate as f32,
            max_norm: options.max_norm.map(|max| max as f32),
        };
        let gradients = if options.accumulate > 1 { "sums" } else { "gradients" };
        let update = update::update(parameters, &options.optimizer, scale, gradients, groups)?;
        let numbers = group_inputs(parameters, |i| group[i]);
        Ok(Self {
            runner: pipeline.runner(update.graph)?,
            groups: update.groups.into_iter().zip(numbers).collect(),
            table: update.table,
            scale: update.scale,
        })
    }

    /// Updates the parameters with a table of settings by group. Returns the scale (see
    /// [`GradientScale`]).
    pub(super) fn run(&self, table: &Tensor) -> Result<Tensor> {
        let mut inputs: Vec<_> = self.groups.iter().map(|(id, tensor)| (*id, tensor)).collect();
        inputs.push((self.table, table));
        Ok(run(&self.runner, &inputs)?.swap_remove(self.scale.index()))
    }
}

/// The sum of the gradients of several batches.
pub(super) struct AccumulationRunner {
    runner: Runner,
    keep: InputId,
}

impl AccumulationRunner {
    pub(super) fn new(pipeline: &Pipeline, parameters: &ParameterArena) -> Result<Self> {
        let accumulation = update::accumulate(parameters)?;
        Ok(Self { runner: pipeline.runner(accumulation.graph)?, keep: accumulation.keep })
    }

    /// Adds the gradients to their sums, or replaces the sums by those of the first batch.
    pub(super) fn run(&self, is_first: bool) -> Result<()> {
        let keep = vector(vec![if is_first { 0.0 } else { 1.0 }, 0.0, 0.0, 0.0]);
        run(&self.runner, &[(self.keep, &keep)]).map(drop)
    }
}

/// The update of the averages of parameters and running statistics.
pub(super) struct AverageRunner {
    runner: Runner,
    groups: Vec<(InputId, Tensor)>,
    table: InputId,
    decay: f64,
}

impl AverageRunner {
    /// Prepares the update; `decay` is that after the warm-up.
    pub(super) fn new(pipeline: &Pipeline, layout: &StepLayout, decay: f64) -> Result<Self> {
        let update = update::average(&layout.parameters, &layout.norms)?;
        let arenas = [&layout.parameters, &layout.norms];
        let groups = update.groups.into_iter().zip(arenas);
        let groups =
            groups.flat_map(|(ids, arena)| ids.into_iter().zip(group_inputs(arena, |_| 0)));
        let groups = groups.collect();
        Ok(Self { runner: pipeline.runner(update.graph)?, groups, table: update.table, decay })
    }

    /// Moves the averages toward the current values, after `step` steps.
    pub(super) fn run(&self, step: u64) -> Result<()> {
        let rate = (1.0 - average::decay(self.decay, step)) as f32;
        let table = vector(vec![rate, 1.0, 0.0, 0.0]);
        let mut inputs: Vec<_> = self.groups.iter().map(|(id, tensor)| (*id, tensor)).collect();
        inputs.push((self.table, &table));
        run(&self.runner, &inputs).map(drop)
    }
}

/// The update of the running statistics.
pub(super) struct StatisticsRunner {
    runner: Runner,
    inputs: Vec<(InputId, Tensor)>,
}

impl StatisticsRunner {
    pub(super) fn new(
        pipeline: &Pipeline,
        layout: &StepLayout,
        options: &TrainOptions,
    ) -> Result<Self> {
        let norms = &layout.norms;
        let update = update::statistics(norms, norms.entries().len())?;
        let numbers = group_inputs(norms, |i| i as u32);
        let tables = norm_tables(norms, &layout.counts, options);
        let groups = update.groups.into_iter().zip(numbers);
        Ok(Self {
            runner: pipeline.runner(update.graph)?,
            inputs: groups.chain(update.tables.into_iter().zip(tables)).collect(),
        })
    }

    /// Moves the running statistics toward those of the batch.
    pub(super) fn run(&self) -> Result<()> {
        let inputs: Vec<_> = self.inputs.iter().map(|(id, tensor)| (*id, tensor)).collect();
        run(&self.runner, &inputs).map(drop)
    }
}
