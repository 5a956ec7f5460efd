//! What only trainings run: layers that differ in training, losses, sums of the gradients of several
//! batches, and updates.

mod accumulate;
mod adam_w;
mod align;
mod batch_norm_train;
mod dropout_train;
pub mod flat;
mod gradient_scale;
mod pixel_loss;
mod running_statistics;
mod sgd;

pub use accumulate::Accumulate;
pub use adam_w::{AdamW, Moments};
pub use align::Align;
pub use batch_norm_train::BatchNormTrain;
pub use dropout_train::DropoutTrain;
pub use gradient_scale::GradientScale;
pub use pixel_loss::{Denominator, Dice, LOSS_TERMS, LossTerm, PixelLoss, SegmentationLoss};
pub use running_statistics::RunningStatistics;
pub use sgd::Sgd;
