//! Execution of graphs: on a device by dispatches, or on the CPU by the operations' CPU functions.
//!
//! Both implement the traits of `backend.rs`. [`Device`], [`Store`], [`Runner`], [`Producer`] and
//! [`Value`] select between them; nothing else does.

mod backend;
mod cpu;
mod device;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "no_gpu.rs"]
mod gpu;
mod memory_check;
mod producer;
mod profile;
mod runner;
mod selector;
mod slices;
mod store;
mod value;

pub use cpu::first_not_finite;
pub use device::Device;
pub use producer::Producer;
pub use profile::{NodeTime, Times};
pub use runner::Runner;
pub use selector::{FirstKernel, KernelSelector};
pub use slices::Slices;
pub use store::Store;
pub use value::{Input, Value};
