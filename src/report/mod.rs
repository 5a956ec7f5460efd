//! Reports of a training run: `log.jsonl`, event files for TensorBoard, and `report.html`.

pub mod html;
mod learning_rate;
mod log;
mod record;
mod tensorboard;

pub use learning_rate::learning_rate_plot;
pub use log::{LOG, Resumed, RunLog, read};
pub use record::{EndRecord, EvaluationRecord, NoteRecord, Record, StartRecord, StepRecord};
