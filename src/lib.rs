//! DeepLabv3+ semantic segmentation on any GPU, through wgpu and WGSL compute shaders.

pub mod data;
pub mod error;
pub mod eval;
pub mod exec;
pub mod files;
pub mod gpu;
pub mod graph;
pub mod image;
pub mod models;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod tensor;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
pub use tensor::{DType, Data, Shape, Tensor, TensorType};
