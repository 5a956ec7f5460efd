//! Runs on the CPU: the nodes in order, each with its operation's CPU function.

use super::buffer::HostBuffer;
use crate::error::{Result, error};
use crate::exec::backend::Program;
use crate::exec::store::Residents;
use crate::graph::{Graph, ValueId};
use crate::memory::{self, Reservation};
use crate::plan::HostPlan;
use crate::tensor::{DType, Tensor};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// A graph prepared for the CPU.
pub(in crate::engine::exec) struct HostProgram {
    graph: Arc<Graph>,
    residents: Residents<HostBuffer>,
    plan: HostPlan,
    /// Free allocations of the plan. Reusing them avoids page faults, which would take longer than
    /// some nodes.
    free: Mutex<Vec<Option<Vec<f32>>>>,
    /// For each node the values that nothing reads after it.
    last_read: Vec<Vec<ValueId>>,
    /// Memory reserved for the plan, the outputs and the operations.
    reserved: Reservation,
}

impl Program for HostProgram {
    type Input<'t> = &'t Tensor;
    type Output = Tensor;

    fn kernels(&self) -> Vec<(usize, &str)> {
        Vec::new()
    }

    fn prepare_readback(&self) -> Result<()> {
        Ok(())
    }

    async fn run(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<Tensor>> {
        self.run_nodes(inputs, |_, _, _| Ok(()))
    }

    async fn produce(&self, inputs: &[Self::Input<'_>]) -> Result<Vec<Tensor>> {
        self.run_nodes(inputs, |_, _, _| Ok(()))
    }

    fn enqueue(&self, inputs: &[&Tensor]) -> Result<()> {
        self.run_nodes(inputs, |_, _, _| Ok(())).map(drop)
    }

    /// A run is one piece: there is no queue that others wait for.
    fn time_pieces(&self, inputs: &[&Tensor]) -> Result<Vec<Duration>> {
        let times = self.time_nodes(inputs)?;
        Ok(vec![times.into_iter().map(|(_, time)| time).sum()])
    }

    fn run_pieces(&self, inputs: &[&Tensor], groups: &[Range<usize>]) -> Result<()> {
        if groups.last().map(|group| group.end) != Some(1) {
            return Err(error!(Usage, "the slices belong to another graph"));
        }
        self.enqueue(inputs)
    }

    fn time_nodes(&self, inputs: &[&Tensor]) -> Result<Vec<(usize, Duration)>> {
        let mut times = Vec::with_capacity(self.graph.nodes().len());
        self.run_nodes(inputs, |node, time, _| {
            times.push((node, time));
            Ok(())
        })?;
        Ok(times)
    }
}

impl HostProgram {
    /// Creates the program of a verified graph.
    pub(super) fn new(
        graph: Arc<Graph>,
        residents: Residents<HostBuffer>,
        plan: HostPlan,
        reserved: Reservation,
    ) -> Self {
        let free = Mutex::new(vec![None; plan.slots.len()]);
        let last_read = last_reads(&graph);
        Self { graph, residents, plan, free, last_read, reserved }
    }

    /// Runs once. `done` is called after each node with its index, duration and outputs, and may
    /// abort the run with an error.
    pub(super) fn run_nodes(
        &self,
        inputs: &[&Tensor],
        mut done: impl FnMut(usize, Duration, &[Tensor]) -> Result<()>,
    ) -> Result<Vec<Tensor>> {
        let graph = &self.graph;
        let mut external: Vec<Option<&Tensor>> =
            graph.value_ids().map(|v| graph.param_data(v).map(|p| p.tensor())).collect();
        let is_resident = |v: ValueId| graph.value(v).resident.is_some();
        for ((_, v), tensor) in graph.inputs().filter(|&(_, v)| !is_resident(v)).zip(inputs) {
            external[v.index()] = Some(tensor);
        }
        let mut computed: Vec<Option<Arc<Tensor>>> = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            let start = Instant::now();
            for &v in node.inputs.iter().filter(|&&v| is_resident(v)) {
                self.load(v, &mut computed)?;
            }
            let address = || format!("node `{}` ({})", node.name, node.op.name());
            let outputs = node.outputs.iter().map(|&v| self.output(v)).collect::<Result<_>>();
            let mut outputs: Vec<Tensor> = outputs.map_err(|e| e.at(address()))?;
            let operands: Vec<&Tensor> = node
                .inputs
                .iter()
                .map(|v| {
                    external[v.index()]
                        .or(computed[v.index()].as_deref())
                        .expect("invariant: a verified graph runs in order")
                })
                .collect();
            node.op.cpu(&operands, &mut outputs).map_err(|e| e.at(address()))?;
            done(i, start.elapsed(), &outputs)?;
            for (v, tensor) in node.outputs.iter().zip(outputs) {
                let tensor = Arc::new(tensor);
                if let Some((buffer, resident)) = self.residents.get(graph, *v) {
                    buffer.save(resident, &tensor)?;
                }
                computed[v.index()] = Some(tensor);
            }
            for &v in &self.last_read[i] {
                // Values in the store stay there.
                if let Some(memory) = computed[v.index()]
                    .take()
                    .and_then(Arc::into_inner)
                    .and_then(Tensor::into_buffer)
                {
                    self.release(v, memory);
                }
            }
        }
        let outputs = self.outputs(&external, computed);
        self.reserved.mark_used();
        outputs
    }

    /// Returns the outputs of a run from its inputs and parameters and the values that it computed.
    fn outputs(
        &self,
        external: &[Option<&Tensor>],
        mut computed: Vec<Option<Arc<Tensor>>>,
    ) -> Result<Vec<Tensor>> {
        let outputs = self.graph.outputs();
        for &(_, v) in outputs {
            if self.graph.value(v).resident.is_some() {
                self.load(v, &mut computed)?;
            }
        }
        let mut output = |(i, &(_, v)): (usize, &(String, ValueId))| {
            // A value may be returned under several names.
            let returned_again = outputs[i + 1..].iter().any(|&(_, other)| other == v);
            let slot = &mut computed[v.index()];
            let tensor = if returned_again { slot.clone() } else { slot.take() };
            match tensor.map(Arc::try_unwrap) {
                Some(Ok(tensor)) => Ok(tensor),
                Some(Err(shared)) => shared.try_clone(),
                None => external[v.index()].expect("invariant: outputs are kept").try_clone(),
            }
        };
        outputs.iter().enumerate().map(&mut output).collect()
    }

    /// Loads a value from the store if it is not loaded yet.
    fn load(&self, v: ValueId, computed: &mut [Option<Arc<Tensor>>]) -> Result<()> {
        if let (None, Some((buffer, resident))) =
            (&computed[v.index()], self.residents.get(&self.graph, v))
        {
            let memory = || Ok(self.memory(v)?.unwrap_or_default());
            computed[v.index()] = Some(buffer.load(self.graph.ty(v), resident, memory)?);
        }
        Ok(())
    }

    fn free(&self) -> MutexGuard<'_, Vec<Option<Vec<f32>>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a tensor for a node to write. Its contents are unspecified (see `Op::cpu`).
    fn output(&self, v: ValueId) -> Result<Tensor> {
        let ty = self.graph.ty(v);
        let mut tensor = match self.memory(v)? {
            Some(memory) => Tensor::from_buffer(ty.shape, memory),
            None => Tensor::try_zeros(ty)?,
        };
        if cfg!(debug_assertions) && ty.dtype == DType::F32 {
            // Make sure that no operation relies on the previous contents.
            tensor.f32_mut().fill(f32::NAN);
        }
        Ok(tensor)
    }

    /// Returns the allocation that the plan assigns to a value, with unspecified contents. It is
    /// new if no run has released one, or if another run is using it.
    fn memory(&self, v: ValueId) -> Result<Option<Vec<f32>>> {
        let Some(slot) = self.plan.slot_of[v.index()] else { return Ok(None) };
        let free = self.free()[slot].take();
        // Zeros cost nothing until they are written: the system maps zero pages.
        free.map_or_else(|| memory::zeros((self.plan.slots[slot] / 4) as usize), Ok).map(Some)
    }

    /// Keeps a value's allocation for the next value in the same slot, unless one is kept already:
    /// so runs never retain more than the plan.
    fn release(&self, v: ValueId, memory: Vec<f32>) {
        if let Some(slot) = self.plan.slot_of[v.index()] {
            self.free()[slot].get_or_insert(memory);
        }
    }
}

/// Returns for each node the values that nothing reads after it.
fn last_reads(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut last = vec![None; graph.values().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        for v in node.inputs.iter().chain(&node.outputs) {
            last[v.index()] = Some(i);
        }
    }
    for (_, v) in graph.outputs() {
        last[v.index()] = None;
    }
    let mut last_reads = vec![Vec::new(); graph.nodes().len()];
    for v in graph.value_ids() {
        if let Some(i) = last[v.index()] {
            last_reads[i].push(v);
        }
    }
    last_reads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::cpu::Host;
    use crate::exec::selector::FirstKernel;
    use crate::exec::store::Buffers;
    use crate::graph::Resident;
    use crate::ops::{Accumulate, Activation, Packing};
    use crate::tensor::{Shape, TensorType};

    #[test]
    fn memory_does_not_grow_with_each_run_that_loads_from_a_store() {
        let mut store = Buffers::new(Host);
        store.add("parameters", 64).unwrap();
        let mut graph = Graph::new();
        let kept = graph.input("kept", TensorType::f32(Shape::new(1, 4, 4, 4)));
        graph.set_resident(
            kept,
            Resident { buffer: "parameters".into(), first: 0, packing: Packing::Channels },
        );
        let mut root = graph.root();
        let a = root.activate("a", Activation::Relu, kept).unwrap();
        let b = root.add("b", a, kept).unwrap();
        graph.output("b", b);
        let runner = store.prepare(&Arc::new(graph), &mut FirstKernel).unwrap();
        let free_bytes = || {
            runner.run_nodes(&[], |_, _, _| Ok(())).unwrap();
            runner.free().iter().flatten().map(|memory| 4 * memory.capacity() as u64).sum::<u64>()
        };
        let planned = runner.plan.bytes();
        assert_eq!(planned, 2 * 4 * 64, "the loaded value and the node's");
        assert!((0..5).all(|_| free_bytes() == planned), "free memory differs from the plan");
    }

    #[test]
    fn a_value_that_is_all_of_a_buffer_is_shared_and_what_was_handed_out_stays_as_it_is() {
        let mut store = Buffers::new(Host);
        store.add("sums", 64).unwrap();
        store.write("sums", &[1.0; 64]).unwrap();
        let mut graph = Graph::new();
        let place = Resident { buffer: "sums".into(), first: 0, packing: Packing::Channels };
        let [sum, g] =
            ["sum", "g"].map(|name| graph.input(name, TensorType::f32(Shape::vector(64))));
        let keep = graph.input("keep", TensorType::f32(Shape::vector(4)));
        graph.set_resident(sum, place.clone());
        let new = graph.push("add", Arc::new(Accumulate), &[sum, g, keep]).unwrap()[0];
        graph.set_resident(new, place);
        graph.output("after", new);
        graph.verify().unwrap();
        let runner = store.prepare(&Arc::new(graph), &mut FirstKernel).unwrap();
        let all = |x: f32, shape| Tensor::new(shape, vec![x; shape.len()]).unwrap();
        let (g, keep) = (all(2.0, Shape::vector(64)), all(1.0, Shape::vector(4)));
        let first = runner.run_nodes(&[&g, &keep], |_, _, _| Ok(())).unwrap();
        let second = runner.run_nodes(&[&g, &keep], |_, _, _| Ok(())).unwrap();
        assert_eq!([&first[0], &second[0]].map(|tensor| tensor.f32()[63]), [3.0, 5.0]);
        assert_eq!(store.read("sums").unwrap(), [5.0; 64]);
    }
}
