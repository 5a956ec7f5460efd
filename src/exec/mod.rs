//! Running a graph: on a device by dispatches, or on the processor by the operations' own
//! functions.

mod cpu;
mod gpu;
mod profile;
pub(crate) mod record;
mod room;
mod slices;
mod store;

pub use profile::{NodeTime, Times};
pub use slices::Slices;
pub use store::Store;

use crate::error::{Result, error};
use crate::gpu::{DeviceChoice, Gpu, at_once};
use crate::graph::{Graph, ValueId};
use crate::ops::kernel::{Kernel, KernelContext};
use crate::plan::{HostPlan, Plan};
use crate::tensor::{Elements, Tensor};
use std::fmt;
use std::sync::Arc;

/// Where a graph runs.
#[derive(Clone)]
pub enum Device {
    /// The CPU executor.
    Cpu,
    /// A device behind wgpu.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// Opens what `choice` names.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        Ok(Gpu::open(choice)?.map_or(Device::Cpu, Device::Gpu))
    }

    /// Whether it is the CPU executor.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Device::Cpu)
    }

    /// Bytes that a graph's values take here while it runs, parameters and what lies in a store
    /// aside.
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

/// Picks one of an operation's kernels.
pub trait KernelSelector {
    /// Says how many calls of [`KernelSelector::choose`] follow, one for each node of a graph.
    fn begin(&mut self, _calls: usize) {}

    /// Position in `kernels`, which is not empty.
    fn choose(
        &mut self,
        op: &dyn crate::ops::Op,
        context: &KernelContext,
        kernels: &[Kernel],
    ) -> Result<usize>;
}

/// Takes what the operation expects to be fastest.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstKernel;

impl KernelSelector for FirstKernel {
    fn choose(&mut self, _: &dyn crate::ops::Op, _: &KernelContext, _: &[Kernel]) -> Result<usize> {
        Ok(0)
    }
}

/// A graph made ready on a device. It can run any number of times; runs on one runner follow each
/// other.
pub struct Runner {
    graph: Arc<Graph>,
    kind: Kind,
}

enum Kind {
    Cpu(cpu::CpuRunner),
    Gpu(Box<gpu::GpuRunner>),
}

impl Runner {
    /// Makes a verified graph ready, with the kernels that the operations expect to be fastest.
    ///
    /// # Errors
    /// Where something is missing, or there is no memory for it, in the device or in main memory
    /// (see [`memory`](crate::memory)).
    pub fn new(device: &Device, graph: Graph) -> Result<Self> {
        Self::with_kernels(device, graph, &mut FirstKernel)
    }

    /// Makes a verified graph ready, with the kernels that `choose` picks.
    pub fn with_kernels(
        device: &Device,
        graph: Graph,
        choose: &mut dyn KernelSelector,
    ) -> Result<Self> {
        Self::with_store(&Arc::new(Store::new(device)), graph, choose)
    }

    /// Makes a graph ready on the store's device. Values that [lie in a store](Graph::set_resident)
    /// lie in this one, and are not given to runs.
    pub fn with_store(
        store: &Arc<Store>,
        graph: Graph,
        choose: &mut dyn KernelSelector,
    ) -> Result<Self> {
        graph.verify()?;
        store.check(&graph)?;
        let is_resident = |v: ValueId| graph.value(v).resident.is_some();
        if let Some((name, _)) =
            graph.params().find(|&(_, v)| graph.param_data(v).is_none() && !is_resident(v))
        {
            return Err(error!(Weights, "parameter `{name}` has no data")
                .advice("bind weights before running"));
        }
        if let Some((name, _)) = graph.outputs().iter().find(|(_, v)| graph.is_param(*v)) {
            return Err(error!(Graph, "output `{name}` is a parameter, which no run computes"));
        }
        let kept = graph.outputs().iter().find(|&&(_, v)| is_resident(v));
        if let Some((name, _)) = kept.filter(|_| matches!(store.device(), Device::Gpu(_))) {
            return Err(error!(Graph, "output `{name}` lies in a store: a device leaves it there")
                .advice("read it by `Store::read`"));
        }
        let graph = Arc::new(graph);
        let kind = match store.device() {
            Device::Cpu => Kind::Cpu(cpu::CpuRunner::new(graph.clone(), store.clone())?),
            Device::Gpu(gpu) => {
                Kind::Gpu(Box::new(gpu::GpuRunner::new(gpu.clone(), &graph, store, choose)?))
            }
        };
        Ok(Self { graph, kind })
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The plan of the buffers.
    pub fn plan(&self) -> Plan {
        Plan::new(&self.graph)
    }

    /// Labels of the kernels in use, by node; empty on the processor.
    pub fn kernels(&self) -> Vec<(String, String)> {
        match &self.kind {
            Kind::Cpu(_) => Vec::new(),
            Kind::Gpu(runner) => runner.kernels(&self.graph),
        }
    }

    /// Runs once. `inputs` are the graph's inputs by name; the result has the graph's outputs in
    /// their order.
    ///
    /// # Errors
    /// Where an input is missing or misshapen, or the device fails. On a browser's device, which
    /// cannot be waited for, always: see [`Runner::run_async`].
    pub fn run(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        at_once(self.run_async(inputs))
    }

    /// As [`Runner::run`], for browsers, where a device's results come only after the caller has
    /// let go of the page's one thread. Elsewhere the first poll waits for the device.
    ///
    /// # Errors
    /// Where an input is missing or misshapen, or the device fails.
    pub async fn run_async(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let ordered = self.ordered(inputs)?;
        match &self.kind {
            Kind::Cpu(runner) => runner.run(&ordered, |_, _, _| Ok(())),
            Kind::Gpu(runner) => runner.run(&ordered).await,
        }
    }

    /// The first node that computes something infinite or NaN; on the processor alone.
    ///
    /// # Errors
    /// As [`Runner::run`]; where the runner is a device's.
    pub fn first_not_finite(&self, inputs: &[(&str, &Tensor)]) -> Result<Option<String>> {
        let Kind::Cpu(runner) = &self.kind else {
            return Err(error!(Usage, "a device does not say what its nodes compute"));
        };
        let mut found = None;
        let look = |node: usize, _, outputs: &[Tensor]| {
            let finite = |t: &Tensor| !matches!(t.data(), Elements::F32(v) if v.iter().any(|x| !x.is_finite()));
            if found.is_none() && !outputs.iter().all(finite) {
                found = Some(self.graph.nodes()[node].name.clone());
            }
            Ok(())
        };
        runner.run(&self.ordered(inputs)?, look)?;
        Ok(found)
    }

    /// The inputs in the graph's order. Errors where one is missing or has another shape.
    fn ordered<'a>(&self, inputs: &[(&str, &'a Tensor)]) -> Result<Vec<&'a Tensor>> {
        self.graph
            .inputs()
            .filter(|&(_, v)| self.graph.value(v).resident.is_none())
            .map(|(name, v)| {
                let (_, tensor) = inputs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .ok_or_else(|| error!(Usage, "is not given").at(format!("input `{name}`")))?;
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
