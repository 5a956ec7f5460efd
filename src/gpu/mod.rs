//! Devices: adapters, shader assembly, pipelines, buffers. wgpu's types appear only here and in
//! `exec/gpu/`.

mod adapter;
mod buffers;
mod device;
mod fault;
mod once_map;
mod reflect;
mod shader;
mod submit;
mod unroll;

#[cfg(feature = "cli")]
pub(crate) use adapter::backend_override;
pub use adapter::{AdapterSummary, DeviceChoice, adapters};
pub(crate) use buffers::Buffer;
pub(crate) use device::Checks;
pub use device::{Gpu, Pipeline};
pub use reflect::{Binding, Reflection};
pub use shader::{assemble, reflect, shader_names};
pub(crate) use submit::{Mapping, readback_error};
