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
mod gradients;
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
#[cfg(test)]
pub(crate) use bilinear::AxisParams;
pub use bilinear::{ResampleWindow, Rows};
pub use binary::{Add, Mul};
pub(crate) use built_in::is_built_in;
pub use channel_sum::ChannelSum;
pub use class_counts::ClassCounts;
pub use concat::Concat;
pub(crate) use conv2d::product;
pub use conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
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

pub use crate::geometry::Padding;
pub use crate::graph::{Cost, Op, Packing, Signature, TrainForm, bytes, kernel};

use crate::error::{Result, error};
use crate::tensor::Shape;

/// Checks the shape of the gradient of an operation's output.
pub(crate) fn expect_gradient(expected: Shape, got: Shape) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(error!(Graph, "expected a gradient of shape {expected}, got {got}"))
    }
}
