//! Devices: adapters, shader assembly, pipelines, buffers. wgpu's types appear only here and in
//! `exec/` (`gpu.rs`, `record.rs`, `store.rs`).

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
pub use buffers::{pack, pack_f32, unpack, unpack_f32};
pub(crate) use device::Checks;
pub use device::{Gpu, Pipeline};
pub use reflect::{Binding, Reflection};
pub use shader::{assemble, reflect, shader_names};
pub(crate) use submit::{Mapping, block_on_device, readback_error};
