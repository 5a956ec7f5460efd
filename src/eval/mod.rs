//! How good labels are: the confusion matrix and the scores drawn from it.

mod chart;
mod confusion;
mod scores;

pub use chart::confusion_chart;
pub use confusion::Confusion;
pub use scores::{ClassScore, Scores};
