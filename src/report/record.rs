//! The records of a run in `log.jsonl`.

use crate::eval::Scores;
use serde::{Deserialize, Serialize};

/// One line of `log.jsonl`: an object whose `kind` is `start`, `note`, `step`, `evaluation` or
/// `end`.
///
/// `step` is always the number of completed steps (updates of the weights): after the first one it
/// is 1. Numbers that are not finite are `null` in the file, since JSON cannot represent them, and
/// NaN when read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The run was started or resumed.
    Start(StartRecord),
    /// A warning to the user.
    Note(NoteRecord),
    /// Training progress since the last record of this kind.
    Step(StepRecord),
    /// The network was evaluated on the validation images.
    Evaluation(EvaluationRecord),
    /// The run ended, without being killed.
    End(EndRecord),
}

impl Record {
    /// Number of completed steps.
    pub fn step(&self) -> u64 {
        match self {
            Record::Start(r) => r.step,
            Record::Note(r) => r.step,
            Record::Step(r) => r.step,
            Record::Evaluation(r) => r.step,
            Record::End(r) => r.step,
        }
    }
}

/// Start of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StartRecord {
    /// Number of completed steps: 0, or that of the checkpoint.
    pub step: u64,
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Command line.
    pub command: String,
    /// Device.
    pub device: String,
    /// Network.
    pub network: String,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// The recipe, including default values.
    pub config: serde_json::Value,
}

/// A warning to the user.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Number of completed steps.
    pub step: u64,
    /// The warning.
    pub text: String,
}

/// Training progress.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of completed steps.
    pub step: u64,
    /// Number of passes over the training images: 1.5 is in the middle of the second.
    pub epoch: f64,
    /// Mean loss of the last steps.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// Learning rate.
    #[serde(deserialize_with = "or_nan", alias = "rate")]
    pub learning_rate: f64,
    /// Norm of the gradient before clipping, if it was computed.
    pub gradient_norm: Option<f64>,
    /// Training images per second.
    #[serde(deserialize_with = "or_nan", alias = "pictures_per_second")]
    pub images_per_second: f64,
    /// Fraction of the time that the device waited for data, 0 to 1.
    #[serde(deserialize_with = "or_nan")]
    pub idle: f64,
    /// Training time so far in seconds, without breaks between starts.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
}

/// Scores on the validation images, as fractions of 1; `None` if no pixel counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Number of completed steps.
    pub step: u64,
    /// Duration of the evaluation in seconds.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
    /// Mean IoU of the classes that occur in the truth.
    pub mean_iou: Option<f64>,
    /// Fraction of correct pixels.
    pub pixel_accuracy: Option<f64>,
    /// Mean accuracy of the classes that occur in the truth.
    pub mean_accuracy: Option<f64>,
    /// Mean loss of the pixels that count, as in training but without hard-pixel mining. Not recorded
    /// by earlier versions.
    #[serde(default)]
    pub loss: Option<f64>,
    /// IoU of each class, by number; `None` for classes that do not occur.
    pub class_ious: Vec<Option<f64>>,
    /// Number of classes that occur in the truth. 0 in records of earlier versions, which did not
    /// state it.
    #[serde(default)]
    pub covered_classes: usize,
    /// Whether this is the best mIoU so far.
    pub best: bool,
}

impl EvaluationRecord {
    /// Creates a record from `scores`, without a loss.
    pub fn new(step: u64, seconds: f64, scores: &Scores, best: bool) -> Self {
        Self {
            step,
            seconds,
            mean_iou: scores.mean_iou,
            pixel_accuracy: scores.pixel_accuracy,
            mean_accuracy: scores.mean_accuracy,
            loss: None,
            class_ious: scores.classes.iter().map(|c| c.iou).collect(),
            covered_classes: scores.covered_classes(),
            best,
        }
    }
}

/// End of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EndRecord {
    /// Number of completed steps.
    pub step: u64,
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Total training time in seconds, without breaks between starts.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
    /// Reason: `finished`, `stopped by the user`, or the error.
    pub reason: String,
}

fn or_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}
