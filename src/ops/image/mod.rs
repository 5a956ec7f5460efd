//! What is before and after a network: images to its input, and its logits to labels and painted
//! frames.

mod argmax;
mod class_counts;
mod flip;
mod paint;
mod preprocess;
mod preprocess_frame;
mod temporal_mean;
mod threshold;
mod upsample_argmax;
mod upsample_probabilities;
mod upsampling;

pub use argmax::Argmax;
pub use class_counts::ClassCounts;
pub use flip::Flip;
pub use paint::{Background, Effect, Paint, Style};
pub use preprocess::Preprocess;
pub use preprocess_frame::PreprocessFrame;
pub use temporal_mean::TemporalMean;
pub use threshold::Threshold;
pub use upsample_argmax::UpsampleArgmax;
pub use upsample_probabilities::UpsampleProbabilities;
pub use upsampling::Upsampling;
