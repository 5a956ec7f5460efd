//! Graphs that run on flat vectors after the backward pass: gradient accumulation, the optimizer's
//! update, running statistics.

use super::arena::ParameterArena;
use super::step_layout::{STATISTICS, Statistic};
use crate::error::{Result, error};
use crate::graph::{Graph, InputId, OutputId, Resident, ValueId};
use crate::ops::{
    Accumulate, AdamW, GradientScale, InPlace, Moments, Op, Packing, RunningStatistics, Sgd, flat,
};
use crate::tensor::{Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Factor of the previous momentum, 0 to 1.
        momentum: f32,
        /// Whether to use Nesterov momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw", alias = "adam_w")]
    AdamW {
        /// Decay rates of the first and second moment.
        betas: Moments,
        /// Added to the square root of the second moment.
        eps: f32,
    },
}

impl Optimizer {
    /// SGD with a momentum of 0.9.
    pub const SGD: Self = Self::Sgd { momentum: 0.9, nesterov: false };
    /// AdamW with the usual parameters.
    pub const ADAM_W: Self =
        Self::AdamW { betas: Moments { first: 0.9, second: 0.999 }, eps: 1e-8 };

    /// Names of the optimizer's state vectors.
    pub fn states(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["first_moment", "second_moment"],
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// Returns an error that names the first invalid parameter.
    pub fn validate(&self) -> Result<()> {
        let is_factor = |x: f32| (0.0..1.0).contains(&x);
        match *self {
            Self::Sgd { momentum, .. } if !is_factor(momentum) => {
                Err(error!(Config, "the momentum must be at least 0 and below 1, got {momentum}"))
            }
            Self::AdamW { betas, .. } if !is_factor(betas.first) || !is_factor(betas.second) => {
                let Moments { first, second } = betas;
                Err(error!(
                    Config,
                    "betas must be at least 0 and below 1, got {first} and {second}"
                ))
            }
            // Elements without a gradient, such as padding channels, would be 0 / 0.
            Self::AdamW { eps, .. } if !eps.is_normal() || eps < 0.0 => {
                Err(error!(Config, "the optimizer's `eps` must be above 0, got {eps}"))
            }
            _ => Ok(()),
        }
    }

    fn op(&self) -> Arc<dyn Op> {
        match *self {
            Self::Sgd { momentum, nesterov } => Arc::new(Sgd { momentum, nesterov }),
            Self::AdamW { betas, eps } => Arc::new(AdamW { betas, eps }),
        }
    }

    /// Bias corrections of the moments at step `step`, counted from 1; zeros if there are none.
    pub(super) fn corrections(&self, step: u64) -> Moments {
        match *self {
            Self::Sgd { .. } => Moments { first: 0.0, second: 0.0 },
            Self::AdamW { betas, eps } => AdamW { betas, eps }.corrections(step),
        }
    }
}

/// A graph whose inputs are vectors of an arena.
struct FlatGraph<'b> {
    graph: Graph,
    arena: &'b ParameterArena,
}

impl FlatGraph<'_> {
    /// Adds the segments of a stored vector as inputs.
    fn vector(&mut self, name: &str) -> Vec<ValueId> {
        let segments: Vec<_> = self.arena.buffers(name).collect();
        segments
            .into_iter()
            .map(|(buffer, elements)| {
                let id = self.graph.input(&buffer, TensorType::f32(Shape::vector(elements)));
                self.graph.set_resident(id, whole_buffer(buffer));
                id
            })
            .collect()
    }

    /// Adds inputs `NAME.I`: the groups of the blocks of each segment.
    fn groups(&mut self, name: &str) -> (Vec<InputId>, Vec<ValueId>) {
        let segments: Vec<_> = self.arena.buffers(name).collect();
        let ty = |elements: usize| TensorType::u32(Shape::vector(elements / flat::BLOCK));
        let input =
            |(name, elements): (String, usize)| self.graph.input_with_id(&name, ty(elements));
        segments.into_iter().map(input).unzip()
    }

    /// Adds a node that updates inputs in place.
    fn update(&mut self, name: &str, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<()> {
        let pairs = op.in_place();
        let outputs = self.graph.push(name, op, inputs)?;
        for &InPlace { input, output } in pairs {
            let resident = self.graph.value(inputs[input]).resident.clone();
            let resident =
                resident.ok_or_else(|| error!(Graph, "only stored vectors can be updated"))?;
            self.graph.set_resident(outputs[output], resident);
        }
        Ok(())
    }
}

fn whole_buffer(buffer: String) -> Resident {
    Resident { buffer, first: 0, packing: Packing::Channels }
}

fn table(graph: &mut Graph, name: &str, groups: usize) -> (InputId, ValueId) {
    graph.input_with_id(name, TensorType::f32(Shape::new(1, 1, groups, 4)))
}

/// Graph of the optimizer's update.
pub(super) struct Update {
    pub graph: Graph,
    /// Inputs `groups.I`: the groups of the blocks of each segment.
    pub groups: Vec<InputId>,
    /// Input `table`: a row of settings for each group.
    pub table: InputId,
    /// Output `scale` (see [`GradientScale`]).
    pub scale: OutputId,
}

/// Graph that adds the gradients of a batch to their sums.
pub(super) struct Accumulation {
    pub graph: Graph,
    /// Input `keep` (see [`Accumulate`]).
    pub keep: InputId,
}

/// Graph that updates the running statistics (see [`RunningStatistics`]).
pub(super) struct StatisticsUpdate {
    pub graph: Graph,
    /// Inputs `groups.I`: the norms of the blocks of each segment.
    pub groups: Vec<InputId>,
    /// Inputs `table` and `table_variance`: a row for each norm's mean and variance.
    pub tables: [InputId; 2],
}

/// Graph that moves averages toward current values.
pub(super) struct AverageUpdate {
    pub graph: Graph,
    /// Inputs `groups.I` and `norm_groups.I`: the groups of the blocks of each segment, all 0.
    pub groups: [Vec<InputId>; 2],
    /// Input `table`: one row, `[1 - decay, 1, 0, 0]`.
    pub table: InputId,
}

/// Vectors of averages and of what they average: parameters, then statistics of norms.
pub(super) const AVERAGES: [(&str, &str); 3] = [
    ("average", "parameters"),
    ("average_mean", STATISTICS[0].running),
    ("average_variance", STATISTICS[1].running),
];

/// Builds the graph that moves the averages of parameters and of running statistics. The formula is
/// that of running statistics.
pub(super) fn average(
    parameters: &ParameterArena,
    norms: &ParameterArena,
) -> Result<AverageUpdate> {
    let mut flat = FlatGraph { graph: Graph::new(), arena: parameters };
    let (table_id, table) = table(&mut flat.graph, "table", 1);
    let (of_parameters, parameter_blocks) = flat.groups("groups");
    flat.arena = norms;
    let (of_norms, norm_blocks) = flat.groups("norm_groups");
    for (index, (average, current)) in AVERAGES.into_iter().enumerate() {
        let (arena, blocks) =
            if index == 0 { (parameters, &parameter_blocks) } else { (norms, &norm_blocks) };
        flat.arena = arena;
        let (averages, values) = (flat.vector(average), flat.vector(current));
        for (segment, &block) in blocks.iter().enumerate() {
            let inputs = [averages[segment], values[segment], block, table];
            let name = format!("{average}.{segment}");
            flat.update(&name, Arc::new(RunningStatistics), &inputs)?;
        }
    }
    Ok(AverageUpdate { graph: flat.graph, groups: [of_parameters, of_norms], table: table_id })
}

/// Builds the graph of the optimizer's update. `gradients` is the name of the gradient vector.
pub(super) fn update(
    arena: &ParameterArena,
    optimizer: &Optimizer,
    scale: GradientScale,
    gradients: &str,
    groups: usize,
) -> Result<Update> {
    let mut flat = FlatGraph { graph: Graph::new(), arena };
    let (w, g) = (flat.vector("parameters"), flat.vector(gradients));
    let (group_ids, blocks) = flat.groups("groups");
    let states: Vec<Vec<ValueId>> =
        optimizer.states().iter().map(|name| flat.vector(name)).collect();
    let (table_id, table) = table(&mut flat.graph, "table", groups);
    let scale = flat.graph.push("scale", Arc::new(scale), &g)?[0];
    let scale_id = flat.graph.output("scale", scale);
    for segment in 0..w.len() {
        let mut inputs = vec![w[segment]];
        inputs.extend(states.iter().map(|state| state[segment]));
        inputs.extend([g[segment], scale, blocks[segment], table]);
        flat.update(&format!("update.{segment}"), optimizer.op(), &inputs)?;
    }
    Ok(Update { graph: flat.graph, groups: group_ids, table: table_id, scale: scale_id })
}

/// Builds the graph that adds the gradients of a batch to `sums`.
pub(super) fn accumulate(arena: &ParameterArena) -> Result<Accumulation> {
    let mut flat = FlatGraph { graph: Graph::new(), arena };
    let (sums, g) = (flat.vector("sums"), flat.vector("gradients"));
    let (keep_id, keep) = flat.graph.input_with_id("keep", TensorType::f32(Shape::vector(4)));
    for (i, (sum, g)) in sums.into_iter().zip(g).enumerate() {
        flat.update(&format!("accumulate.{i}"), Arc::new(Accumulate), &[sum, g, keep])?;
    }
    Ok(Accumulation { graph: flat.graph, keep: keep_id })
}

/// Builds the graph that updates the running statistics of `groups` norms.
pub(super) fn statistics(arena: &ParameterArena, groups: usize) -> Result<StatisticsUpdate> {
    let mut flat = FlatGraph { graph: Graph::new(), arena };
    let (group_ids, blocks) = flat.groups("groups");
    let mut update = |statistic: &Statistic, name: &str| {
        let (r, s) = (flat.vector(statistic.running), flat.vector(statistic.batch));
        let (id, table) = table(&mut flat.graph, name, groups);
        for segment in 0..r.len() {
            let inputs = [r[segment], s[segment], blocks[segment], table];
            let name = format!("{}.{segment}", statistic.running);
            flat.update(&name, Arc::new(RunningStatistics), &inputs)?;
        }
        Ok(id)
    };
    let [mean, variance] = &STATISTICS;
    let tables = [update(mean, "table")?, update(variance, "table_variance")?];
    Ok(StatisticsUpdate { graph: flat.graph, groups: group_ids, tables })
}
