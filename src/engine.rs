//! The engine below the networks, for people who write operations, passes, kernels or networks of
//! their own. Each stage produces the data that the next one consumes:
//!
//! - [`graph`]: operations on typed values, and their gradients; [`ops`] has the operations.
//! - [`passes`]: rewrites of a graph, such as the folding of batch norms.
//! - [`plan`]: which values share a buffer.
//! - [`exec`]: runs a graph on a GPU or on the CPU; [`tune`] measures which kernel is fastest.
//! - [`models`]: networks as data, and their graphs; [`weights`] reads and writes their files, and
//!   `onnx` writes graphs for other engines.
//!
//! ```
//! use atrous::Size;
//! use atrous::engine::exec::{Device, Runner};
//! use atrous::engine::graph::{Graph, ParamRef};
//! use atrous::engine::ops::Conv2d;
//! use atrous::engine::{Shape, Tensor, TensorType, passes};
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
//! `examples/custom_op.rs` adds an operation with its own shader. The interface of the engine
//! changes more often than that of the modules around it.

// The directories stay next to those of the other modules: the module is one of names only.
#[path = "exec/mod.rs"]
pub mod exec;
#[path = "geometry.rs"]
pub mod geometry;
#[path = "gpu/mod.rs"]
pub mod gpu;
#[path = "graph/mod.rs"]
pub mod graph;
#[path = "memory/mod.rs"]
pub mod memory;
#[path = "models/mod.rs"]
pub mod models;
#[cfg(feature = "onnx")]
#[path = "onnx/mod.rs"]
pub mod onnx;
#[path = "ops/mod.rs"]
pub mod ops;
#[path = "passes/mod.rs"]
pub mod passes;
#[path = "plan/mod.rs"]
pub mod plan;
#[path = "tensor/mod.rs"]
pub mod tensor;
#[path = "tune/mod.rs"]
pub mod tune;
#[path = "weights/mod.rs"]
pub mod weights;

/// The graph of a training step, and what a training takes.
#[cfg(feature = "training")]
pub mod training {
    pub use crate::train::checkpoint::{Checkpoint, RunProgress};
    pub use crate::train::memory_fit::MemoryFit;
    pub use crate::train::step::{StepInputs, TrainingStep, training_step};
    pub use crate::train::validation::ValidationMemory;
}

pub use geometry::{Padding, Position, Spacing};
pub use tensor::{DType, Data, Elements, KernelShape, Shape, Tensor, TensorType};
