//! The CPU executor: runs the nodes in order with the operations' CPU functions.

use super::memory_check;
use super::store::Store;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::memory::{self, Reservation};
use crate::plan::HostPlan;
use crate::tensor::{DType, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use web_time::Instant;

pub(super) struct CpuRunner {
    graph: Arc<Graph>,
    store: Arc<Store>,
    plan: HostPlan,
    /// Free allocations of the plan. Reusing them avoids page faults, which would take longer than
    /// some nodes.
    free: Mutex<Vec<Option<Vec<f32>>>>,
    /// For each node the values that nothing reads after it.
    last_read: Vec<Vec<ValueId>>,
    /// Memory reserved for the plan, the outputs and the operations.
    reserved: Reservation,
}

impl CpuRunner {
    /// Creates a runner.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory for runs.
    pub(super) fn new(graph: Arc<Graph>, store: Arc<Store>) -> Result<Self> {
        let mut last = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            for v in node.inputs.iter().chain(&node.outputs) {
                last[v.index()] = Some(i);
            }
        }
        for (_, v) in graph.outputs() {
            last[v.index()] = None;
        }
        let mut last_read = vec![Vec::new(); graph.nodes().len()];
        for v in graph.value_ids() {
            if let Some(i) = last[v.index()] {
                last_read[i].push(v);
            }
        }
        let plan = HostPlan::new(&graph);
        let reserved = memory_check::reserve(&graph, &plan)?;
        let free = Mutex::new(vec![None; plan.slots.len()]);
        Ok(Self { graph, store, plan, free, last_read, reserved })
    }

    /// Runs once. `done` is called after each node with its index, duration and outputs, and may
    /// abort the run with an error.
    pub(super) fn run(
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
                self.store.save(graph, *v, &tensor)?;
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
        for &(_, v) in graph.outputs().iter().filter(|&&(_, v)| is_resident(v)) {
            self.load(v, &mut computed)?;
        }
        let mut output = |(i, &(_, v)): (usize, &(String, ValueId))| {
            // A value may be returned under several names.
            let returned_again = graph.outputs()[i + 1..].iter().any(|&(_, other)| other == v);
            let slot = &mut computed[v.index()];
            let tensor = if returned_again { slot.clone() } else { slot.take() };
            match tensor.map(Arc::try_unwrap) {
                Some(Ok(tensor)) => Ok(tensor),
                Some(Err(shared)) => shared.try_clone(),
                None => external[v.index()].expect("invariant: outputs are kept").try_clone(),
            }
        };
        let outputs = graph.outputs().iter().enumerate().map(&mut output).collect();
        self.reserved.mark_used();
        outputs
    }

    /// Loads a value from the store if it is not loaded yet.
    fn load(&self, v: ValueId, computed: &mut [Option<Arc<Tensor>>]) -> Result<()> {
        if computed[v.index()].is_none() {
            let memory = || Ok(self.memory(v)?.unwrap_or_default());
            computed[v.index()] = Some(self.store.load(&self.graph, v, memory)?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Device, Store};
    use crate::graph::Resident;
    use crate::ops::{Accumulate, Activation, Packing};
    use crate::tensor::{Shape, TensorType};

    #[test]
    fn memory_does_not_grow_with_each_run_that_loads_from_a_store() {
        let mut store = Store::new(&Device::Cpu);
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
        let runner = CpuRunner::new(Arc::new(graph), Arc::new(store)).unwrap();
        let free_bytes = || {
            runner.run(&[], |_, _, _| Ok(())).unwrap();
            runner.free().iter().flatten().map(|memory| 4 * memory.capacity() as u64).sum::<u64>()
        };
        let planned = runner.plan.bytes();
        assert_eq!(planned, 2 * 4 * 64, "the loaded value and the node's");
        assert!((0..5).all(|_| free_bytes() == planned), "free memory differs from the plan");
    }

    #[test]
    fn a_value_that_is_all_of_a_buffer_is_shared_and_what_was_handed_out_stays_as_it_is() {
        let mut store = Store::new(&Device::Cpu);
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
        let store = Arc::new(store);
        let runner = CpuRunner::new(Arc::new(graph), Arc::clone(&store)).unwrap();
        let all = |x: f32, shape| Tensor::new(shape, vec![x; shape.len()]).unwrap();
        let (g, keep) = (all(2.0, Shape::vector(64)), all(1.0, Shape::vector(4)));
        let first = runner.run(&[&g, &keep], |_, _, _| Ok(())).unwrap();
        let second = runner.run(&[&g, &keep], |_, _, _| Ok(())).unwrap();
        assert_eq!([&first[0], &second[0]].map(|tensor| tensor.f32()[63]), [3.0, 5.0]);
        assert_eq!(store.read("sums").unwrap(), [5.0; 64]);
    }
}
