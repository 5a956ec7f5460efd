//! Memory checks before anything is allocated for a graph on a device.

use crate::error::{Result, error};
use crate::exec::memory_check::{advice, at, largest, out_of_memory, value};
use crate::gpu::Gpu;
use crate::graph::{Graph, ValueId};
use crate::memory::Reservation;
use crate::ops::kernel::TensorLayout;
use crate::ops::{Packing, bytes};
use crate::plan::{HostMemory, Plan};

/// Reserves memory for a graph on a device: device memory, and main memory for the transfers.
///
/// The free memory of a device is unknown until buffers are allocated. A software driver uses main
/// memory.
///
/// # Errors
/// Returns the same errors as the reservation of a graph on the CPU.
pub(super) fn reserve(gpu: &Gpu, graph: &Graph, plan: &Plan) -> Result<Reservation> {
    let size = |values: &mut dyn Iterator<Item = ValueId>| {
        bytes(&values.map(|v| graph.ty(v)).collect::<Vec<_>>())
    };
    let inputs =
        size(&mut graph.inputs().map(|(_, v)| v).filter(|&v| graph.value(v).resident.is_none()));
    let outputs = size(&mut graph.outputs().iter().map(|&(_, v)| v));
    // Inputs are copied into device layout, and once more by the driver; outputs are read from a
    // mapped buffer.
    let host = inputs.saturating_mul(3).saturating_add(outputs.saturating_mul(2));
    let need = HostMemory { values: plan.activation_bytes(), outputs: 0, inputs: host, scratch: 0 };
    let reserved = if gpu.caps().software {
        Reservation::new(need.values, host)
    } else {
        Reservation::new(0, host).and_then(|_| Reservation::on_device(need.values))
    };
    reserved.map_err(|room| out_of_memory(graph, &need, room))
}

/// Rejects graphs with a value beyond the device's limits, and suggests an image size that would
/// fit.
pub(super) fn check_sizes(gpu: &Gpu, graph: &Graph) -> Result<()> {
    let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
    let bytes = |v: ValueId| TensorLayout::bytes(graph.ty(v), Packing::Channels);
    let Some(largest) = largest(graph, bytes) else { return Ok(()) };
    if bytes(largest) <= limit {
        return Ok(());
    }
    let mib = |b: u64| b as f64 / f64::from(1 << 20);
    let what = format!("{} takes {:.0} MiB", value(graph, largest), mib(bytes(largest)));
    let error = error!(
        OutOfMemory,
        "{what}, but {} binds at most {:.0} MiB",
        gpu.summary().name,
        mib(limit)
    );
    let advice = advice(graph, limit as f64 / bytes(largest) as f64, ", or use `--device cpu`");
    Err(at(graph, largest, error).advice(advice))
}
