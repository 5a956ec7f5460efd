//! Execution plans: the buffer of each value of a graph, and the order of the nodes. Plans are data
//! and need no device.
//!
//! [`Plan`] is for devices, [`HostPlan`] for the CPU executor.

mod host;
mod print;
mod slots;

pub use host::{HostMemory, HostPlan};

use crate::graph::{Graph, InPlace, ValueId};
use crate::ops::Packing;
use crate::ops::kernel::TensorLayout;
use crate::tensor::DType;
use slots::{Demand, Sharing};

/// Location of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Position of the buffer in [`Plan::slots`].
    pub slot: usize,
    /// Layout inside that buffer.
    pub layout: TensorLayout,
}

/// Buffers and order for one graph.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For each value of the graph its location; `None` for parameters, which have separate
    /// buffers, and for values in a store.
    pub places: Vec<Option<Placement>>,
    /// Bytes of each buffer, which values share over time.
    pub slots: Vec<u64>,
    /// Nodes to run, as positions in the graph. Concatenations whose inputs are already in place
    /// are omitted.
    pub steps: Vec<usize>,
    /// Bytes of all parameters in device layout.
    pub param_bytes: u64,
}

/// Live range of a value: the steps from its first write to its last read, inclusive. Step 0 is the
/// upload of the inputs; node i runs at step i + 1.
#[derive(Debug, Clone, Copy)]
struct LiveRange {
    first: usize,
    last: usize,
}

impl Plan {
    /// Creates the plan of a verified graph.
    pub fn new(graph: &Graph) -> Self {
        let roots = roots(graph);
        let root = |v: ValueId| roots[v.index()];
        let live_ranges = live_ranges(graph, root);
        let live: Vec<(ValueId, LiveRange)> =
            graph.value_ids().filter_map(|v| Some((v, live_ranges[v.index()]?))).collect();
        let demand = |&(v, LiveRange { first, last }): &(ValueId, LiveRange)| {
            let bytes = TensorLayout::bytes(graph.ty(v), Packing::Channels);
            Demand { bytes, first, last }
        };
        let Sharing { slot_of: slots_in_order, slots } =
            Sharing::new(&live.iter().map(demand).collect::<Vec<_>>());
        let mut slot_of: Vec<Option<usize>> = vec![None; graph.values().len()];
        for ((v, _), slot) in live.iter().zip(slots_in_order) {
            slot_of[v.index()] = Some(slot);
        }
        let mut plan = Plan {
            places: vec![None; graph.values().len()],
            slots,
            steps: Vec::new(),
            param_bytes: 0,
        };
        for v in graph.value_ids() {
            let ty = graph.ty(v);
            let mut layout = TensorLayout::contiguous(ty);
            if let Some(view) = graph.value(v).view {
                layout.pitch = graph.shape(view.root).c4() as u32;
                layout.offset = (view.channel / 4) as u32;
            }
            let slot = if is_external(graph, v) { None } else { slot_of[root(v).index()] };
            plan.places[v.index()] = slot.map(|slot| Placement { slot, layout });
        }
        plan.steps = (0..graph.nodes().len()).filter(|&i| !is_in_place(graph, i)).collect();
        plan.param_bytes = param_bytes(graph);
        plan
    }

    /// Returns the bytes of all shared buffers.
    pub fn activation_bytes(&self) -> u64 {
        self.slots.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }

    /// Returns the bytes of the largest buffer, which must not exceed an adapter's binding limit.
    pub fn largest(&self) -> u64 {
        self.slots.iter().copied().max().unwrap_or(0)
    }
}

/// Returns whether node `i` is a concatenation whose inputs are all in place.
fn is_in_place(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes()[i];
    !node.inputs.is_empty()
        && node
            .inputs
            .iter()
            .all(|&v| graph.value(v).view.is_some_and(|view| view.root == node.outputs[0]))
}

/// Returns whether a value is not one of the activations.
fn is_external(graph: &Graph, v: ValueId) -> bool {
    graph.is_param(v) || graph.value(v).resident.is_some()
}

/// Returns for each value the value whose buffer it is stored in: the root of its view, the input
/// that it overwrites, or itself.
fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut roots: Vec<ValueId> = graph.value_ids().collect();
    for node in graph.nodes() {
        for &InPlace { input, output } in node.op.in_place() {
            roots[node.outputs[output].index()] = roots[node.inputs[input].index()];
        }
    }
    for v in graph.value_ids() {
        if let Some(view) = graph.value(v).view {
            roots[v.index()] = view.root;
        }
    }
    roots
}

/// Returns the live range of each value with its own buffer (inputs and outputs of nodes, but
/// neither views nor parameters).
fn live_ranges(graph: &Graph, root: impl Fn(ValueId) -> ValueId) -> Vec<Option<LiveRange>> {
    let mut live_ranges: Vec<Option<LiveRange>> = vec![None; graph.values().len()];
    let mut touch = |v: ValueId, step: usize| {
        if is_external(graph, v) {
            return;
        }
        let range =
            live_ranges[root(v).index()].get_or_insert(LiveRange { first: step, last: step });
        range.first = range.first.min(step);
        range.last = range.last.max(step);
    };
    for (_, v) in graph.inputs() {
        touch(v, 0);
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        for &v in node.inputs.iter().chain(&node.outputs) {
            touch(v, i + 1);
        }
    }
    for &(_, v) in graph.outputs() {
        touch(v, usize::MAX);
    }
    live_ranges
}

fn param_bytes(graph: &Graph) -> u64 {
    let mut bytes = 0;
    let mut counted = vec![false; graph.values().len()];
    for node in graph.nodes() {
        for (index, &v) in node.inputs.iter().enumerate() {
            if graph.is_param(v)
                && graph.value(v).resident.is_none()
                && !std::mem::replace(&mut counted[v.index()], true)
            {
                debug_assert!(graph.ty(v).dtype == DType::F32);
                bytes += TensorLayout::bytes(graph.ty(v), node.op.packing(index));
            }
        }
    }
    bytes
}
