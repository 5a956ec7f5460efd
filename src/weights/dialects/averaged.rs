//! Which prefix marks the moving average of a network's weights.

use super::Tensors;

/// Words of a component that mark averages: `model_ema`, `state_dict_ema`, `averaged_model`,
/// `swa_model`.
const WORDS: [&str; 6] = ["ema", "averaged", "average", "avg", "swa", "shadow"];
/// Key of OpenMMLab's checkpoints for the weights that are not averaged: its hook swaps them with
/// those under `state_dict`.
const SWAPPED: &str = "ema_state_dict.";

/// Returns whether the network at `prefix` is an average.
pub(super) fn is_averaged(tensors: &Tensors, prefix: &str) -> bool {
    let is_swapped = tensors.has(&format!("{SWAPPED}steps"));
    if is_swapped && prefix.starts_with(SWAPPED) {
        return false;
    }
    if is_swapped && prefix.starts_with("state_dict.") {
        return true;
    }
    // PyTorch's `AveragedModel` counts the models beside `module.`.
    let parent = prefix.strip_suffix("module.");
    if parent.is_some_and(|parent| tensors.has(&format!("{parent}n_averaged"))) {
        return true;
    }
    let components = prefix.split('.').map(str::to_ascii_lowercase);
    components.into_iter().any(|c| c.split(['_', '-']).any(|word| WORDS.contains(&word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::dialects::StoredWeights;

    fn tensors(names: &[&str]) -> Tensors {
        let tensors = names.iter().map(|name| (name.to_string(), vec![], vec![0.0])).collect();
        Tensors::of(&StoredWeights { tensors, ..StoredWeights::default() })
    }

    #[test]
    fn averages_are_marked_by_words_or_a_counter() {
        let none = tensors(&[]);
        for prefix in [
            "ema.",
            "model_ema.",
            "state_dict_ema.",
            "ema_model.module.",
            "callbacks.EMA.weights.",
            "averaged_model.",
            "swa_model.module.",
        ] {
            assert!(is_averaged(&none, prefix), "{prefix}");
        }
        for prefix in
            ["", "model.", "module.", "semantic.", "schema_model.", "teacher.", "avgpool."]
        {
            assert!(!is_averaged(&none, prefix), "{prefix}");
        }
        let counted = tensors(&["averages.n_averaged", "n_averaged"]);
        assert!(is_averaged(&counted, "module.") && is_averaged(&counted, "averages.module."));
        assert!(!is_averaged(&counted, "model.module."));
    }

    #[test]
    fn openmmlab_swaps_the_average_with_the_weights() {
        let swapped = tensors(&["ema_state_dict.steps"]);
        assert!(is_averaged(&swapped, "state_dict."));
        assert!(!is_averaged(&swapped, "ema_state_dict.module."));
        assert!(is_averaged(&tensors(&[]), "ema_state_dict.module."));
    }
}
