//! The device executor: everything is recorded once; a run uploads inputs, replays one compute pass
//! in one submission, and reads back outputs or leaves them on the device.

mod memory;
mod prepare;
mod program;
pub(crate) mod record;
mod value;

pub(super) use program::GpuProgram;
pub(super) use value::{DeviceValue, Feed};

use super::backend::Backend;
use super::selector::KernelSelector;
use super::store::{AnyBuffers, Residents, Store};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::plan::Plan;
use std::sync::Arc;

impl Backend for Arc<Gpu> {
    type Buffer = wgpu::Buffer;
    type Program = GpuProgram;

    fn alloc(&self, name: &str, elements: usize) -> Result<wgpu::Buffer> {
        // wgpu clears new buffers.
        self.shared_storage(name, 4 * elements as u64)
    }

    fn read(&self, buffer: &wgpu::Buffer, elements: usize) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&Gpu::read(self, buffer, 0, 4 * elements as u64)?))
    }

    fn write(&self, buffer: &wgpu::Buffer, elements: &[f32]) {
        self.queue.write_buffer(buffer, 0, bytemuck::cast_slice(elements));
    }

    fn prepare(
        &self,
        graph: &Arc<Graph>,
        residents: Residents<wgpu::Buffer>,
        selector: &mut dyn KernelSelector,
    ) -> Result<GpuProgram> {
        prepare::program(self, graph, &residents, selector)
    }

    fn activation_bytes(&self, graph: &Graph) -> u64 {
        Plan::new(graph).activation_bytes()
    }

    fn max_buffer_bytes(&self) -> Option<u64> {
        Some(self.caps().max_binding.min(self.caps().max_buffer))
    }
}

impl Store {
    /// Returns a buffer on the device, for programs that draw its contents; it can be bound for
    /// reading and copied from. `None` on the CPU, and if there is no such buffer.
    pub fn device_buffer(&self, name: &str) -> Option<&wgpu::Buffer> {
        match &self.0 {
            AnyBuffers::Cpu(_) => None,
            AnyBuffers::Gpu(buffers) => buffers.get(name),
        }
    }
}
