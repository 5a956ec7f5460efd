//! The device executor: everything is recorded once; a run uploads inputs, replays one compute pass
//! in one submission, and reads back outputs.

use super::KernelSelector;
use super::memory_check;
use super::record::{Bound, Recorded, Recorder, replay};
use super::store::Store;
use crate::error::{Result, error};
use crate::gpu::{Checks, Gpu, Mapping, pack, readback_error, unpack};
use crate::graph::{Graph, Node, ValueId};
use crate::memory::Reservation;
use crate::ops::Packing;
use crate::ops::kernel::{Kernel, KernelContext, Operand, TensorLayout};
use crate::plan::Plan;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use web_time::Instant;

/// Target duration of the repetitions of a node that is timed separately, so that the submission
/// overhead is negligible.
const NODE_TIME: Duration = Duration::from_millis(4);

/// An output and the buffer to read it from.
struct Readback {
    from: wgpu::Buffer,
    bytes: u64,
    layout: TensorLayout,
}

/// Recorded dispatches of a node.
struct Recording {
    node: usize,
    kernel: String,
    /// Positions of its dispatches among all steps.
    steps: Range<usize>,
}

pub(super) struct GpuRunner {
    gpu: Arc<Gpu>,
    inputs: Vec<wgpu::Buffer>,
    steps: Vec<Recorded>,
    outputs: Vec<Readback>,
    nodes: Vec<Recording>,
    /// Keeps the upload and the submission of a run together; the device executes them in this
    /// order.
    submitting: Mutex<()>,
    /// Free readback buffers, one set per concurrent run.
    staging: Mutex<Vec<Vec<wgpu::Buffer>>>,
    /// Memory reserved for the activations and the host's copies of inputs and outputs.
    reserved: Reservation,
}

impl GpuRunner {
    pub(super) fn new(
        gpu: Arc<Gpu>,
        graph: &Graph,
        store: &Store,
        selector: &mut dyn KernelSelector,
    ) -> Result<Self> {
        let plan = Plan::new(graph);
        check_sizes(&gpu, graph)?;
        let reserved = memory_check::reserve_for_device(&gpu, graph, &plan)?;
        let slots: Vec<wgpu::Buffer> = plan
            .slots
            .iter()
            .map(|&bytes| gpu.shared_storage("activations", bytes))
            .collect::<Result<_>>()?;
        let chosen = choose_kernels(&gpu, graph, &plan, selector)?;
        let scratch = scratch_buffers(&gpu, &chosen)?;
        let mut recorded = 0;
        let nodes = chosen.iter().map(|(node, kernel)| {
            let steps = recorded..recorded + kernel.dispatches.len();
            recorded = steps.end;
            Recording { node: *node, kernel: kernel.label.clone(), steps }
        });
        let nodes = nodes.collect();

        let mut recorder = Recorder::new(&gpu);
        for (index, kernel) in &chosen {
            let node = &graph.nodes()[*index];
            let checks = Checks::of(&*node.op);
            for dispatch in &kernel.dispatches {
                let buffer =
                    |o| operand_buffer(&gpu, graph, &plan, store, node, o, &slots, &scratch);
                recorder.add(&node.name, dispatch, checks, buffer)?;
            }
        }
        let steps = recorder.finish()?;

        let placement =
            |v: ValueId| plan.places[v.index()].expect("invariant: inputs and outputs have places");
        let external = graph.inputs().filter(|&(_, v)| graph.value(v).resident.is_none());
        let inputs = external.map(|(_, v)| slots[placement(v).slot].clone()).collect();
        let outputs = graph
            .outputs()
            .iter()
            .map(|&(_, v)| {
                let (slot, layout) = (placement(v).slot, placement(v).layout);
                let bytes = match layout.ty.dtype {
                    crate::tensor::DType::F32 => {
                        16 * u64::from(layout.pitch) * layout.ty.shape.positions() as u64
                    }
                    _ => TensorLayout::bytes(layout.ty, Packing::Channels),
                };
                Readback { from: slots[slot].clone(), bytes, layout }
            })
            .collect();
        let runner = Self {
            gpu,
            inputs,
            steps,
            outputs,
            nodes,
            submitting: Mutex::new(()),
            staging: Mutex::default(),
            reserved,
        };
        // Allocate readback buffers now, to report missing memory early.
        let staging = runner.staging()?;
        lock(&runner.staging).push(staging);
        runner.gpu.check()?;
        Ok(runner)
    }

    pub(super) fn kernels(&self, graph: &Graph) -> Vec<(String, String)> {
        self.nodes.iter().map(|n| (graph.nodes()[n.node].name.clone(), n.kernel.clone())).collect()
    }

    fn upload(&self, inputs: &[&Tensor]) -> Result<()> {
        for (buffer, tensor) in self.inputs.iter().zip(inputs) {
            self.gpu.queue.write_buffer(buffer, 0, &pack(tensor, Packing::Channels)?);
        }
        Ok(())
    }

    /// Times each node separately, in order, so that it reads the same values as in a run. Returns
    /// the node's position in the graph, its kernel and its time.
    pub(super) fn time_nodes(&self, inputs: &[&Tensor]) -> Result<Vec<(usize, &str, Duration)>> {
        let _guard = lock(&self.submitting);
        self.upload(inputs)?;
        self.nodes
            .iter()
            .map(|n| {
                let steps = &self.steps[n.steps.clone()];
                let once = replay(&self.gpu, steps, 1)?;
                let repeats = (NODE_TIME.as_nanos() / once.as_nanos().max(1)).clamp(1, 100) as u32;
                // A node does not read its outputs, so it can be repeated; repeated in-place
                // updates change values, but take the same time.
                Ok((n.node, n.kernel.as_str(), replay(&self.gpu, steps, repeats)? / repeats))
            })
            .collect()
    }

    /// Submits the nodes at these positions among those that run, in one submission.
    fn start(&self, nodes: Range<usize>) -> wgpu::SubmissionIndex {
        let mut encoder = self
            .gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("slice") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("slice"),
                timestamp_writes: None,
            });
            for step in self.nodes[nodes].iter().flat_map(|n| &self.steps[n.steps.clone()]) {
                step.dispatch(&mut pass);
            }
        }
        let commands = encoder.finish();
        let _guard = self.gpu.pause_submissions();
        self.gpu.queue.submit([commands])
    }

    /// Returns the number of nodes that run, which excludes concatenations that are in place.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Submits a run without waiting for it. Nothing is read back.
    pub(super) fn enqueue(&self, inputs: &[&Tensor]) -> Result<()> {
        let _guard = lock(&self.submitting);
        self.upload(inputs)?;
        self.start(0..self.nodes.len());
        self.gpu.check()
    }

    /// Runs piece by piece, waits for each before submitting the next, and returns the duration of
    /// each. Nothing is read back.
    pub(super) fn run_pieces(
        &self,
        inputs: &[&Tensor],
        pieces: &[Range<usize>],
    ) -> Result<Vec<Duration>> {
        let _guard = lock(&self.submitting);
        self.upload(inputs)?;
        let times = pieces.iter().map(|piece| {
            let start = Instant::now();
            let submission = self.start(piece.clone());
            self.gpu.wait(submission)?;
            Ok(start.elapsed())
        });
        times.collect()
    }

    /// Returns readback buffers for the outputs: those of a finished run, or new ones.
    fn staging(&self) -> Result<Vec<wgpu::Buffer>> {
        if let Some(free) = lock(&self.staging).pop() {
            return Ok(free);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.outputs.iter().map(|output| self.gpu.buffer("readback", output.bytes, usage)).collect()
    }

    /// Runs once. Natively the first poll blocks until the device is done; in browsers the future
    /// yields to the page.
    pub(super) async fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let staging = self.staging()?;
        let mapped = self.submit(inputs, &staging)?;
        self.gpu.mapped(mapped).await?;
        let tensors = self
            .outputs
            .iter()
            .zip(&staging)
            .map(|(output, staging)| {
                let view = staging
                    .get_mapped_range(0..output.bytes)
                    .map_err(|e| self.gpu.root_cause(readback_error().source(e)))?;
                let tensor = unpack(&view, output.layout);
                drop(view);
                staging.unmap();
                tensor
            })
            .collect::<Result<_>>()?;
        lock(&self.staging).push(staging);
        self.reserved.mark_used();
        Ok(tensors)
    }

    fn submit(&self, inputs: &[&Tensor], staging: &[wgpu::Buffer]) -> Result<Mapping> {
        let _guard = lock(&self.submitting);
        self.upload(inputs)?;
        let mut encoder = self
            .gpu
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("run") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("run"),
                timestamp_writes: None,
            });
            for step in &self.steps {
                step.dispatch(&mut pass);
            }
        }
        for (output, staging) in self.outputs.iter().zip(staging) {
            encoder.copy_buffer_to_buffer(&output.from, 0, staging, 0, output.bytes);
        }
        let outputs =
            staging.iter().zip(&self.outputs).map(|(staging, output)| (staging, output.bytes));
        Ok(self.gpu.submit_and_map(encoder, outputs))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rejects graphs with a value beyond the device's limits, and suggests an image size that would
/// fit.
fn check_sizes(gpu: &Gpu, graph: &Graph) -> Result<()> {
    let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
    let bytes = |v: ValueId| TensorLayout::bytes(graph.ty(v), Packing::Channels);
    let Some(largest) = memory_check::largest(graph, bytes) else { return Ok(()) };
    if bytes(largest) <= limit {
        return Ok(());
    }
    let mib = |b: u64| b as f64 / f64::from(1 << 20);
    let what =
        format!("{} takes {:.0} MiB", memory_check::value(graph, largest), mib(bytes(largest)));
    let error = error!(
        OutOfMemory,
        "{what}, but {} binds at most {:.0} MiB",
        gpu.summary().name,
        mib(limit)
    );
    let advice = memory_check::advice(
        graph,
        limit as f64 / bytes(largest) as f64,
        ", or use `--device cpu`",
    );
    Err(memory_check::at(graph, largest, error).advice(advice))
}

fn layout_of(graph: &Graph, plan: &Plan, v: ValueId) -> TensorLayout {
    plan.places[v.index()].map_or_else(|| TensorLayout::contiguous(graph.ty(v)), |p| p.layout)
}

fn choose_kernels(
    gpu: &Gpu,
    graph: &Graph,
    plan: &Plan,
    selector: &mut dyn KernelSelector,
) -> Result<Vec<(usize, Kernel)>> {
    selector.begin(plan.steps.len());
    plan.steps
        .iter()
        .map(|&index| {
            let node = &graph.nodes()[index];
            let address = || format!("node `{}` ({})", node.name, node.op.name());
            let layouts = |ids: &[ValueId]| {
                ids.iter().map(|&v| layout_of(graph, plan, v)).collect::<Vec<_>>()
            };
            let (inputs, outputs) = (layouts(&node.inputs), layouts(&node.outputs));
            let context = KernelContext { inputs: &inputs, outputs: &outputs, caps: gpu.caps() };
            let mut kernels = node.op.kernels(&context);
            if kernels.is_empty() {
                return Err(error!(Shader, "no kernel supports device {}", gpu.summary().name)
                    .at(address()));
            }
            let choice = selector
                .choose(node.op.as_ref(), &context, &kernels)
                .map_err(|e| e.at(address()))?;
            Ok((index, kernels.swap_remove(choice)))
        })
        .collect()
}

/// Allocates the scratch buffers, which all steps share: the `i`-th is as large as the largest
/// `i`-th scratch buffer of any kernel.
fn scratch_buffers(gpu: &Gpu, chosen: &[(usize, Kernel)]) -> Result<Vec<wgpu::Buffer>> {
    let count = chosen.iter().map(|(_, k)| k.scratch.len()).max().unwrap_or(0);
    (0..count)
        .map(|i| {
            let bytes =
                chosen.iter().filter_map(|(_, k)| k.scratch.get(i)).copied().max().unwrap_or(0);
            gpu.kernel_storage("scratch", bytes)
        })
        .collect()
}

fn operand_buffer(
    gpu: &Gpu,
    graph: &Graph,
    plan: &Plan,
    store: &Store,
    node: &Node,
    operand: Operand,
    slots: &[wgpu::Buffer],
    scratch: &[wgpu::Buffer],
) -> Result<Bound> {
    let of_value = |v: ValueId, index: usize| match (plan.places[v.index()], graph.param_data(v)) {
        _ if graph.value(v).resident.is_some() => store.bound(graph, v),
        (Some(place), _) => Ok(slots[place.slot].clone().into()),
        (None, Some(param)) => gpu.param(param, node.op.packing(index)).map(Bound::from),
        (None, None) => Err(error!(Weights, "parameter `{}` has no data", graph.value_name(v))),
    };
    match operand {
        Operand::Input(i) => of_value(node.inputs[i], i),
        Operand::Output(i) => of_value(node.outputs[i], i),
        Operand::Scratch(i) => Ok(scratch[i].clone().into()),
    }
}
