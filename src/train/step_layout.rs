//! The graph of a step with its parameters, gradients and statistics laid out in a store.

use super::arena::{Entry, ParameterArena};
use super::options::TrainOptions;
use super::param_groups::{ParamGroup, ParamGroups};
use super::step::{StepInputs, training_step};
use crate::error::{Result, error};
use crate::graph::{Graph, OutputId, Part, Resident, Role, ValueId};
use crate::models::{Config, Outputs, build_network};
use crate::ops::{Align, BatchNorm, Packing};
use crate::passes;
use crate::tensor::{Data, Shape, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// Running statistics of batch norms.
pub(super) const STATISTICS: [Statistic; 2] = [
    Statistic { running: "running_mean", part: Part::RunningMean, batch: "batch_mean" },
    Statistic { running: "running_variance", part: Part::RunningVar, batch: "batch_variance" },
];

/// Vector of the parameters that are not trained.
pub(super) const FROZEN: &str = "frozen";

/// One statistic of batch norms.
pub(super) struct Statistic {
    /// Vector of the running statistic.
    pub running: &'static str,
    /// Part that it is of a norm.
    pub part: Part,
    /// Vector of the batch's statistic.
    pub batch: &'static str,
}

impl Statistic {
    /// Name of the parameter of the norm at the node `norm`.
    pub fn parameter(&self, norm: &str) -> String {
        format!("{norm}.{}", self.part.field())
    }
}

/// The graph of a step and the layout of its store, independent of a device.
pub(super) struct StepLayout {
    /// Graph of the step; gradients and statistics are written to the store.
    pub graph: Graph,
    /// Handles of the graph's inputs.
    pub inputs: StepInputs,
    /// The graph's only output, the loss.
    pub loss: OutputId,
    /// Layout of the trained parameters.
    pub parameters: ParameterArena,
    /// Layout of the parameters that are not trained, in a vector of their own.
    pub frozen: ParameterArena,
    /// Layout of the means and variances of all batch norms, by norm.
    pub norms: ParameterArena,
    /// Norms that use the batch's statistics, with the number of values per channel.
    pub counts: Vec<(String, usize)>,
    /// Norms that use running statistics because a batch has a single value per channel.
    pub single_value_norms: Vec<String>,
}

impl StepLayout {
    pub(super) fn new(config: &Config, options: &TrainOptions, limit: u64) -> Result<Self> {
        let shape = Shape::images(options.batch, options.crop, config.input_channels);
        let network = build_network(
            config,
            shape,
            &Outputs {
                background: true,
                logits_full: true,
                aux: options.step.aux.is_some(),
                ..Outputs::default()
            },
        )?;
        // Collected before `training_step`: norms that use the batch's statistics no longer read
        // the running ones.
        let norms = ParameterArena::new(norms(&network.graph), limit)?;
        let step = training_step(network, &options.step)?;
        let mut graph = passes::dead_code(step.graph)?;
        let packings = packings(&graph);
        let packing = |id: ValueId| packings.get(&id).copied().unwrap_or(Packing::Channels);
        let arena = |is_frozen: bool| {
            let of_kind = graph.params().filter(|(info, _)| {
                info.role.part.is_trained() && options.step.freezes(info.role) == is_frozen
            });
            ParameterArena::new(
                of_kind
                    .map(|(info, id)| (info.name.clone(), info.role, graph.shape(id), packing(id))),
                limit,
            )
        };
        let (parameters, frozen) = (arena(false)?, arena(true)?);

        place_params(&mut graph, [(&parameters, "parameters"), (&frozen, FROZEN)], &norms)?;
        let value = |graph: &Graph, id: OutputId| graph.output_at(id).1;
        let gradients: HashMap<&str, ValueId> = (step.trained.iter().map(String::as_str))
            .zip(step.gradients.iter().map(|&id| value(&graph, id)))
            .collect();
        let statistics: Vec<[ValueId; 2]> =
            step.statistics.iter().map(|pair| pair.map(|id| value(&graph, id))).collect();
        let loss = value(&graph, step.loss);
        graph.clear_outputs();
        let loss = graph.output("loss", loss);
        place_gradients(&mut graph, &parameters, &gradients)?;
        place_statistics(&mut graph, &norms, &step.norms, &statistics)?;
        graph.verify()?;
        Ok(Self {
            graph,
            inputs: step.inputs,
            loss,
            parameters,
            frozen,
            norms,
            counts: step.norms,
            single_value_norms: step.single_value_norms,
        })
    }
}

/// Name, role, shape and packing of the statistics of each batch norm.
fn norms(network: &Graph) -> impl Iterator<Item = (String, Role, Shape, Packing)> {
    network.nodes().iter().filter(|node| node.op.is::<BatchNorm>()).map(|node| {
        let scale = node.inputs[1];
        let role = network.param_info(scale).map(|info| info.role).unwrap_or_default();
        (node.name.clone(), role, network.shape(scale), Packing::Channels)
    })
}

/// Packing of each parameter, as its first reader requires it.
fn packings(graph: &Graph) -> HashMap<ValueId, Packing> {
    let mut packings = HashMap::new();
    for node in graph.nodes() {
        for (index, &v) in node.inputs.iter().enumerate().filter(|(_, v)| graph.is_param(**v)) {
            packings.entry(v).or_insert_with(|| node.op.packing(index));
        }
    }
    packings
}

fn place_params(
    graph: &mut Graph,
    parameters: [(&ParameterArena, &str); 2],
    norms: &ParameterArena,
) -> Result<()> {
    let of_arena = |(arena, vector): (&ParameterArena, &str)| {
        let location = |entry: &Entry| (entry.name.clone(), arena.location(vector, entry));
        arena.entries().iter().map(location).collect::<Vec<_>>()
    };
    let trained = parameters.into_iter().flat_map(of_arena);
    let running = STATISTICS.iter().flat_map(|s| {
        norms
            .entries()
            .iter()
            .map(|entry| (s.parameter(&entry.name), norms.location(s.running, entry)))
    });
    let mut locations: HashMap<String, Resident> = trained.chain(running).collect();
    let params: Vec<(String, ValueId)> =
        graph.params().map(|(info, id)| (info.name.clone(), id)).collect();
    for (name, id) in params {
        let location = locations.remove(&name).ok_or_else(|| {
            error!(Graph, "is neither trained nor a statistic").at(format!("parameter `{name}`"))
        })?;
        graph.set_resident(id, location);
    }
    Ok(())
}

/// Stores a value at `location`, padded where devices would leave elements undefined.
fn place(
    graph: &mut Graph,
    value: ValueId,
    name: &str,
    packing: Packing,
    location: Resident,
) -> Result<()> {
    let (shape, align) = (graph.shape(value), Align(packing));
    let is_aligned = align.shape(shape) == shape
        && graph.value(value).resident.is_none()
        && graph.producer(value).is_some();
    let value = if is_aligned {
        value
    } else {
        graph.push(&format!("{name}.align"), Arc::new(align), &[value])?[0]
    };
    // The shape of an aligned value is already that of its packing.
    graph.set_resident(value, Resident { packing: Packing::Channels, ..location });
    Ok(())
}

fn place_gradients(
    graph: &mut Graph,
    parameters: &ParameterArena,
    gradients: &HashMap<&str, ValueId>,
) -> Result<()> {
    for entry in parameters.entries() {
        let name = format!("grad.{}", entry.name);
        let gradient = gradients.get(entry.name.as_str()).copied();
        let gradient = gradient
            .ok_or_else(|| error!(Graph, "the graph of the step has no output `{name}`"))?;
        let location = parameters.location("gradients", entry);
        place(graph, gradient, &name, entry.packing, location)?;
    }
    Ok(())
}

fn place_statistics(
    graph: &mut Graph,
    norms: &ParameterArena,
    counts: &[(String, usize)],
    statistics: &[[ValueId; 2]],
) -> Result<()> {
    for ((name, _), values) in counts.iter().zip(statistics) {
        let entry = norms.entries().iter().find(|e| e.name == *name).ok_or_else(|| {
            error!(Graph, "has no running statistics").at(format!("node `{name}`"))
        })?;
        for (statistic, &value) in STATISTICS.iter().zip(values) {
            let location = norms.location(statistic.batch, entry);
            let name = format!("{name}.{}", statistic.batch);
            place(graph, value, &name, Packing::Channels, location)?;
        }
    }
    Ok(())
}

/// The distinct groups, and the index of each parameter's group.
pub(super) fn distinct_groups(
    arena: &ParameterArena,
    groups: &ParamGroups,
) -> (Vec<ParamGroup>, Vec<u32>) {
    let mut distinct: Vec<ParamGroup> = Vec::new();
    let mut index = |group: ParamGroup| {
        distinct.iter().position(|g| *g == group).unwrap_or_else(|| {
            distinct.push(group);
            distinct.len() - 1
        }) as u32
    };
    let of_entry = arena.entries().iter().map(|entry| index(groups.of(entry.role))).collect();
    (distinct, of_entry)
}

/// Groups of the blocks of each segment, as the graphs on the vectors of an arena read them.
pub(super) fn group_inputs(arena: &ParameterArena, group: impl Fn(usize) -> u32) -> Vec<Tensor> {
    let tensor = |groups: Vec<u32>| {
        Tensor::from_data(Shape::vector(groups.len()), Data::U32(groups))
            .expect("invariant: one group for each block")
    };
    arena.groups(|i, _| group(i)).into_iter().map(tensor).collect()
}

/// Rows `[momentum, factor, 0, 0]` for each norm's mean and variance. The factor turns the biased
/// variance of a batch into the unbiased one. Frozen norms have zeros: they do not move.
pub(super) fn norm_tables(
    norms: &ParameterArena,
    counts: &[(String, usize)],
    options: &TrainOptions,
) -> [Tensor; 2] {
    let table = |factor: &dyn Fn(f64) -> f64| {
        let row = |entry: &Entry| match counts.iter().find(|(name, _)| *name == entry.name) {
            Some(&(_, n)) => [
                options.norm_momentum.of(entry.role.place) as f32,
                factor(n as f64) as f32,
                0.0,
                0.0,
            ],
            None => [0.0; 4],
        };
        let data = norms.entries().iter().flat_map(row).collect();
        Tensor::new(Shape::new(1, 1, norms.entries().len(), 4), data)
            .expect("invariant: four elements for each norm")
    };
    [table(&|_| 1.0), table(&|n| n / (n - 1.0))]
}
