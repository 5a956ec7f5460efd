//! Execution of graphs: on a device by dispatches, or on the CPU by the operations' CPU functions.

mod cpu;
mod gpu;
mod memory_check;
mod profile;
pub(crate) mod record;
mod slices;
mod store;

pub use profile::{NodeTime, Times};
pub use slices::Slices;
pub use store::Store;

use crate::error::{Result, error};
use crate::gpu::{DeviceChoice, Gpu, block_on_device};
use crate::graph::{Graph, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::plan::{HostPlan, Plan};
use crate::tensor::{Elements, Tensor};
use std::fmt;
use std::sync::Arc;

/// The device that a graph runs on.
#[derive(Clone)]
pub enum Device {
    /// The CPU executor.
    Cpu,
    /// A wgpu device.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// Opens the device that `choice` selects.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        Ok(Gpu::open(choice)?.map_or(Device::Cpu, Device::Gpu))
    }

    /// Returns whether this is the CPU executor.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Device::Cpu)
    }

    /// Returns the bytes of a graph's values on this device during a run, without parameters and
    /// values in a store.
    pub fn activation_bytes(&self, graph: &Graph) -> u64 {
        match self {
            Device::Cpu => HostPlan::new(graph).bytes(),
            Device::Gpu(_) => Plan::new(graph).activation_bytes(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => write!(f, "CPU executor ({} threads)", rayon::current_num_threads()),
            Device::Gpu(gpu) => write!(f, "{} ({})", gpu.summary().name, gpu.summary().backend),
        }
    }
}

/// Selects one of an operation's kernels.
pub trait KernelSelector {
    /// Announces the number of calls of [`KernelSelector::choose`] that follow, one per node of a
    /// graph.
    fn begin(&mut self, _calls: usize) {}

    /// Returns the position of the chosen kernel in `kernels`, which is not empty.
    fn choose(
        &mut self,
        op: &dyn crate::ops::Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize>;
}

/// Selects the kernel that the operation expects to be fastest.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstKernel;

impl KernelSelector for FirstKernel {
    fn choose(&mut self, _: &dyn crate::ops::Op, _: &KernelContext, _: &[Kernel]) -> Result<usize> {
        Ok(0)
    }
}

/// A graph prepared for a device. It can run any number of times; runs of one runner execute one
/// after another.
pub struct Runner {
    graph: Arc<Graph>,
    kind: Kind,
}

enum Kind {
    Cpu(cpu::CpuRunner),
    Gpu(Box<gpu::GpuRunner>),
}

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
        Self::with_store(&Arc::new(Store::new(device)), graph, selector)
    }

    /// Prepares a graph on the store's device. [Resident](Graph::set_resident) values are located
    /// in this store, and are not passed to runs.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::with_kernels`], and an error if the store does not
    /// match the graph.
    pub fn with_store(
        store: &Arc<Store>,
        graph: Graph,
        selector: &mut dyn KernelSelector,
    ) -> Result<Self> {
        graph.verify()?;
        store.check(&graph)?;
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
        let resident = graph.outputs().iter().find(|&&(_, v)| is_resident(v));
        if let Some((name, _)) = resident.filter(|_| matches!(store.device(), Device::Gpu(_))) {
            return Err(error!(Graph, "output `{name}` is in a store and stays on the device")
                .advice("read it with `Store::read`"));
        }
        let graph = Arc::new(graph);
        let kind = match store.device() {
            Device::Cpu => Kind::Cpu(cpu::CpuRunner::new(graph.clone(), store.clone())?),
            Device::Gpu(gpu) => {
                Kind::Gpu(Box::new(gpu::GpuRunner::new(gpu.clone(), &graph, store, selector)?))
            }
        };
        Ok(Self { graph, kind })
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the plan of the buffers.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.graph)
    }

    /// Returns pairs of node name and kernel label; empty on the CPU.
    pub fn kernels(&self) -> Vec<(String, String)> {
        match &self.kind {
            Kind::Cpu(_) => Vec::new(),
            Kind::Gpu(runner) => runner.kernels(&self.graph),
        }
    }

    /// Runs once. `inputs` are the graph's inputs by name. Returns the graph's outputs in order.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has the wrong type, or if the device fails.
    /// Always returns an error on a device in a browser, which cannot block: use
    /// [`Runner::run_async`].
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        block_on_device(self.run_async(inputs))
    }

    /// Like [`Runner::run`], for browsers, where a device delivers results only after the caller
    /// has yielded the page's single thread. Elsewhere the first poll blocks until the device is
    /// done.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has the wrong type, or if the device fails.
    pub async fn run_async(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())),
            Kind::Gpu(runner) => runner.run(&ordered).await,
        }
    }

    /// Runs once and returns the name of the first node that computes an infinity or NaN. Only
    /// available on the CPU.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`], and an error if the runner is on a device.
    pub fn first_not_finite(&self, inputs: &[(&str, &Tensor)]) -> Result<Option<String>> {
        let Kind::Cpu(runner) = &self.kind else {
            return Err(error!(
                Usage,
                "intermediate values are only available on the CPU executor"
            ));
        };
        let mut first = None;
        let check = |node: usize, _, outputs: &[Tensor]| {
            let finite = |t: &Tensor| !matches!(t.data(), Elements::F32(v) if v.iter().any(|x| !x.is_finite()));
            if first.is_none() && !outputs.iter().all(finite) {
                first = Some(self.graph.nodes()[node].name.clone());
            }
            Ok(())
        };
        runner.run(&self.ordered(inputs)?, check)?;
        Ok(first)
    }

    /// Returns the inputs in the graph's order.
    ///
    /// # Errors
    /// Returns an error if an input is missing or has another type.
    fn ordered<'a>(&self, inputs: &[(&str, &'a Tensor)]) -> Result<Vec<&'a Tensor>> {
        self.graph
            .inputs()
            .filter(|&(_, v)| self.graph.value(v).resident.is_none())
            .map(|(name, v)| {
                let (_, tensor) = inputs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .ok_or_else(|| error!(Usage, "is missing").at(format!("input `{name}`")))?;
                if tensor.ty() != self.graph.ty(v) {
                    let (want, got) = (self.graph.ty(v), tensor.ty());
                    return Err(error!(
                        Usage,
                        "expected {:?} {}, got {:?} {}",
                        want.dtype,
                        want.shape,
                        got.dtype,
                        got.shape
                    )
                    .at(format!("input `{name}`")));
                }
                Ok(*tensor)
            })
            .collect()
    }
}
