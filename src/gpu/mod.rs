//! Devices: adapters, shader assembly, pipelines, buffers. wgpu's types appear only here and in
//! `exec/gpu/`.

mod choice;

#[cfg(feature = "cli")]
pub(crate) use choice::backend_override;
pub use choice::{AdapterSummary, DeviceChoice};

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod adapter;
#[cfg(feature = "gpu")]
mod buffers;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod fault;
#[cfg(feature = "gpu")]
mod once_map;
#[cfg(feature = "gpu")]
mod reflect;
#[cfg(feature = "gpu")]
mod shader;
#[cfg(feature = "gpu")]
mod submit;
#[cfg(feature = "gpu")]
mod unroll;

#[cfg(not(feature = "gpu"))]
pub use absent::{Gpu, adapters};
#[cfg(feature = "gpu")]
pub use {
    adapter::adapters,
    device::{Gpu, Pipeline},
    reflect::{Binding, Reflection},
    shader::{assemble, reflect, shader_names},
};
#[cfg(feature = "gpu")]
pub(crate) use {
    buffers::Buffer,
    device::Checks,
    submit::{Mapping, readback_error},
};
