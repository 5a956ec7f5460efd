//! Prepared graphs whose outputs are returned to the caller.

use super::backend::Program;
use super::cpu::HostProgram;
use super::device::Device;
use super::gpu::{Feed, GpuProgram};
use super::selector::{FirstKernel, KernelSelector};
use super::store::{AnyBuffers, Store};
use super::value::{self, Input};
use crate::error::{Result, error};
use crate::graph::{Graph, ValueId};
use crate::plan::Plan;
use crate::tensor::{Tensor, TensorType};
use crate::thread::block_on;
use std::sync::Arc;

/// A graph prepared for a device. It can run any number of times; runs of one runner execute one
/// after another.
pub struct Runner {
    pub(super) graph: Arc<Graph>,
    pub(super) program: AnyProgram,
}

/// A prepared graph, by where it runs.
pub(super) enum AnyProgram {
    Cpu(HostProgram),
    Gpu(Box<GpuProgram>),
}

/// Evaluates an expression with a program, wherever it runs.
macro_rules! with_program {
    ($any:expr, $program:ident => $value:expr) => {
        match $any {
            AnyProgram::Cpu($program) => $value,
            AnyProgram::Gpu($program) => $value,
        }
    };
}
pub(super) use with_program;

impl Runner {
    /// Prepares a graph with the kernels that the operations expect to be fastest.
    ///
    /// # Errors
    /// Returns an error if the graph is invalid, if parameters have no data, or if there is not
    /// enough memory on the device or in main memory (see [`memory`](crate::memory)).
    pub fn new(device: &Device, graph: Graph) -> Result<Self> {
        Self::with_kernels(device, graph, &mut FirstKernel)
    }

    /// Prepares a graph with the kernels that `selector` chooses.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::new`], and those of `selector`.
    pub fn with_kernels(
        device: &Device,
        graph: Graph,
        selector: &mut dyn KernelSelector,
    ) -> Result<Self> {
        Self::with_store(&Store::new(device), graph, selector)
    }

    /// Prepares a graph on the store's device. [Resident](Graph::set_resident) values are located
    /// in this store, and are not passed to runs.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::with_kernels`], and an error if the store does not
    /// match the graph.
    pub fn with_store(
        store: &Store,
        graph: Graph,
        selector: &mut dyn KernelSelector,
    ) -> Result<Self> {
        let (graph, program) = prepare(store, graph, selector)?;
        with_program!(&program, program => program.prepare_readback())?;
        Ok(Self { graph, program })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns whether the CPU executor runs the graph.
    pub fn is_on_cpu(&self) -> bool {
        matches!(self.program, AnyProgram::Cpu(_))
    }

    /// Returns the plan of the buffers.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.graph)
    }

    /// Returns pairs of node name and kernel label; empty on the CPU.
    pub fn kernels(&self) -> Vec<(String, String)> {
        let kernels = with_program!(&self.program, program => program.kernels());
        let name = |node: usize| self.graph.nodes()[node].name.clone();
        kernels.into_iter().map(|(node, kernel)| (name(node), kernel.to_owned())).collect()
    }

    /// Runs once. `inputs` are the graph's inputs by name. Returns the graph's outputs in order.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has the wrong type, or if the device fails.
    /// Always returns an error on a device in a browser, which cannot block: use
    /// [`Runner::run_async`].
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        block_on(self.run_async(inputs))
    }

    /// Like [`Runner::run`], for browsers, where a device delivers results only after the caller
    /// has yielded the page's single thread. Elsewhere the first poll blocks until the device is
    /// done.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has the wrong type, or if the device fails.
    pub async fn run_async(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let inputs = self.ordered(inputs)?;
        match &self.program {
            AnyProgram::Cpu(program) => program.run(&inputs).await,
            AnyProgram::Gpu(program) => {
                program.run(&inputs.into_iter().map(Feed::Host).collect::<Vec<_>>()).await
            }
        }
    }

    /// Like [`Runner::run_async`], with inputs that other graphs may have computed. A value on the
    /// runner's device is not read back.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run_async`].
    pub async fn run_values(&self, inputs: &[(&str, Input<'_>)]) -> Result<Vec<Tensor>> {
        let inputs = ordered(&self.graph, inputs, Input::ty)?;
        match &self.program {
            AnyProgram::Cpu(program) => {
                let inputs = value::on_host(&inputs).await?;
                program.run(&inputs.iter().map(Into::into).collect::<Vec<_>>()).await
            }
            AnyProgram::Gpu(program) => {
                let inputs = value::on_device(program.gpu(), &inputs).await?;
                program.run(&inputs.iter().map(Into::into).collect::<Vec<_>>()).await
            }
        }
    }

    /// Runs once without returning outputs: results are the values in a store. On a device this
    /// does not wait; later work on the same device runs after it. On the CPU the run is complete
    /// when this returns.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`]. Later failures on a device are returned by the
    /// next call.
    pub fn enqueue(&self, inputs: &[(&str, &Tensor)]) -> Result<()> {
        let inputs = self.ordered(inputs)?;
        with_program!(&self.program, program => program.enqueue(&inputs))
    }

    /// Returns the tensors in the graph's order of inputs.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has another type.
    pub(super) fn ordered<'t>(&self, inputs: &[(&str, &'t Tensor)]) -> Result<Vec<&'t Tensor>> {
        ordered(&self.graph, inputs, |tensor| tensor.ty())
    }
}

/// Checks a graph, and prepares it on the store's device.
///
/// # Errors
/// Returns the errors of [`check`], and an error if the graph does not match the store or if there
/// is not enough memory.
pub(super) fn prepare(
    store: &Store,
    graph: Graph,
    selector: &mut dyn KernelSelector,
) -> Result<(Arc<Graph>, AnyProgram)> {
    check(&graph)?;
    let graph = Arc::new(graph);
    let program = match &store.0 {
        AnyBuffers::Cpu(buffers) => AnyProgram::Cpu(buffers.prepare(&graph, selector)?),
        AnyBuffers::Gpu(buffers) => AnyProgram::Gpu(Box::new(buffers.prepare(&graph, selector)?)),
    };
    Ok((graph, program))
}

/// Checks that a graph can be prepared.
///
/// # Errors
/// Returns an error if the graph is invalid, if parameters have no data, or if an output is a
/// parameter.
pub(super) fn check(graph: &Graph) -> Result<()> {
    graph.verify()?;
    let is_resident = |v: ValueId| graph.value(v).resident.is_some();
    if let Some((info, _)) =
        graph.params().find(|&(_, v)| graph.param_data(v).is_none() && !is_resident(v))
    {
        return Err(error!(Weights, "parameter `{}` has no data", info.name)
            .advice("bind weights before running"));
    }
    if let Some((name, _)) = graph.outputs().iter().find(|(_, v)| graph.is_param(*v)) {
        return Err(error!(Graph, "output `{name}` is a parameter, not a computed value"));
    }
    Ok(())
}

/// Returns inputs in the graph's order; `ty` returns the type of one.
///
/// # Errors
/// Returns an error if an input is missing or has another type.
pub(super) fn ordered<I: Copy>(
    graph: &Graph,
    inputs: &[(&str, I)],
    ty: impl Fn(I) -> TensorType,
) -> Result<Vec<I>> {
    let find = |(name, v): (&str, ValueId)| {
        let at = || format!("input `{name}`");
        let Some(&(_, input)) = inputs.iter().find(|(n, _)| *n == name) else {
            return Err(error!(Usage, "is missing").at(at()));
        };
        let (want, got) = (graph.ty(v), ty(input));
        if got != want {
            return Err(error!(
                Usage,
                "expected {:?} {}, got {:?} {}", want.dtype, want.shape, got.dtype, got.shape
            )
            .at(at()));
        }
        Ok(input)
    };
    graph.inputs().filter(|&(_, v)| graph.value(v).resident.is_none()).map(find).collect()
}
