//! The CPU executor.

mod buffer;
mod program;

pub(super) use program::HostProgram;

use super::backend::Backend;
use super::memory_check;
use super::runner::{check, ordered};
use super::selector::{FirstKernel, KernelSelector};
use super::store::{Buffers, Residents, Store};
use crate::error::Result;
use crate::graph::Graph;
use crate::memory;
use crate::plan::HostPlan;
use crate::tensor::{Elements, Tensor};
use buffer::HostBuffer;
use std::sync::Arc;

/// Main memory and the operations' CPU functions.
#[derive(Clone, Copy)]
pub(super) struct Host;

impl Backend for Host {
    type Buffer = HostBuffer;
    type Program = HostProgram;

    fn alloc(&self, name: &str, elements: usize) -> Result<HostBuffer> {
        let allocate = || {
            memory::check((elements as u64).saturating_mul(4), "it")?;
            HostBuffer::new(elements)
        };
        allocate().map_err(|e| e.at(format!("buffer `{name}`")))
    }

    fn read(&self, buffer: &HostBuffer, _elements: usize) -> Result<Vec<f32>> {
        memory::copy(buffer.tensor().f32())
    }

    fn write(&self, buffer: &HostBuffer, elements: &[f32]) {
        buffer.write(elements);
    }

    fn prepare(
        &self,
        graph: &Arc<Graph>,
        residents: Residents<HostBuffer>,
        _selector: &mut dyn KernelSelector,
    ) -> Result<HostProgram> {
        let plan = HostPlan::new(graph);
        let reserved = memory_check::reserve(graph, &plan)?;
        Ok(HostProgram::new(graph.clone(), residents, plan, reserved))
    }

    fn activation_bytes(&self, graph: &Graph) -> u64 {
        HostPlan::new(graph).bytes()
    }

    fn max_buffer_bytes(&self) -> Option<u64> {
        None
    }
}

/// Runs a graph once on the CPU executor and returns the name of the first node that computes an
/// infinity or NaN. Resident values are those of a copy of `store`, which does not change.
///
/// # Errors
/// Returns the same errors as [`Runner::with_store`](super::Runner::with_store) and
/// [`Runner::run`](super::Runner::run).
pub fn first_not_finite(
    graph: &Graph,
    store: &Store,
    inputs: &[(&str, &Tensor)],
) -> Result<Option<String>> {
    let mut buffers = Buffers::new(Host);
    for name in store.names() {
        let elements = store.read(name)?;
        buffers.add(name, elements.len())?;
        buffers.write(name, &elements)?;
    }
    check(graph)?;
    let graph = Arc::new(graph.clone());
    let program = buffers.prepare(&graph, &mut FirstKernel)?;
    let inputs = ordered(&graph, inputs, |tensor| tensor.ty())?;
    let mut first = None;
    let search = |node: usize, _, outputs: &[Tensor]| {
        let is_finite = |tensor: &Tensor| match tensor.data() {
            Elements::F32(elements) => elements.iter().all(|x| x.is_finite()),
            _ => true,
        };
        if first.is_none() && !outputs.iter().all(is_finite) {
            first = Some(graph.nodes()[node].name.clone());
        }
        Ok(())
    };
    program.run_nodes(&inputs, search)?;
    Ok(first)
}
