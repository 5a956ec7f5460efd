//! Evaluation: test-time augmentation, the confusion matrix, and scores.

mod chart;
mod confusion;
mod distance;
mod evaluate;
mod options;
mod predictor;
mod scores;
mod segment;
mod trimap;
mod trimap_chart;
mod views;

pub use chart::confusion_chart;
pub use confusion::Confusion;
pub use evaluate::evaluate;
pub(crate) use evaluate::{evaluate_unless, ignored_labels};
pub use options::{PredictOptions, SlidingWindow};
pub use predictor::{Prediction, Predictor};
pub use scores::{ClassScore, Scores};
pub use trimap::{Band, Trimap, TrimapAround};
pub use trimap_chart::trimap_chart;
