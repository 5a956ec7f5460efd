//! Preparation of a graph for a device: kernels, buffers, and recorded dispatches.

use super::memory;
use super::program::{GpuProgram, Output, Recording};
use super::record::{Bound, Recorded, Recorder};
use crate::error::{Result, error};
use crate::exec::selector::KernelSelector;
use crate::exec::store::Residents;
use crate::gpu::{Checks, Gpu};
use crate::graph::{Graph, Node, Resident, ValueId};
use crate::ops::Packing;
use crate::ops::kernel::{Kernel, KernelContext, Operand, TensorLayout};
use crate::plan::{Placement, Plan};
use crate::tensor::DType;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

/// Prepares a verified graph.
///
/// # Errors
/// Returns an error if an output is in a store, if the device cannot run the graph, or if memory
/// runs out.
pub(super) fn program(
    gpu: &Arc<Gpu>,
    graph: &Graph,
    residents: &Residents<wgpu::Buffer>,
    selector: &mut dyn KernelSelector,
) -> Result<GpuProgram> {
    let is_resident = |v: ValueId| graph.value(v).resident.is_some();
    if let Some((name, _)) = graph.outputs().iter().find(|&&(_, v)| is_resident(v)) {
        return Err(error!(Graph, "output `{name}` is in a store and stays on the device")
            .advice("read it with `Store::read`"));
    }
    let plan = Plan::new(graph);
    memory::check_sizes(gpu, graph)?;
    let reserved = memory::reserve(gpu, graph, &plan)?;
    let slots = plan.slots.iter().map(|&bytes| gpu.shared_storage("activations", bytes));
    let slots = slots.collect::<Result<Vec<_>>>()?;
    let chosen = choose_kernels(gpu, graph, &plan, selector)?;
    let scratch = scratch_buffers(gpu, &chosen)?;
    let buffers = Buffers { gpu, graph, plan: &plan, residents, slots: &slots, scratch: &scratch };
    let steps = record(&buffers, &chosen)?;
    let external = graph.inputs().filter(|&(_, v)| !is_resident(v));
    let inputs = external.map(|(_, v)| slots[placement(&plan, v).slot].clone()).collect();
    let outputs = graph.outputs().iter().map(|&(_, v)| output(placement(&plan, v), &slots));
    let program = GpuProgram {
        gpu: gpu.clone(),
        inputs,
        steps,
        outputs: outputs.collect(),
        nodes: recordings(&chosen),
        submitting: Mutex::new(()),
        staging: Mutex::default(),
        reserved,
    };
    gpu.check()?;
    Ok(program)
}

fn placement(plan: &Plan, v: ValueId) -> Placement {
    plan.places[v.index()].expect("invariant: inputs and outputs have places")
}

fn output(Placement { slot, layout }: Placement, slots: &[wgpu::Buffer]) -> Output {
    let bytes = match layout.ty.dtype {
        DType::F32 => 16 * u64::from(layout.pitch) * layout.ty.shape.positions() as u64,
        _ => TensorLayout::bytes(layout.ty, Packing::Channels),
    };
    Output { from: slots[slot].clone(), bytes, layout }
}

/// Returns which of the recorded dispatches are those of each node.
fn recordings(chosen: &[(usize, Kernel)]) -> Vec<Recording> {
    let mut recorded = 0;
    let recording = |(node, kernel): &(usize, Kernel)| {
        let steps = recorded..recorded + kernel.dispatches.len();
        recorded = steps.end;
        Recording { node: *node, kernel: kernel.label.clone(), steps }
    };
    chosen.iter().map(recording).collect()
}

/// Compiles and binds all dispatches, in order.
fn record(buffers: &Buffers, chosen: &[(usize, Kernel)]) -> Result<Vec<Recorded>> {
    let mut recorder = Recorder::new(buffers.gpu);
    for (index, kernel) in chosen {
        let node = &buffers.graph.nodes()[*index];
        let checks = Checks::of(&*node.op);
        for dispatch in &kernel.dispatches {
            recorder.add(&node.name, dispatch, checks, |operand| buffers.bound(node, operand))?;
        }
    }
    recorder.finish()
}

/// All buffers of a graph.
struct Buffers<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    plan: &'a Plan,
    residents: &'a Residents<wgpu::Buffer>,
    slots: &'a [wgpu::Buffer],
    scratch: &'a [wgpu::Buffer],
}

impl Buffers<'_> {
    fn bound(&self, node: &Node, operand: Operand) -> Result<Bound> {
        match operand {
            Operand::Input(i) => self.value(node.inputs[i], node.op.packing(i)),
            Operand::Output(i) => self.value(node.outputs[i], Packing::Channels),
            Operand::Scratch(i) => Ok(self.scratch[i].clone().into()),
        }
    }

    /// Returns the buffer of a value; a parameter is packed as `packing`.
    fn value(&self, v: ValueId, packing: Packing) -> Result<Bound> {
        let graph = self.graph;
        if let Some((buffer, resident)) = self.residents.get(graph, v) {
            return Ok(range(buffer, graph, v, resident));
        }
        match (self.plan.places[v.index()], graph.param_data(v)) {
            (Some(place), _) => Ok(self.slots[place.slot].clone().into()),
            (None, Some(param)) => self.gpu.param(param, packing).map(Bound::from),
            (None, None) => Err(error!(Weights, "parameter `{}` has no data", graph.value_name(v))),
        }
    }
}

/// Returns the range of a store's buffer in which a value is located.
fn range(buffer: &wgpu::Buffer, graph: &Graph, v: ValueId, resident: &Resident) -> Bound {
    Bound {
        buffer: buffer.clone(),
        offset: 4 * resident.first as u64,
        bytes: NonZeroU64::new(TensorLayout::bytes(graph.ty(v), resident.packing)),
    }
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
