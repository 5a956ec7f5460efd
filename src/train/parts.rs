//! The graph of a step with its parameters, gradients and statistics laid out in a store.

use super::arena::{Entry, ParameterArena};
use super::groups::{Group, Groups};
use super::options::TrainOptions;
use super::step::{TrainingStep, training_step};
use crate::error::{Result, error};
use crate::graph::{Graph, Node, ValueId};
use crate::models::{Config, Outputs, build_network, is_trained};
use crate::ops::{Align, Conv2d, Packing};
use crate::passes;
use crate::tensor::{Data, Shape, Tensor};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Statistics of norms: the vectors of the running ones, what weight files call them, and the
/// vectors of the batch's.
pub(super) const STATISTICS: [Statistic; 2] = [
    Statistic { running: "running_mean", name: "running_mean", batch: "batch_mean" },
    Statistic { running: "running_variance", name: "running_var", batch: "batch_variance" },
];

pub(super) struct Statistic {
    pub running: &'static str,
    pub name: &'static str,
    pub batch: &'static str,
}

/// A step before it meets a device.
pub(super) struct Parts {
    /// Output `loss`; gradients and statistics go to the store.
    pub graph: Graph,
    /// Parameters that the step trains.
    pub parameters: ParameterArena,
    /// All norms of the network, by name: where their means and variances lie.
    pub norms: ParameterArena,
    /// Norms that take the batch's statistics, with the number of values that those are of.
    pub counts: Vec<(String, usize)>,
    /// Norms that were to, but see too few values.
    pub too_small: Vec<String>,
    /// Kernels of depthwise convolutions, by name.
    pub depthwise: HashSet<String>,
}

impl Parts {
    pub(super) fn new(config: &Config, options: &TrainOptions, limit: u64) -> Result<Self> {
        let shape =
            Shape::new(options.batch, options.crop.0, options.crop.1, config.input_channels);
        let network = build_network(
            config,
            shape,
            &Outputs { logits_full: true, aux: options.step.aux.is_some(), ..Outputs::default() },
        )?;
        // Norms that take the batch's statistics do not read the running ones: these are known
        // before.
        let mean = |name: &str| name.strip_suffix(".running_mean").map(str::to_owned);
        let all = &network.graph;
        let norms = ParameterArena::new(
            all.params()
                .filter_map(|(name, id)| Some((mean(name)?, all.shape(id), Packing::Channels))),
            limit,
        )?;

        let depthwise = depthwise(all);
        let TrainingStep { graph, norms: counts, too_small, .. } =
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
        Ok(Self { graph, parameters, norms, counts, too_small, depthwise })
    }
}

/// Kernels of convolutions that see one channel each. The shape alone does not say so: a dense
/// kernel on an input of one channel has it too.
pub(super) fn depthwise(graph: &Graph) -> HashSet<String> {
    let is_depthwise = |node: &&Node| {
        let groups = node.op.downcast_ref::<Conv2d>().map_or(1, |conv| conv.groups);
        groups > 1 && graph.shape(node.inputs[1]).w == 1
    };
    let kernels: HashSet<ValueId> =
        graph.nodes().iter().filter(is_depthwise).map(|node| node.inputs[1]).collect();
    graph.params().filter(|(_, id)| kernels.contains(id)).map(|(name, _)| name.to_owned()).collect()
}

/// How each parameter must lie.
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
        let of_norm = || {
            let statistic = STATISTICS.iter().find(|s| name.ends_with(&format!(".{}", s.name)))?;
            let entry = find(norms, name.strip_suffix(&format!(".{}", statistic.name))?)?;
            Some(norms.place(statistic.running, entry))
        };
        let place = find(parameters, name)
            .map(|entry| parameters.place("parameters", entry))
            .or_else(of_norm);
        match place {
            Some(place) => graph.set_resident(*id, place),
            None => {
                return Err(error!(Graph, "is neither trained nor a statistic")
                    .at(format!("parameter `{name}`")));
            }
        }
    }
    Ok(())
}

/// Takes the output called `name` away and puts its value at `place`, padded where devices would
/// leave something undefined.
fn place_output(
    graph: &mut Graph,
    name: &str,
    packing: Packing,
    place: crate::graph::Resident,
) -> Result<()> {
    let value = graph.outputs().iter().find(|(n, _)| n == name).map(|&(_, v)| v);
    let value = value.ok_or_else(|| error!(Graph, "the step has no output `{name}`"))?;
    let (shape, align) = (graph.shape(value), Align(packing));
    let own = align.shape(shape) == shape
        && graph.value(value).resident.is_none()
        && graph.producer(value).is_some();
    let value = if own {
        value
    } else {
        graph.push(&format!("{name}.align"), Arc::new(align), &[value])?[0]
    };
    // What is aligned already lies as it is.
    graph.set_resident(value, crate::graph::Resident { packing: Packing::Channels, ..place });
    graph.remove_output(name);
    Ok(())
}

fn place_gradients(graph: &mut Graph, parameters: &ParameterArena) -> Result<()> {
    for entry in parameters.entries() {
        place_output(
            graph,
            &format!("grad.{}", entry.name),
            entry.packing,
            parameters.place("gradients", entry),
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
            let place = norms.place(statistic.batch, entry);
            place_output(graph, &format!("{name}.{}", statistic.batch), Packing::Channels, place)?;
        }
    }
    Ok(())
}

/// The groups that differ, and which one each parameter belongs to.
pub(super) fn distinct_groups(
    arena: &ParameterArena,
    groups: &Groups,
    depthwise: &HashSet<String>,
) -> (Vec<Group>, Vec<u32>) {
    let mut distinct: Vec<Group> = Vec::new();
    let mut number = |group: Group| {
        distinct.iter().position(|g| *g == group).unwrap_or_else(|| {
            distinct.push(group);
            distinct.len() - 1
        }) as u32
    };
    let of_entry = arena
        .entries()
        .iter()
        .map(|entry| number(groups.of(entry, depthwise.contains(&entry.name))))
        .collect();
    (distinct, of_entry)
}

/// The inputs `groups.I` of graphs on a arena's vectors.
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
                    .expect("invariant: one number for each block"),
            )
        })
        .collect()
}

/// Momentum and factor of each norm's mean, and of its variance, which is kept unbiased. Norms that
/// are frozen do not move.
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
        let numbers = norms.entries().iter().flat_map(row).collect();
        Tensor::new(Shape::new(1, 1, norms.entries().len(), 4), numbers)
            .expect("invariant: four numbers for each norm")
    };
    [table(&|_| 1.0), table(&|n| n / (n - 1.0))]
}
