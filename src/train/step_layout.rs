//! The graph of a step with its parameters, gradients and statistics laid out in a store.

use super::arena::{Entry, ParameterArena};
use super::options::TrainOptions;
use super::param_groups::{ParamGroup, ParamGroups};
use super::step::{TrainingStep, training_step};
use crate::error::{Result, error};
use crate::graph::{Graph, Node, ValueId};
use crate::models::{Config, Outputs, build_network, is_trained};
use crate::ops::{Align, Conv2d, Packing};
use crate::passes;
use crate::tensor::{Data, Shape, Tensor};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Running statistics of batch norms.
pub(super) const STATISTICS: [Statistic; 2] = [
    Statistic { running: "running_mean", name: "running_mean", batch: "batch_mean" },
    Statistic { running: "running_variance", name: "running_var", batch: "batch_variance" },
];

/// One statistic of batch norms.
pub(super) struct Statistic {
    /// Vector of the running statistic.
    pub running: &'static str,
    /// Suffix of the parameter's name in weights files.
    pub name: &'static str,
    /// Vector of the batch's statistic.
    pub batch: &'static str,
}

/// The graph of a step and the layout of its store, independent of a device.
pub(super) struct StepLayout {
    /// Graph with the output `loss`; gradients and statistics are written to the store.
    pub graph: Graph,
    /// Layout of the trained parameters.
    pub parameters: ParameterArena,
    /// Layout of the means and variances of all batch norms, by norm.
    pub norms: ParameterArena,
    /// Norms that use the batch's statistics, with the number of values per channel.
    pub counts: Vec<(String, usize)>,
    /// Norms that use running statistics because a batch has a single value per channel.
    pub single_value_norms: Vec<String>,
    /// Names of the kernels of depthwise convolutions.
    pub depthwise: HashSet<String>,
}

impl StepLayout {
    pub(super) fn new(config: &Config, options: &TrainOptions, limit: u64) -> Result<Self> {
        let shape = Shape::images(options.batch, options.crop, config.input_channels);
        let network = build_network(
            config,
            shape,
            &Outputs { logits_full: true, aux: options.step.aux.is_some(), ..Outputs::default() },
        )?;
        // Collected before `training_step`: norms that use the batch's statistics no longer read
        // the running ones.
        let mean = |name: &str| name.strip_suffix(".running_mean").map(str::to_owned);
        let network_graph = &network.graph;
        let norms = ParameterArena::new(
            network_graph.params().filter_map(|(name, id)| {
                Some((mean(name)?, network_graph.shape(id), Packing::Channels))
            }),
            limit,
        )?;

        let depthwise = depthwise(network_graph);
        let TrainingStep { graph, norms: counts, single_value_norms, .. } =
            training_step(network.graph, &options.step)?;
        let mut graph = passes::dead_code(graph)?;
        let packings = packings(&graph);
        let packing = |id: ValueId| packings.get(&id).copied().unwrap_or(Packing::Channels);
        let params: Vec<(String, ValueId)> =
            graph.params().map(|(name, id)| (name.to_owned(), id)).collect();
        let entries = params.iter().filter(|(name, _)| is_trained(name));
        let parameters = ParameterArena::new(
            entries.map(|(name, id)| (name.clone(), graph.shape(*id), packing(*id))),
            limit,
        )?;

        place_params(&mut graph, &parameters, &norms, &params)?;
        place_gradients(&mut graph, &parameters)?;
        place_statistics(&mut graph, &norms, &counts)?;
        graph.verify()?;
        Ok(Self { graph, parameters, norms, counts, single_value_norms, depthwise })
    }
}

/// Names of the kernels of depthwise convolutions. The shape alone is ambiguous: a dense kernel on
/// an input of one channel has the same.
pub(super) fn depthwise(graph: &Graph) -> HashSet<String> {
    let is_depthwise = |node: &&Node| {
        let groups = node.op.downcast_ref::<Conv2d>().map_or(1, |conv| conv.groups);
        groups > 1 && graph.shape(node.inputs[1]).w == 1
    };
    let kernels: HashSet<ValueId> =
        graph.nodes().iter().filter(is_depthwise).map(|node| node.inputs[1]).collect();
    graph.params().filter(|(_, id)| kernels.contains(id)).map(|(name, _)| name.to_owned()).collect()
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

fn find<'b>(arena: &'b ParameterArena, name: &str) -> Option<&'b Entry> {
    arena.entries().iter().find(|e| e.name == name)
}

fn place_params(
    graph: &mut Graph,
    parameters: &ParameterArena,
    norms: &ParameterArena,
    params: &[(String, ValueId)],
) -> Result<()> {
    for (name, id) in params {
        let of_statistic = || {
            let statistic = STATISTICS.iter().find(|s| name.ends_with(&format!(".{}", s.name)))?;
            let entry = find(norms, name.strip_suffix(&format!(".{}", statistic.name))?)?;
            Some(norms.location(statistic.running, entry))
        };
        let location = find(parameters, name)
            .map(|entry| parameters.location("parameters", entry))
            .or_else(of_statistic)
            .ok_or_else(|| {
                error!(Graph, "is neither trained nor a statistic")
                    .at(format!("parameter `{name}`"))
            })?;
        graph.set_resident(*id, location);
    }
    Ok(())
}

/// Removes the output called `name` and stores its value at `location` instead, padded where
/// devices would leave elements undefined.
fn place_output(
    graph: &mut Graph,
    name: &str,
    packing: Packing,
    location: crate::graph::Resident,
) -> Result<()> {
    let value = graph.outputs().iter().find(|(n, _)| n == name).map(|&(_, v)| v);
    let value =
        value.ok_or_else(|| error!(Graph, "the graph of the step has no output `{name}`"))?;
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
    let location = crate::graph::Resident { packing: Packing::Channels, ..location };
    graph.set_resident(value, location);
    graph.remove_output(name);
    Ok(())
}

fn place_gradients(graph: &mut Graph, parameters: &ParameterArena) -> Result<()> {
    for entry in parameters.entries() {
        place_output(
            graph,
            &format!("grad.{}", entry.name),
            entry.packing,
            parameters.location("gradients", entry),
        )?;
    }
    Ok(())
}

fn place_statistics(
    graph: &mut Graph,
    norms: &ParameterArena,
    counts: &[(String, usize)],
) -> Result<()> {
    for (name, _) in counts {
        let entry = find(norms, name).ok_or_else(|| {
            error!(Graph, "has no running statistics").at(format!("node `{name}`"))
        })?;
        for statistic in &STATISTICS {
            let location = norms.location(statistic.batch, entry);
            place_output(
                graph,
                &format!("{name}.{}", statistic.batch),
                Packing::Channels,
                location,
            )?;
        }
    }
    Ok(())
}

/// The distinct groups, and the index of each parameter's group.
pub(super) fn distinct_groups(
    arena: &ParameterArena,
    groups: &ParamGroups,
    depthwise: &HashSet<String>,
) -> (Vec<ParamGroup>, Vec<u32>) {
    let mut distinct: Vec<ParamGroup> = Vec::new();
    let mut index = |group: ParamGroup| {
        distinct.iter().position(|g| *g == group).unwrap_or_else(|| {
            distinct.push(group);
            distinct.len() - 1
        }) as u32
    };
    let of_entry = arena
        .entries()
        .iter()
        .map(|entry| index(groups.of(entry, depthwise.contains(&entry.name))))
        .collect();
    (distinct, of_entry)
}

/// Inputs `groups.I` of graphs on the vectors of an arena.
pub(super) fn group_inputs(
    arena: &ParameterArena,
    group: impl Fn(usize) -> u32,
) -> Vec<(String, Tensor)> {
    let named = arena.buffers("groups").zip(arena.groups(|i, _| group(i)));
    named
        .map(|((name, _), groups)| {
            let shape = Shape::vector(groups.len());
            (
                name,
                Tensor::from_data(shape, Data::U32(groups))
                    .expect("invariant: one group for each block"),
            )
        })
        .collect()
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
            Some(&(_, n)) => {
                [options.norm_momentum.of(&entry.name) as f32, factor(n as f64) as f32, 0.0, 0.0]
            }
            None => [0.0; 4],
        };
        let data = norms.entries().iter().flat_map(row).collect();
        Tensor::new(Shape::new(1, 1, norms.entries().len(), 4), data)
            .expect("invariant: four elements for each norm")
    };
    [table(&|_| 1.0), table(&|n| n / (n - 1.0))]
}
