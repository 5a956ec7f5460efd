//! Differences between a resumed run and the settings of its last checkpoint.

use super::checkpoint::RunProgress;
use super::context::RunContext;
use super::recipe::Recipe;
use serde_json::Value;
use std::collections::BTreeSet;

/// Changed settings, by their effect.
pub(super) struct Changes {
    /// Fields that have no effect on a resumed run.
    ignored: Vec<String>,
    /// Fields that do not affect the weights.
    harmless: Vec<String>,
    /// Fields that affect the remaining steps.
    effective: Vec<String>,
    /// Device of the checkpoint, and of this process.
    device: Option<(String, String)>,
}

/// Fields that decide when something is written, when the run ends, or how fast steps are, but not
/// what they compute.
pub(super) const HARMLESS: [&str; 4] =
    ["evaluate_every", "early_stopping", "checkpoint_every", "recompute"];

impl Changes {
    /// Compares the checkpoint's `progress` with the current recipe and context. Checkpoints of
    /// earlier versions do not record their settings; nothing is reported for them.
    pub(super) fn new(progress: &RunProgress, recipe: &Recipe, context: RunContext) -> Self {
        let (mut ignored, mut harmless, mut effective) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(then) = &progress.recipe {
            let mut fields = Vec::new();
            // Reserialize, so that keys renamed since an earlier version are not reported.
            let then = &serde_json::from_value(then.clone())
                .map_or_else(|_| then.clone(), |recipe: Recipe| recipe.to_json());
            compare("", then, &recipe.to_json(), &mut fields);
            for (field, then, now) in fields {
                let change = format!("`{field}` from {then} to {now}");
                // The network is read from the checkpoint.
                match field.as_str() {
                    name if name == "network" || name.starts_with("network.") => {
                        ignored.push(change);
                    }
                    name if HARMLESS.contains(&name) => harmless.push(change),
                    _ => effective.push(change),
                }
            }
        }
        let now = context.device_name();
        let is_other =
            |then: &String| *then != now && !(context.device.is_cpu() && then == OLD_CPU);
        let device = progress.device.clone().filter(is_other).map(|then| (then, now));
        Self { ignored, harmless, effective, device }
    }

    /// Warnings for the user, one per kind of change.
    pub(super) fn notes(&self) -> Vec<String> {
        let changed = |fields: &[String]| {
            format!("recipe.toml was changed since the last checkpoint ({})", fields.join(", "))
        };
        let mut notes = Vec::new();
        if !self.ignored.is_empty() {
            let changed = changed(&self.ignored);
            notes.push(format!(
                "{changed}, which is ignored: the checkpoint defines the network; start a new run to train another one"
            ));
        }
        if !self.harmless.is_empty() {
            notes.push(format!(
                "{}, which takes effect from here on and does not affect the weights",
                changed(&self.harmless)
            ));
        }
        if !self.effective.is_empty() {
            let changed = changed(&self.effective);
            notes.push(format!(
                "{changed}, which takes effect from here on: the weights will not be bit-identical to an uninterrupted run"
            ));
        }
        if let Some((then, now)) = &self.device {
            notes.push(format!(
                "resuming on {now}, but the last checkpoint was written on {then}: the weights will not be bit-identical to an uninterrupted run"
            ));
        }
        notes
    }
}

/// Name of the CPU in checkpoints of earlier versions.
const OLD_CPU: &str = "the processor";

/// Collects the differences of two JSON trees: path, old value and new value.
fn compare(path: &str, then: &Value, now: &Value, into: &mut Vec<(String, String, String)>) {
    if let (Value::Object(a), Value::Object(b)) = (then, now) {
        for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let value = |object: &serde_json::Map<String, Value>| {
                object.get(name).cloned().unwrap_or(Value::Null)
            };
            compare(&path, &value(a), &value(b), into);
        }
    } else if then != now {
        into.push((path.to_owned(), words(then), words(now)));
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Device;
    use crate::train::NetworkRecipe;

    fn notes(then: &Recipe, device: &str, now: &Recipe) -> Vec<String> {
        let progress = RunProgress {
            recipe: Some(then.to_json()),
            device: Some(device.to_owned()),
            ..RunProgress::default()
        };
        // As it comes from a file.
        let progress: RunProgress =
            serde_json::from_str(&serde_json::to_string(&progress).unwrap()).unwrap();
        let context = RunContext { device: &Device::Cpu, workers: 0, command: "", stop: None };
        Changes::new(&progress, now, context).notes()
    }

    #[test]
    fn changes_of_a_recipe_are_reported_with_their_effect() {
        let then = Recipe { learning_rate: 0.1, max_norm: None, ..Recipe::default() };
        for cpu in ["CPU", OLD_CPU] {
            assert_eq!(notes(&then, cpu, &then), [""; 0]);
        }
        let network =
            NetworkRecipe { backbone: Some("resnet18".into()), ..NetworkRecipe::default() };
        let now = Recipe {
            batch: 3,
            seed: 2,
            checkpoint_every: 1,
            network,
            max_norm: Some(5.0),
            ..then.clone()
        };
        let notes = notes(&then, "some card (Vulkan)", &now);
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(
            notes[0].contains("`network.backbone` from none to resnet18")
                && notes[0].contains("ignored"),
            "{notes:?}"
        );
        assert!(
            notes[1].contains("`checkpoint_every` from 250 to 1")
                && notes[1].contains("not affect the weights"),
            "{notes:?}"
        );
        for phrase in [
            "`batch` from 8 to 3",
            "`seed` from 1 to 2",
            "`max_norm` from none to 5.0",
            "not be bit-identical",
        ] {
            assert!(notes[2].contains(phrase), "{notes:?}");
        }
        assert!(
            notes[3].contains("on CPU") && notes[3].contains("some card (Vulkan)"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_checkpoint_of_an_earlier_version_says_nothing() {
        let progress: RunProgress =
            serde_json::from_str(r#"{"step":4,"best":null,"seconds":1.0}"#).unwrap();
        let context = RunContext { device: &Device::Cpu, workers: 0, command: "", stop: None };
        assert!(progress.counted && progress.losses.is_empty());
        assert_eq!(Changes::new(&progress, &Recipe::default(), context).notes(), [""; 0]);
    }
}
