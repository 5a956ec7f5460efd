//! DeepLabv3+ semantic segmentation on any GPU, through wgpu and WGSL compute shaders.
//!
//! The high-level API is [`Segmenter`]: it takes a [`Model`] read from a weight file and a
//! [`DeviceChoice`], and turns images into labels.
//!
//! ```no_run
//! use atrous::image::{SizeRule, decode};
//! use atrous::{DeviceChoice, Model, Segmenter};
//!
//! let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
//! let segmentation = segmenter.segment(&decode("street.jpg")?, SizeRule::Native)?;
//! segmentation.labels.write("street.png", &segmenter.model().class_table())?;
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! The stages below it can be used on their own; each produces the data that the next one consumes:
//! a [`graph`] of operations from [`ops`], [`passes`] over it, a [`plan`] of its buffers, and
//! [`exec`], which runs it on a GPU or on the CPU.
//!
//! ```
//! use atrous::exec::{Device, Runner};
//! use atrous::graph::{Graph, ParamRef};
//! use atrous::ops::Conv2d;
//! use atrous::{Shape, Tensor, TensorType, passes};
//!
//! // A 5 x 5 image and a 3 x 3 kernel with dilation 2, which reaches two pixels to each side.
//! let mut graph = Graph::new();
//! let x = graph.input("x", TensorType::f32(Shape::new(1, 5, 5, 1)));
//! let y = graph.root().conv2d("sum", Conv2d::square(1, 2, 2), x, Size::square(3), 1)?;
//! graph.output("y", y);
//! let ones = ParamRef::new(Tensor::from_fn(Shape::new(3, 3, 1, 1), |_, _, _, _| 1.0));
//! graph.bind(&[("sum.weight".to_owned(), ones)].into())?;
//!
//! let runner = Runner::new(&Device::Cpu, passes::optimize(graph)?)?;
//! let image = Tensor::from_fn(Shape::new(1, 5, 5, 1), |_, row, column, _| (5 * row + column) as f32);
//! let sums = runner.run(&[("x", &image)])?.swap_remove(0);
//! assert_eq!(sums.f32()[12], (0 + 2 + 4 + 10 + 12 + 14 + 20 + 22 + 24) as f32);
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! A [`models::Config`] describes a network; [`weights`] reads and writes the files of several code
//! bases. `examples/custom_op.rs` adds an operation with its own shader.

#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod error;
pub mod eval;
pub mod exec;
pub mod files;
pub mod geometry;
pub mod gpu;
pub mod graph;
pub mod image;
pub mod live;
pub mod memory;
pub mod models;
pub mod ops;
pub mod passes;
mod pipeline;
pub mod plan;
mod random;
pub mod report;
pub mod segmenter;
pub mod tensor;
pub mod text;
mod thread;
pub mod train;
pub mod tune;
pub mod video;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
pub use geometry::{Position, Size, Spacing};
pub use gpu::DeviceChoice;
pub use segmenter::{Model, Segmentation, Segmenter};
pub use tensor::{DType, Data, Elements, KernelShape, Shape, Tensor, TensorType};

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
