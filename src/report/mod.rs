//! What a training run tells about itself: `log.jsonl`, TensorBoard's event files, `report.html`.

pub mod html;
mod log;
mod record;
mod tensorboard;

pub use log::{LOG, Resumed, RunLog, read};
pub use record::{EndRecord, EvaluationRecord, NoteRecord, Record, StartRecord, StepRecord};
