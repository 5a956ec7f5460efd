//! What differs when a run is resumed from how its steps were made so far.

use super::checkpoint::RunProgress;
use super::recipe::Recipe;
use super::run::RunContext;
use serde_json::Value;
use std::collections::BTreeSet;

/// What differs, in words.
pub(super) struct Changes {
    /// Fields that mean nothing any more.
    ignored: Vec<String>,
    /// Fields that change no weight.
    harmless: Vec<String>,
    /// Fields that change the steps to come.
    effective: Vec<String>,
    device: Option<(String, String)>,
}

/// Fields that decide when something is written, or how fast steps are made, but not what they
/// compute.
const HARMLESS: [&str; 3] = ["evaluate_every", "checkpoint_every", "recompute"];

impl Changes {
    /// `progress` is the checkpoint's, the rest is today's. Checkpoints of earlier versions do not
    /// say what they were made with: nothing differs.
    pub(super) fn new(progress: &RunProgress, recipe: &Recipe, setting: RunContext) -> Self {
        let (mut ignored, mut harmless, mut effective) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(then) = &progress.recipe {
            let mut fields = Vec::new();
            // Read and written again, keys that had another name in earlier versions are no change.
            let then = &serde_json::from_value(then.clone())
                .map_or_else(|_| then.clone(), |recipe: Recipe| recipe.to_json());
            compare("", then, &recipe.to_json(), &mut fields);
            for (field, then, now) in fields {
                let told = format!("`{field}` from {then} to {now}");
                // The checkpoint says which network it is of.
                match field.as_str() {
                    name if name == "network" || name.starts_with("network.") => ignored.push(told),
                    name if HARMLESS.contains(&name) => harmless.push(told),
                    _ => effective.push(told),
                }
            }
        }
        let now = setting.device_name();
        let device = progress.device.clone().filter(|then| *then != now).map(|then| (then, now));
        Self { ignored, harmless, effective, device }
    }

    /// What to say of them.
    pub(super) fn notes(&self) -> Vec<String> {
        let changed = |fields: &[String]| {
            format!("recipe.toml was changed since the last checkpoint ({})", fields.join(", "))
        };
        let mut notes = Vec::new();
        if !self.ignored.is_empty() {
            let changed = changed(&self.ignored);
            notes.push(format!(
                "{changed}, which is ignored: the network is the checkpoint's; begin another run to train another one"
            ));
        }
        if !self.harmless.is_empty() {
            notes.push(format!(
                "{}, which takes effect from here on and changes no weight",
                changed(&self.harmless)
            ));
        }
        if !self.effective.is_empty() {
            let changed = changed(&self.effective);
            notes
                .push(format!("{changed}, which takes effect from here on: the weights will not be the bits of an unbroken run"));
        }
        if let Some((then, now)) = &self.device {
            notes.push(format!(
                "the run goes on on {now}, its last checkpoint was made on {then}: the weights will not be the bits of an unbroken run"
            ));
        }
        notes
    }
}

/// Where two trees differ: the path, and the two values in words.
fn compare(path: &str, then: &Value, now: &Value, into: &mut Vec<(String, String, String)>) {
    if let (Value::Object(a), Value::Object(b)) = (then, now) {
        for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let value =
                |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or(Value::Null);
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
        let setting = RunContext { device: &Device::Cpu, workers: 0, command: "", stop: None };
        Changes::new(&progress, now, setting).notes()
    }

    #[test]
    fn what_was_changed_in_a_recipe_is_said_with_what_becomes_of_it() {
        let then = Recipe { rate: 0.1, max_norm: None, ..Recipe::default() };
        assert_eq!(notes(&then, "the processor", &then), [""; 0]);
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
            notes[1].contains("`checkpoint_every` from 250 to 1") && notes[1].contains("no weight"),
            "{notes:?}"
        );
        for part in [
            "`batch` from 8 to 3",
            "`seed` from 1 to 2",
            "`max_norm` from none to 5.0",
            "not be the bits",
        ] {
            assert!(notes[2].contains(part), "{notes:?}");
        }
        assert!(
            notes[3].contains("on the processor") && notes[3].contains("some card (Vulkan)"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_checkpoint_of_an_earlier_version_says_nothing() {
        let progress: RunProgress =
            serde_json::from_str(r#"{"step":4,"best":null,"seconds":1.0}"#).unwrap();
        let setting = RunContext { device: &Device::Cpu, workers: 0, command: "", stop: None };
        assert!(progress.counted && progress.losses.is_empty());
        assert_eq!(Changes::new(&progress, &Recipe::default(), setting).notes(), [""; 0]);
    }
}
