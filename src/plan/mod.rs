//! A plan: which buffer each value of a graph lies in, and in which order the nodes run. Data only;
//! no device is needed.
//!
//! [`Plan`] is that of a device, [`HostPlan`] that of the CPU executor.

mod host;
mod print;
mod slots;

pub use host::{HostNeed, HostPlan};

use crate::graph::{Graph, ValueId};
use crate::ops::Packing;
use crate::ops::kernel::TensorLayout;
use crate::tensor::DType;
use slots::{Demand, Sharing};

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Position in [`Plan::slots`].
    pub slot: usize,
    /// Layout inside that buffer.
    pub layout: TensorLayout,
}

/// Buffers and order for one graph.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For each value of the graph its place; `None` for parameters, which have buffers of their
    /// own, and for what lies in a store.
    pub places: Vec<Option<Placement>>,
    /// Bytes of each buffer that values share one after the other.
    pub slots: Vec<u64>,
    /// Nodes to run, as positions in the graph. Concatenations whose inputs already lie in place
    /// are left out.
    pub steps: Vec<usize>,
    /// Bytes of all parameters in device layout.
    pub param_bytes: u64,
}

/// Steps from the first write of a buffer's content to its last read, inclusive. Step 0 is the
/// upload of the inputs; node i runs at step i + 1.
#[derive(Debug, Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

impl Plan {
    /// Plans a verified graph.
    pub fn new(graph: &Graph) -> Self {
        let roots = roots(graph);
        let root = |v: ValueId| roots[v.index()];
        let lives = lives(graph, root);
        let living: Vec<(ValueId, Life)> =
            graph.value_ids().filter_map(|v| Some((v, lives[v.index()]?))).collect();
        let demand = |&(v, Life { first, last }): &(ValueId, Life)| {
            let bytes = TensorLayout::bytes(graph.ty(v), Packing::Channels);
            Demand { bytes, first, last }
        };
        let Sharing { slot_of: slots_in_order, slots } =
            Sharing::new(&living.iter().map(demand).collect::<Vec<_>>());
        let mut slot_of: Vec<Option<usize>> = vec![None; graph.values().len()];
        for ((v, _), slot) in living.iter().zip(slots_in_order) {
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
            let slot = if is_apart(graph, v) { None } else { slot_of[root(v).index()] };
            plan.places[v.index()] = slot.map(|slot| Placement { slot, layout });
        }
        plan.steps = (0..graph.nodes().len()).filter(|&i| !is_in_place(graph, i)).collect();
        plan.param_bytes = param_bytes(graph);
        plan
    }

    /// Bytes of all shared buffers.
    pub fn activation_bytes(&self) -> u64 {
        self.slots.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }

    /// The largest buffer, which decides whether an adapter's binding limit is kept.
    pub fn largest(&self) -> u64 {
        self.slots.iter().copied().max().unwrap_or(0)
    }
}

/// Whether node `i` is a concatenation with nothing left to do.
fn is_in_place(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes()[i];
    !node.inputs.is_empty()
        && node
            .inputs
            .iter()
            .all(|&v| graph.value(v).view.is_some_and(|view| view.root == node.outputs[0]))
}

/// Whether a value has no place among the activations.
fn is_apart(graph: &Graph, v: ValueId) -> bool {
    graph.is_param(v) || graph.value(v).resident.is_some()
}

/// For each value the one whose buffer it lies in: its view's, that of the input which it
/// overwrites, or its own.
fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut roots: Vec<ValueId> = graph.value_ids().collect();
    for node in graph.nodes() {
        for &(input, output) in node.op.in_place() {
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

/// For each value that has a buffer of its own (inputs and what nodes compute, but no views and no
/// parameters): its life.
fn lives(graph: &Graph, root: impl Fn(ValueId) -> ValueId) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; graph.values().len()];
    let mut touch = |v: ValueId, step: usize| {
        if is_apart(graph, v) {
            return;
        }
        let life = lives[root(v).index()].get_or_insert(Life { first: step, last: step });
        life.first = life.first.min(step);
        life.last = life.last.max(step);
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
    lives
}

fn param_bytes(graph: &Graph) -> u64 {
    let mut bytes = 0;
    let mut seen = vec![false; graph.values().len()];
    for node in graph.nodes() {
        for (index, &v) in node.inputs.iter().enumerate() {
            if graph.is_param(v)
                && graph.value(v).resident.is_none()
                && !std::mem::replace(&mut seen[v.index()], true)
            {
                debug_assert!(graph.ty(v).dtype == DType::F32);
                bytes += TensorLayout::bytes(graph.ty(v), node.op.packing(index));
            }
        }
    }
    bytes
}
