//! Where a network comes from, stored in the metadata of its files.

use crate::text::count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Metadata key of the [`ModelCard`], as JSON, in a weight file.
pub const CARD_KEY: &str = "atrous.card";

/// A model card: data, settings and scores of the training, so that a file states its origin without
/// the directory that it was made in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// The data set's directory.
    pub data: String,
    /// Number of training images.
    pub images: Option<usize>,
    /// Weights that training started from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The command that started the run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// License of the network, as its recipe states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The step that the weights are from.
    pub step: u64,
    /// Scores on the validation images at that step, if they were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<CardScores>,
    /// The recipe, all of it.
    pub recipe: serde_json::Value,
}

/// Scores of a [`ModelCard`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CardScores {
    /// Number of validation images.
    pub images: usize,
    /// Mean IoU of the classes that occur, 0 to 1.
    pub mean_iou: Option<f64>,
    /// Share of the pixels with the right class, 0 to 1.
    pub pixel_accuracy: Option<f64>,
}

impl ModelCard {
    /// Returns the card in a file's metadata. A damaged one is none: it describes, and decides
    /// nothing.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(metadata.get(CARD_KEY)?).ok()?;
        serde_json::from_value(fields.into()).ok()
    }

    /// Adds the card to the metadata of a file to write.
    pub fn add_to(&self, metadata: &mut BTreeMap<String, String>) {
        if let Ok(json) = serde_json::to_string(self) {
            metadata.insert(CARD_KEY.to_owned(), json);
        }
    }

    /// Returns the card in lines of a name and a text, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let images = self.images.map_or(String::new(), |n| format!(", {}", count(n, "image")));
        let mut lines = vec![("trained on", format!("{}{images}", self.data))];
        lines.extend(self.init.iter().map(|init| ("started from", init.clone())));
        lines.push(("step", self.step.to_string()));
        if let Some(scores) = &self.scores {
            let score = |name: &str, score: Option<f64>| {
                score.map_or(format!("{name} unknown"), |score| format!("{name} {score:.4}"))
            };
            lines.push((
                "scores",
                format!(
                    "{}, {} on {}",
                    score("mIoU", scores.mean_iou),
                    score("pixel accuracy", scores.pixel_accuracy),
                    count(scores.images, "validation image")
                ),
            ));
        }
        lines.push(("license", self.license.clone().unwrap_or_else(|| "not stated".to_owned())));
        if !self.command.is_empty() {
            lines.push(("command", self.command.clone()));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back_from_metadata_and_a_damaged_one_is_none() {
        let card = ModelCard {
            data: "camvid".to_owned(),
            images: Some(367),
            step: 3000,
            scores: Some(CardScores { images: 101, mean_iou: Some(0.56), pixel_accuracy: None }),
            ..ModelCard::default()
        };
        let mut metadata = BTreeMap::new();
        card.add_to(&mut metadata);
        assert_eq!(ModelCard::from_metadata(&metadata), Some(card.clone()));
        let text: Vec<String> =
            card.lines().into_iter().map(|(n, t)| format!("{n}: {t}")).collect();
        assert!(text[2].contains("mIoU 0.5600, pixel accuracy unknown on 101"), "{text:?}");
        let one = CardScores { images: 1, mean_iou: None, pixel_accuracy: None };
        let single = ModelCard { images: Some(1), scores: Some(one), ..card };
        let text = format!("{:?}", single.lines());
        assert!(text.contains(", 1 image\"") && text.contains("1 validation image\""), "{text}");
        for damaged in ["", "[]", "{\"step\": \"x\"}", "\u{0}"] {
            metadata.insert(CARD_KEY.to_owned(), damaged.to_owned());
            assert_eq!(ModelCard::from_metadata(&metadata), None, "{damaged:?}");
        }
    }
}
