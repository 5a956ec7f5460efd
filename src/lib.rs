//! DeepLabv3+ semantic segmentation on any GPU, through wgpu and WGSL compute shaders.

pub mod cli;
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
pub mod segmenter;
pub mod tensor;
pub mod tune;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
pub use gpu::DeviceChoice;
pub use segmenter::{Model, Segmentation, Segmenter};
pub use tensor::{DType, Data, Shape, Tensor, TensorType};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
