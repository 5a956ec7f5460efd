//! Class weights of the loss: numbers, or a rule that computes them from the training masks.

use super::data::TrainingData;
use super::recipe::Recipe;
use crate::data::doctor::{ClassCount, count_classes};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Class weights as a recipe states them: `[1.0, 3.0]`, `"median-frequency"` or `"inverse-log"`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// One weight per class, each 0 or more.
    List(Vec<f32>),
    /// Computed from the training masks when the run starts.
    Rule(WeightRule),
}

/// A rule that computes class weights from pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRule {
    /// Median frequency balancing (Eigen and Fergus 2015, section 4.3.2; SegNet): the median of all
    /// classes' frequencies divided by the frequency of the class, each relative to the labeled
    /// pixels of the images that contain the class.
    MedianFrequency,
    /// `1 / ln(1.02 + p)` (ENet, Paszke et al. 2016, section 5.2) with `p` the fraction of the
    /// labeled pixels that belong to the class: from 1.4 to 50.
    InverseLog,
}

/// Kinds of weights, for messages.
const KINDS: &str = "a list of numbers, \"median-frequency\" or \"inverse-log\"";

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // `untagged` would not state what is expected.
        match Value::deserialize(from)? {
            list @ Value::Array(_) => serde_json::from_value(list)
                .map(Self::List)
                .map_err(|e| D::Error::custom(format!("expected {KINDS}: {e}"))),
            value => serde_json::from_value(value.clone())
                .map(Self::Rule)
                .map_err(|_| D::Error::custom(format!("expected {KINDS}, got {value}"))),
        }
    }
}

impl std::str::FromStr for ClassWeights {
    type Err = String;

    /// Parses the name of a rule, or numbers separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let value = Value::String(text.to_owned());
        if let Ok(rule) = serde_json::from_value(value) {
            return Ok(Self::Rule(rule));
        }
        let number = |text: &str| {
            text.trim().parse::<f32>().ok().filter(|weight| weight.is_finite() && *weight >= 0.0)
        };
        let list: Option<Vec<f32>> = text.split(',').map(number).collect();
        list.map(Self::List).ok_or_else(|| {
            "expected median-frequency, inverse-log, or a number for each class such as 1,3.5,0.2"
                .to_owned()
        })
    }
}

impl WeightRule {
    /// Returns the weights for pixel counts. Classes without a pixel have the weight 0: the rules
    /// would divide by 0, or give the largest weight to what is never seen.
    pub fn weights(self, counts: &[ClassCount]) -> Vec<f32> {
        let weight = |count: &ClassCount| match self {
            Self::MedianFrequency => count.median_weight,
            Self::InverseLog => count.log_weight,
        };
        counts.iter().map(|count| weight(count).unwrap_or(0.0) as f32).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::MedianFrequency => "median-frequency",
            Self::InverseLog => "inverse-log",
        }
    }

    /// Describes the weights in a line.
    fn line(self, counts: &[ClassCount], weights: &[f32], masks: usize) -> String {
        let seen = || counts.iter().zip(weights).filter(|(count, _)| count.pixels > 0);
        let end = |extreme: Option<(&ClassCount, &f32)>| {
            extreme
                .map_or_else(String::new, |(count, weight)| format!("{weight:.3} ({})", count.name))
        };
        let least = end(seen().min_by(|a, b| a.1.total_cmp(b.1)));
        let most = end(seen().max_by(|a, b| a.1.total_cmp(b.1)));
        let absent: Vec<&str> =
            counts.iter().filter(|c| c.pixels == 0).map(|c| c.name.as_str()).collect();
        let absent = match absent.as_slice() {
            [] => String::new(),
            names => format!("; 0 for what no mask has: {}", names.join(", ")),
        };
        format!("class weights: {} of {masks} masks, {least} to {most}{absent}", self.name())
    }
}

impl Recipe {
    /// Replaces a rule for class weights by the weights of the training masks, which are all read,
    /// on all cores. Calls `on_mask` after each, from any thread. Returns a line about it for
    /// people, or `None` if there is no rule.
    ///
    /// # Errors
    /// Returns an error that names the file if a mask cannot be read.
    pub fn resolve_class_weights(
        &mut self,
        data: &TrainingData,
        on_mask: impl Fn() + Sync,
    ) -> Result<Option<String>> {
        let Some(ClassWeights::Rule(rule)) = self.data.class_weights else { return Ok(None) };
        let counts = count_classes(&data.training, &data.table, on_mask)?;
        let weights = rule.weights(&counts);
        let line = rule.line(&counts, &weights, data.training.len());
        self.data.class_weights = Some(ClassWeights::List(weights));
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(class: usize, pixels: u64, weights: Option<(f64, f64)>) -> ClassCount {
        ClassCount {
            class,
            name: format!("c{class}"),
            pixels,
            share: 0.0,
            images: 1,
            median_weight: weights.map(|w| w.0),
            log_weight: weights.map(|w| w.1),
        }
    }

    #[test]
    fn a_rule_takes_its_weights_and_nothing_for_a_class_that_no_mask_has() {
        let counts =
            [count(0, 90, Some((0.5, 1.5))), count(1, 0, None), count(2, 10, Some((4.0, 9.0)))];
        let weights = WeightRule::MedianFrequency.weights(&counts);
        assert_eq!(weights, [0.5, 0.0, 4.0]);
        assert_eq!(WeightRule::InverseLog.weights(&counts), [1.5, 0.0, 9.0]);
        let line = WeightRule::MedianFrequency.line(&counts, &weights, 7);
        assert_eq!(
            line,
            "class weights: median-frequency of 7 masks, 0.500 (c0) to 4.000 (c2); 0 for what no mask has: c1"
        );
    }

    #[test]
    fn recipes_state_a_list_or_the_name_of_a_rule() {
        let list = ClassWeights::List(vec![1.0, 0.1, 3.0]);
        let rule = ClassWeights::Rule(WeightRule::InverseLog);
        for (text, weights) in [("[1, 0.1, 3.0]", &list), ("\"inverse-log\"", &rule)] {
            let recipe = Recipe::parse(&format!("[data]\nclass_weights = {text}\n")).unwrap();
            assert_eq!(recipe.data.class_weights.as_ref(), Some(weights));
            assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
        }
        for text in ["\"median\"", "3", "[1, \"x\"]", "{ a = 1 }"] {
            let text = format!("[data]\nclass_weights = {text}\n");
            let error = Recipe::parse(&text).unwrap_err().to_string();
            assert!(error.contains("\"median-frequency\""), "{error}");
        }
        assert_eq!("1,0.1, 3".parse(), Ok(list));
        assert_eq!("inverse-log".parse(), Ok(rule));
        for text in ["", "1,", "nan", "-1", "median"] {
            assert!(text.parse::<ClassWeights>().is_err(), "{text}");
        }
    }
}
