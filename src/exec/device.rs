//! The choice of an executor.

use super::backend::Backend;
use super::cpu::Host;
use crate::error::Result;
use crate::gpu::{DeviceChoice, Gpu};
use crate::graph::Graph;
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
    ///
    /// # Errors
    /// Returns an error if the choice requires a GPU and no adapter matches, or the adapter cannot be
    /// opened.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        Ok(Gpu::open(choice)?.map_or(Device::Cpu, Device::Gpu))
    }

    /// Returns whether this is the CPU executor.
    pub fn is_cpu(&self) -> bool {
        self.gpu().is_none()
    }

    /// Returns the wgpu device; `None` for the CPU executor.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        match self {
            Device::Cpu => None,
            Device::Gpu(gpu) => Some(gpu),
        }
    }

    /// Returns the bytes of a graph's values on this device during a run, without parameters and
    /// values in a store.
    pub fn activation_bytes(&self, graph: &Graph) -> u64 {
        match self {
            Device::Cpu => Host.activation_bytes(graph),
            Device::Gpu(gpu) => gpu.activation_bytes(graph),
        }
    }

    /// Returns the maximum size of one tensor in bytes; `None` if only the memory limits it.
    pub fn max_buffer_bytes(&self) -> Option<u64> {
        match self {
            Device::Cpu => Host.max_buffer_bytes(),
            Device::Gpu(gpu) => gpu.max_buffer_bytes(),
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
