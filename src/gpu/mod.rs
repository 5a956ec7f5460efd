//! The device: adapters, shader assembly, pipelines, buffers. Only this folder and `exec/gpu.rs` see wgpu's types.

mod adapter;
mod buffers;
mod device;
mod reflect;
mod shader;
mod unroll;

pub use adapter::{AdapterSummary, DeviceChoice, adapters};
pub use buffers::{pack, pack_f32, unpack, unpack_f32};
pub(crate) use device::{Checks, Mapping, at_once, unreadable};
pub use device::{Gpu, Pipeline};
pub use reflect::{Binding, Reflection};
pub use shader::{assemble, reflect, shader_names};
