//! What remains of this module in builds without the feature `gpu`: a device that cannot exist.
//!
//! Its type has no values, so the compiler removes what the other modules do with one.

use super::choice::{AdapterSummary, DeviceChoice};
use crate::error::{Result, error};
use crate::ops::kernel::Caps;
use std::sync::Arc;

/// A wgpu device. This build has none.
#[derive(Debug, Clone, Copy)]
pub enum Gpu {}

impl Gpu {
    /// Returns `None`, the CPU executor, if the choice allows it.
    ///
    /// # Errors
    /// Returns an error if the choice requires a GPU.
    pub fn open(choice: &DeviceChoice) -> Result<Option<Arc<Self>>> {
        match choice {
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(None),
            _ => Err(error!(Device, "this build does not support GPUs")
                .advice("use `--device cpu`, or build with the feature `gpu`")),
        }
    }

    /// Returns the description of the adapter.
    pub fn summary(&self) -> &AdapterSummary {
        match *self {}
    }

    /// Returns the capabilities of the device.
    pub fn caps(&self) -> &Caps {
        match *self {}
    }
}

/// Lists the adapters of this machine: none, because this build does not support GPUs.
pub fn adapters() -> Vec<AdapterSummary> {
    Vec::new()
}
