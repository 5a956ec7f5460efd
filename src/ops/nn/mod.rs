//! Layers of networks, and their gradients.

mod activation;
mod activation_grad;
mod avg_pool;
mod avg_pool_grad;
mod batch_norm;
mod batch_norm_grad;
mod binary;
pub(crate) mod channel_sum;
mod concat;
mod conv2d;
mod dropout;
mod max_pool;
mod max_pool_grad;
mod resize;
mod resize_grad;
mod slice;
mod softmax;
mod window;

pub use activation::{Activate, Activation};
pub use activation_grad::ActivationGrad;
pub use avg_pool::{AvgPool, GlobalAvgPool};
pub use avg_pool_grad::AvgPoolGrad;
pub use batch_norm::BatchNorm;
pub use batch_norm_grad::BatchNormGrad;
pub use binary::{Add, Mul};
pub use channel_sum::ChannelSum;
pub use concat::Concat;
pub(crate) use conv2d::product;
pub use conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
pub use dropout::Dropout;
pub use max_pool::MaxPool;
pub use max_pool_grad::MaxPoolGrad;
pub use resize::Resize;
pub use resize_grad::ResizeGrad;
pub use slice::Slice;
pub use softmax::Softmax;
