//! Operations, one file each: attributes, shape inference, CPU function, kernels and gradient.
//!
//! Executors, passes, tuner and printers use only [`Op`]. To add an operation, add its file here,
//! its shader in `shaders/`, and a line in the list of modules below.

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
mod upsampling;
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
pub use upsampling::Upsampling;

use crate::error::{Result, error};
use crate::graph::Backward;
use crate::tensor::{DType, Shape, Tensor, TensorType};
use kernel::{Kernel, KernelContext};
use std::any::Any;
use std::fmt;

/// Cost of one run of an operation, independent of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiply-adds, as papers count them (padding counts like image pixels).
    pub multi_adds: u64,
    /// Bytes of inputs, parameters and outputs, each read or written once.
    pub bytes: u64,
}

/// Layout of a parameter in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// `[n, h, w, c]` with the channels zero-padded to a multiple of four.
    Channels,
    /// Like [`Packing::Channels`], with `w` (a kernel's input channels) also zero-padded to a
    /// multiple of four.
    Matrix,
}

/// An operation of a graph: everything that executors, passes and printers need to know.
pub trait Op: fmt::Debug + Send + Sync + Any {
    /// Name of the operation, the same for all instances: `conv2d`.
    fn name(&self) -> &'static str;

    /// Attributes in short form, for tables: `3x3 s2 d1 relu6`.
    fn attributes(&self) -> String {
        String::new()
    }

    /// Infers the types of the outputs from the types of the inputs.
    ///
    /// # Errors
    /// Returns an error that states the expected types if the inputs do not fit. The graph adds the
    /// node's name.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>>;

    /// Returns the cost. The default is no multiply-adds, and each input and output read or written
    /// once.
    fn cost(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Cost {
        Cost { multi_adds: 0, bytes: bytes(inputs) + bytes(outputs) }
    }

    /// Computes the outputs on the CPU; the reference for all kernels. The outputs have the
    /// inferred types and unspecified contents. The inputs have the types that [`Op::infer`]
    /// accepted.
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()>;

    /// Upper bound on the bytes that [`Op::cpu`] allocates in addition to inputs and outputs, on
    /// `threads` threads. Buffers of a few rows are not counted. The bound is checked before a
    /// graph runs, because a failed allocation during the run aborts the process.
    fn cpu_scratch(&self, _inputs: &[TensorType], _outputs: &[TensorType], _threads: usize) -> u64 {
        0
    }

    /// Lists the kernels for a device, the one expected to be fastest first. All compute the same
    /// values within rounding.
    fn kernels(&self, context: &KernelContext) -> Vec<Kernel>;

    /// Adds the nodes that compute the gradients of the inputs from those of the outputs.
    ///
    /// Implementations do not accumulate gradients;
    /// [`Graph::gradients`](crate::graph::Graph::gradients) does.
    ///
    /// # Errors
    /// Returns an error if the operation has no gradient, which is the default.
    fn gradient(&self, _backward: &mut Backward) -> Result<()> {
        Err(error!(Graph, "operation has no gradient")
            .advice("compute the loss from the scores before it"))
    }

    /// Pairs `(input, output)` of the same type in which the output overwrites the input. On
    /// devices the two share a buffer. Kernels bind only the output, which contains the input when
    /// they start.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// Returns the packing of input `index` in device memory if that input is a parameter.
    fn packing(&self, _index: usize) -> Packing {
        Packing::Channels
    }
}

impl dyn Op {
    /// Returns whether this is an operation of type `T`.
    pub fn is<T: Op>(&self) -> bool {
        (self as &dyn Any).is::<T>()
    }

    /// Returns this as an operation of type `T`, for passes that read attributes.
    pub fn downcast_ref<T: Op>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Returns the bytes of tensors of the given types, in host layout.
pub fn bytes(types: &[TensorType]) -> u64 {
    let each = types.iter().map(|t| (t.shape.len() as u64).saturating_mul(t.dtype.size() as u64));
    each.fold(0, u64::saturating_add)
}

/// Checks the shape of the gradient of an operation's output.
pub(crate) fn expect_gradient(expected: Shape, got: Shape) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(error!(Graph, "expected a gradient of shape {expected}, got {got}"))
    }
}

/// Checks that there are `count` inputs and that all are f32.
pub(crate) fn expect_f32(inputs: &[TensorType], count: usize) -> Result<()> {
    if inputs.len() != count {
        return Err(error!(Graph, "expected {count} inputs, got {}", inputs.len()));
    }
    match inputs.iter().position(|t| t.dtype != DType::F32) {
        Some(i) => Err(error!(Graph, "input {i} must be f32, got {:?}", inputs[i].dtype)),
        None => Ok(()),
    }
}
