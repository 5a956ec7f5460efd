//! How good labels are: how a network is asked, the confusion matrix, and the scores drawn from it.

mod chart;
mod confusion;
mod distance;
mod evaluate;
mod predictor;
mod scores;
mod trimap;
mod trimap_chart;
mod views;

pub use chart::confusion_chart;
pub use confusion::Confusion;
pub(crate) use evaluate::count_unless;
pub use evaluate::{Scored, evaluate, ignored};
pub use predictor::{Method, Prediction, Predictor, Windows};
pub use scores::{ClassScore, Scores};
pub use trimap::{Band, Trimap, TrimapAround};
pub use trimap_chart::trimap_chart;
