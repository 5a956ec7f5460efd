//! The plan of the CPU executor, which stores values as dense tensors, each in a separate
//! allocation while it is live.

use super::slots::{Demand, Sharing};
use crate::graph::{Graph, InPlace, Node, ValueId};
use crate::ops::bytes;
use crate::tensor::DType;

/// Assignment of the values of a graph to allocations on the CPU.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// For each value the position of its allocation in [`HostPlan::slots`]. `None` for inputs,
    /// outputs and integers.
    pub slot_of: Vec<Option<usize>>,
    /// Bytes of each allocation, which values share over time.
    pub slots: Vec<u64>,
}

impl HostPlan {
    /// Creates the plan of a verified graph.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn new(graph: &Graph) -> Self {
        let is_resident = |v: ValueId| graph.value(v).resident.is_some();
        let mut has_memory: Vec<bool> = graph.values().iter().map(|_| false).collect();
        for node in graph.nodes() {
            for &v in node.inputs.iter().filter(|&&v| is_resident(v)).chain(&node.outputs) {
                has_memory[v.index()] = graph.ty(v).dtype == DType::F32;
            }
        }
        graph.outputs().iter().for_each(|&(_, v)| has_memory[v.index()] = false);
        // A value in a store belongs to the store until a node replaces it, and its memory is
        // reused by the next run.
        let mut replaced_by = vec![None; graph.values().len()];
        for node in graph.nodes() {
            for &InPlace { input, output } in node.op.in_place() {
                let (old, new) = (node.inputs[input], node.outputs[output]);
                if is_resident(old) && has_memory[old.index()] {
                    has_memory[old.index()] = false;
                    replaced_by[old.index()] = Some(new);
                }
            }
        }

        let mut lives: Vec<Option<(usize, usize)>> = vec![None; graph.values().len()];
        for (step, node) in graph.nodes().iter().enumerate() {
            for &v in node.inputs.iter().chain(&node.outputs).filter(|v| has_memory[v.index()]) {
                lives[v.index()].get_or_insert((step, step)).1 = step;
            }
        }
        let live: Vec<ValueId> = graph.value_ids().filter(|v| lives[v.index()].is_some()).collect();
        let demand = |v: &ValueId| {
            let (first, last) = lives[v.index()].expect("invariant: the value is live");
            Demand { bytes: (graph.shape(*v).len() as u64).saturating_mul(4), first, last }
        };
        let sharing = Sharing::new(&live.iter().map(demand).collect::<Vec<_>>());
        let mut slot_of = vec![None; graph.values().len()];
        for (v, slot) in live.iter().zip(sharing.slot_of) {
            slot_of[v.index()] = Some(slot);
        }
        for v in graph.value_ids() {
            if let Some(new) = replaced_by[v.index()] {
                slot_of[v.index()] = slot_of[new.index()];
            }
        }
        Self { slot_of, slots: sharing.slots }
    }

    /// Returns the bytes of all allocations.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }
}

/// Main memory that runs of a graph need on the CPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// Intermediate values: [`HostPlan::bytes`], and integers.
    pub values: u64,
    /// The outputs.
    pub outputs: u64,
    /// The inputs, which the caller allocates.
    pub inputs: u64,
    /// Scratch memory of operations: the maximum over all nodes.
    pub scratch: u64,
}

impl HostMemory {
    /// Computes the memory of a verified graph with its plan, on `threads` threads.
    pub fn new(graph: &Graph, plan: &HostPlan, threads: usize) -> Self {
        let is_resident = |v: ValueId| graph.value(v).resident.is_some();
        let size = |v: ValueId| bytes(&[graph.ty(v)]);
        let sum = |values: &mut dyn Iterator<Item = ValueId>| {
            values.map(size).fold(0, u64::saturating_add)
        };
        // Integers are not part of the plan: each has a separate allocation from its node to its
        // last reader.
        let is_output = |v: ValueId| graph.outputs().iter().any(|&(_, output)| output == v);
        let computed = graph.nodes().iter().flat_map(|node| &node.outputs).copied();
        let integers =
            sum(&mut computed.filter(|&v| graph.ty(v).dtype != DType::F32 && !is_output(v)));
        let types = |ids: &[ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
        let scratch =
            |node: &Node| node.op.cpu_scratch(&types(&node.inputs), &types(&node.outputs), threads);
        Self {
            values: plan.bytes().saturating_add(integers),
            // A value that is returned under several names is copied.
            outputs: sum(&mut graph.outputs().iter().map(|&(_, v)| v)),
            inputs: sum(&mut graph.inputs().map(|(_, v)| v).filter(|&v| !is_resident(v))),
            scratch: graph.nodes().iter().map(scratch).max().unwrap_or(0),
        }
    }

    /// Returns the bytes that a runner retains from its first run on.
    pub fn retained(&self) -> u64 {
        self.values.saturating_add(self.outputs).saturating_add(self.scratch)
    }

    /// Returns the total, including the inputs.
    pub fn total(&self) -> u64 {
        self.retained().saturating_add(self.inputs)
    }
}
