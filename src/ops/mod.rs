//! Operations: one file each, with everything about it.
//!
//! The executors, passes, tuner and printers call nothing but [`Op`]. To add an operation: its file
//! here, its shader in `shaders/`, and its line in the list of modules below.

mod accumulate;
mod activation;
mod activation_grad;
mod adam_w;
mod align;
mod argmax;
mod avg_pool;
mod avg_pool_grad;
mod batch_norm;
mod batch_norm_grad;
mod batch_norm_train;
mod bilinear;
mod binary;
mod built_in;
mod channel_sum;
mod class_counts;
mod concat;
mod conv2d;
mod dropout;
mod dropout_train;
pub mod flat;
mod flip;
mod gradient_scale;
pub mod kernel;
mod max_pool;
mod max_pool_grad;
mod paint;
mod pixel_loss;
mod preprocess;
mod preprocess_frame;
mod resize;
mod resize_grad;
mod running_statistics;
mod sgd;
mod slice;
mod softmax;
mod temporal_mean;
mod upsample_argmax;
mod upsample_softmax;
mod wide;
mod window;

pub use accumulate::Accumulate;
pub use activation::{Activate, Activation};
pub use activation_grad::ActivationGrad;
pub use adam_w::AdamW;
pub use align::Align;
pub use argmax::Argmax;
pub use avg_pool::{AvgPool, GlobalAvgPool};
pub use avg_pool_grad::AvgPoolGrad;
pub use batch_norm::BatchNorm;
pub use batch_norm_grad::BatchNormGrad;
pub use batch_norm_train::BatchNormTrain;
pub use bilinear::{ResampleWindow, Rows};
pub use binary::{Add, Mul};
pub(crate) use built_in::is_built_in;
pub use channel_sum::ChannelSum;
pub use class_counts::ClassCounts;
pub use concat::Concat;
pub(crate) use conv2d::product;
pub use conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, Padding};
pub use dropout::Dropout;
pub use dropout_train::DropoutTrain;
pub use flip::Flip;
pub use gradient_scale::GradientScale;
pub use max_pool::MaxPool;
pub use max_pool_grad::MaxPoolGrad;
pub use paint::{Background, Effect, Paint, Style};
pub use pixel_loss::{Denominator, Dice, PixelLoss, SegmentationLoss};
pub use preprocess::Preprocess;
pub use preprocess_frame::PreprocessFrame;
pub use resize::Resize;
pub use resize_grad::ResizeGrad;
pub use running_statistics::RunningStatistics;
pub use sgd::Sgd;
pub use slice::Slice;
pub use softmax::Softmax;
pub use temporal_mean::TemporalMean;
pub use upsample_argmax::UpsampleArgmax;
pub use upsample_softmax::UpsampleSoftmax;

use crate::error::{Result, error};
use crate::graph::Backward;
use crate::tensor::{DType, Shape, Tensor, TensorType};
use kernel::{Kernel, KernelContext};
use std::any::Any;
use std::fmt;

/// What one run of an operation costs, however it is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiplications with an addition, as papers count them (padding counts as if it were image).
    pub multi_adds: u64,
    /// Bytes read and written once: inputs, parameters and outputs.
    pub bytes: u64,
}

/// How a parameter lies in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// `[n, h, w, c]` with the channels padded to a multiple of four by zeros.
    Channels,
    /// As [`Packing::Channels`], and `w` (a kernel's input channels) padded to a multiple of four
    /// by zeros too.
    Matrix,
}

/// The whole contract of an operation.
pub trait Op: fmt::Debug + Send + Sync + Any {
    /// The operation's name, the same for all its instances: `conv2d`.
    fn name(&self) -> &'static str;

    /// Its attributes, short, for tables: `3x3 s2 d1 relu6`.
    fn attributes(&self) -> String {
        String::new()
    }

    /// Types of the outputs for inputs of the given types. Errors say what was expected; the graph
    /// adds the node's name.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>>;

    /// Multi-Adds and bytes. By default no Multi-Adds, and every input and output once.
    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        Cost { multi_adds: 0, bytes: bytes(inputs) + bytes(outputs) }
    }

    /// The reference: computes the outputs from the inputs on the processor. The outputs come in
    /// with the inferred types and unspecified contents. Inputs have the types that [`Op::infer`]
    /// accepted.
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()>;

    /// Bytes that [`Op::cpu`] takes at most beside inputs and outputs, on `threads` threads; what
    /// is no more than some rows counts as nothing. They are checked before a graph runs, since
    /// what fails to be allocated in between ends the process.
    fn cpu_scratch(&self, _inputs: &[TensorType], _outputs: &[TensorType], _threads: usize) -> u64 {
        0
    }

    /// The ways to compute it on a device, the one expected to be fastest first. All give the same
    /// numbers within rounding.
    fn kernels(&self, context: &KernelContext) -> Vec<Kernel>;

    /// Adds the nodes that compute the gradients of the inputs from those of the outputs. A rule
    /// never adds gradients up (see [`Graph::gradients`](crate::graph::Graph::gradients)).
    ///
    /// # Errors
    /// Where the operation has no rule: by default.
    fn gradient(&self, _backward: &mut Backward) -> Result<()> {
        Err(error!(Graph, "has no gradient").advice("train on the scores before it"))
    }

    /// Inputs that are overwritten by an output of the same type: `(input, output)`. On devices the
    /// two are one buffer, and kernels bind the output alone, which holds the input when they
    /// begin.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// How input `index` must lie in device memory where it is a parameter.
    fn packing(&self, _index: usize) -> Packing {
        Packing::Channels
    }
}

impl dyn Op {
    /// Whether this is an operation of type `T`.
    pub fn is<T: Op>(&self) -> bool {
        (self as &dyn Any).is::<T>()
    }

    /// This as an operation of type `T`, for passes that read attributes.
    pub fn downcast_ref<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Bytes of tensors of the given types, in host layout.
pub fn bytes(types: &[TensorType]) -> u64 {
    let each = types.iter().map(|t| (t.shape.len() as u64).saturating_mul(t.dtype.size() as u64));
    each.fold(0, u64::saturating_add)
}

/// Checks the shape of the gradient that arrives at an operation's output.
pub(crate) fn expect_gradient(expected: Shape, got: Shape) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(error!(Graph, "expected a gradient of shape {expected}, got {got}")),
    }
}

/// Checks how many inputs there are, and that they are f32.
pub(crate) fn expect_f32(inputs: &[TensorType], count: usize) -> Result<()> {
    if inputs.len() != count {
        return Err(error!(Graph, "takes {count} inputs, got {}", inputs.len()));
    }
    match inputs.iter().position(|t| t.dtype != DType::F32) {
        Some(i) => Err(error!(Graph, "input {i} must be f32, got {:?}", inputs[i].dtype)),
        None => Ok(()),
    }
}
