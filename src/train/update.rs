//! The graphs that run on flat vectors after the gradients are there: sums over batches, the
//! update, the running statistics.

use super::arena::ParameterArena;
use crate::error::{Result, error};
use crate::graph::{Graph, Resident, ValueId};
use crate::ops::{Accumulate, AdamW, GradientScale, Op, Packing, RunningStatistics, Sgd, flat};
use crate::tensor::{Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What turns gradients into changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Optimizer {
    /// Gradient descent with momentum.
    Sgd {
        /// Share of the old momentum that stays.
        momentum: f32,
        /// Nesterov's rule.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Shares of the old moments that stay.
        betas: (f32, f32),
        /// Added to the root of the second moment.
        eps: f32,
    },
}

impl Optimizer {
    /// Gradient descent with a momentum of 0.9.
    pub const SGD: Self = Self::Sgd { momentum: 0.9, nesterov: false };
    /// AdamW with the usual numbers.
    pub const ADAM_W: Self = Self::AdamW { betas: (0.9, 0.999), eps: 1e-8 };

    /// Names of the vectors that it keeps beside the parameters.
    pub fn states(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["first_moment", "second_moment"],
        }
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// With the number that does not.
    pub fn validate(&self) -> Result<()> {
        let share = |x: f32| (0.0..1.0).contains(&x);
        match *self {
            Self::Sgd { momentum, .. } if !share(momentum) => {
                Err(error!(Config, "the momentum must be at least 0 and below 1, got {momentum}"))
            }
            Self::AdamW { betas, .. } if !share(betas.0) || !share(betas.1) => {
                Err(error!(Config, "betas must be at least 0 and below 1, got {betas:?}"))
            }
            // Numbers without a gradient, as the padding of channels, would be 0 / 0.
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

    /// The corrections of the moments in step `step`, counted from 1; zeros where there are none.
    pub(super) fn corrections(&self, step: u64) -> (f32, f32) {
        match *self {
            Self::Sgd { .. } => (0.0, 0.0),
            Self::AdamW { betas, eps } => AdamW { betas, eps }.corrections(step),
        }
    }
}

/// A graph whose inputs are vectors of a arena.
struct Flat<'b> {
    graph: Graph,
    arena: &'b ParameterArena,
}

impl Flat<'_> {
    /// Inputs that are the segments of a vector in the store.
    fn vector(&mut self, name: &str) -> Vec<ValueId> {
        let segments: Vec<_> = self.arena.buffers(name).collect();
        segments
            .into_iter()
            .map(|(buffer, numbers)| {
                let id = self.graph.input(&buffer, TensorType::f32(Shape::vector(numbers)));
                self.graph.set_resident(id, whole(buffer));
                id
            })
            .collect()
    }

    /// Inputs `groups.I`, the groups of the blocks of each segment.
    fn groups(&mut self) -> Vec<ValueId> {
        let segments: Vec<_> = self.arena.buffers("groups").collect();
        let ty = |numbers: usize| TensorType::u32(Shape::vector(numbers / flat::BLOCK));
        segments.into_iter().map(|(name, numbers)| self.graph.input(&name, ty(numbers))).collect()
    }

    /// Adds a node that updates inputs in place.
    fn update(&mut self, name: &str, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<()> {
        let pairs = op.in_place();
        let outputs = self.graph.push(name, op, inputs)?;
        for &(input, output) in pairs {
            let place = self.graph.value(inputs[input]).resident.clone();
            let place =
                place.ok_or_else(|| error!(Graph, "only vectors of the store are updated"))?;
            self.graph.set_resident(outputs[output], place);
        }
        Ok(())
    }
}

fn whole(buffer: String) -> Resident {
    Resident { buffer, first: 0, packing: Packing::Channels }
}

fn table(graph: &mut Graph, name: &str, groups: usize) -> ValueId {
    graph.input(name, TensorType::f32(Shape::new(1, 1, groups, 4)))
}

/// The update of the parameters: inputs `groups.I` for each segment, and `table`; output `scale`
/// (see [`GradientScale`]). `gradients` is the name of their vector.
pub(super) fn update(
    arena: &ParameterArena,
    optimizer: &Optimizer,
    scale: GradientScale,
    gradients: &str,
    groups: usize,
) -> Result<Graph> {
    let mut flat = Flat { graph: Graph::new(), arena };
    let (w, g, blocks) = (flat.vector("parameters"), flat.vector(gradients), flat.groups());
    let states: Vec<Vec<ValueId>> =
        optimizer.states().iter().map(|name| flat.vector(name)).collect();
    let table = table(&mut flat.graph, "table", groups);
    let scale = flat.graph.push("scale", Arc::new(scale), &g)?[0];
    flat.graph.output("scale", scale);
    for segment in 0..w.len() {
        let mut inputs = vec![w[segment]];
        inputs.extend(states.iter().map(|state| state[segment]));
        inputs.extend([g[segment], scale, blocks[segment], table]);
        flat.update(&format!("update.{segment}"), optimizer.op(), &inputs)?;
    }
    Ok(flat.graph)
}

/// Adds the gradients of a batch to `sums`: input `keep` (see [`Accumulate`]).
pub(super) fn accumulate(arena: &ParameterArena) -> Result<Graph> {
    let mut flat = Flat { graph: Graph::new(), arena };
    let (sums, g) = (flat.vector("sums"), flat.vector("gradients"));
    let keep = flat.graph.input("keep", TensorType::f32(Shape::vector(4)));
    for (i, (sum, g)) in sums.into_iter().zip(g).enumerate() {
        flat.update(&format!("accumulate.{i}"), Arc::new(Accumulate), &[sum, g, keep])?;
    }
    Ok(flat.graph)
}

/// The update of the running statistics: inputs `groups.I` for each segment, and `table` for the
/// means, `table_variance` for the variances (see [`RunningStatistics`]).
pub(super) fn statistics(arena: &ParameterArena, groups: usize) -> Result<Graph> {
    let mut flat = Flat { graph: Graph::new(), arena };
    let blocks = flat.groups();
    for (kind, name) in [("mean", "table"), ("variance", "table_variance")] {
        let (r, s) =
            (flat.vector(&format!("running_{kind}")), flat.vector(&format!("batch_{kind}")));
        let table = table(&mut flat.graph, name, groups);
        for segment in 0..r.len() {
            let inputs = [r[segment], s[segment], blocks[segment], table];
            flat.update(
                &format!("running_{kind}.{segment}"),
                Arc::new(RunningStatistics),
                &inputs,
            )?;
        }
    }
    Ok(flat.graph)
}
