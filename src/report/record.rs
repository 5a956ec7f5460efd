//! The records of a run, as they stand in `log.jsonl`.

use crate::eval::Scores;
use serde::{Deserialize, Serialize};

/// One line of `log.jsonl`: an object whose `kind` is `start`, `note`, `step`, `evaluation` or
/// `end`.
///
/// `step` is everywhere the number of steps (updates of the weights) that are done: after the first
/// one it is 1. Numbers that are not finite are `null` in the file, since JSON has none, and NaN
/// when they are read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The program was started, or resumed.
    Start(StartRecord),
    /// Something is not as it should be, or not as it was before: see its text.
    Note(NoteRecord),
    /// A step was made, or the last one of those that are told together.
    Step(StepRecord),
    /// The network was scored on the validation images.
    Evaluation(EvaluationRecord),
    /// The program ended by itself.
    End(EndRecord),
}

impl Record {
    /// Steps that were done when this was written.
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

/// What runs, where, and on what.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StartRecord {
    /// Steps that are done already: 0, or where a checkpoint goes on.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// The command line.
    pub command: String,
    /// The device, in words.
    pub device: String,
    /// The network, in words.
    pub network: String,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// All settings of the run.
    pub config: serde_json::Value,
}

/// What the user was warned of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Steps done.
    pub step: u64,
    /// In words.
    pub text: String,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: u64,
    /// Passes over the training images so far: 1.5 is in the middle of the second.
    pub epoch: f64,
    /// The loss.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// The learning rate.
    #[serde(deserialize_with = "or_nan")]
    pub rate: f64,
    /// Norm of the gradient before clipping, where it was computed.
    pub gradient_norm: Option<f64>,
    /// Images trained on per second.
    #[serde(deserialize_with = "or_nan", alias = "pictures_per_second")]
    pub images_per_second: f64,
    /// Share of the time in which the device waited for data, 0 to 1.
    #[serde(deserialize_with = "or_nan")]
    pub idle: f64,
    /// Seconds that training has taken up to here, breaks between two starts left out.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
}

/// Scores on the validation images. Fractions of 1; `None` where no pixel counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Steps done.
    pub step: u64,
    /// Seconds that the evaluation took.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
    /// Mean of the classes' IoU, over the classes that occur in the truth.
    pub mean_iou: Option<f64>,
    /// Right pixels over all that count.
    pub pixel_accuracy: Option<f64>,
    /// Mean of the classes' accuracies, over the classes that occur in the truth.
    pub mean_accuracy: Option<f64>,
    /// Each class's IoU, by number; `None` for a class that does not occur.
    pub class_ious: Vec<Option<f64>>,
    /// Whether no evaluation before was as good.
    pub best: bool,
}

impl EvaluationRecord {
    /// The record of `scores`.
    pub fn new(step: u64, seconds: f64, scores: &Scores, best: bool) -> Self {
        Self {
            step,
            seconds,
            mean_iou: scores.mean_iou,
            pixel_accuracy: scores.pixel_accuracy,
            mean_accuracy: scores.mean_accuracy,
            class_ious: scores.classes.iter().map(|c| c.iou).collect(),
            best,
        }
    }
}

/// How the program ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EndRecord {
    /// Steps done.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// Seconds that training has taken in all, breaks between two starts left out.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
    /// Why, in words: `finished`, `stopped by the user`, or the error.
    pub reason: String,
}

fn or_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}
