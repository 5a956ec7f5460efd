//! Notes about tensors that are not part of the network.

use crate::text::excerpt;
use std::collections::BTreeMap;

/// Last components of tensors that count steps.
const COUNTERS: [&str; 6] =
    ["num_batches_tracked", "n_averaged", "num_updates", "updates", "decay", "steps"];
/// Maximum number of groups that a note lists.
const MAX_LISTED: usize = 6;

/// Returns whether a tensor counts steps.
pub(super) fn is_counter(name: &str) -> bool {
    COUNTERS.contains(&name.rsplit('.').next().unwrap_or(name))
}

/// Returns the note about the tensors `names`, which are not below `prefix`. `None` if they are
/// counters.
pub(super) fn note(prefix: &str, names: &[&str]) -> Option<String> {
    let names: Vec<&str> = names.iter().copied().filter(|name| !is_counter(name)).collect();
    let (count, plural) = (names.len(), if names.len() == 1 { "" } else { "s" });
    let place = prefix.trim_end_matches('.');
    (count > 0).then(|| {
        format!(
            "left out {count} tensor{plural} beside the network at `{}`: {}",
            excerpt(place),
            list(prefix, &names)
        )
    })
}

/// Lists tensors beside a prefix: `mean`, `loss_fn.*` (3), ...
pub(super) fn list(prefix: &str, names: &[&str]) -> String {
    let mut groups = BTreeMap::<String, (usize, bool)>::new();
    for name in names {
        let shared =
            prefix.split_inclusive('.').zip(name.split_inclusive('.')).take_while(|(a, b)| a == b);
        let start: usize = shared.map(|(component, _)| component.len()).sum();
        let end = name[start..].find('.').map(|dot| start + dot);
        let group = groups.entry(name[..end.unwrap_or(name.len())].to_owned()).or_default();
        *group = (group.0 + 1, end.is_some());
    }
    let listed = groups.iter().take(MAX_LISTED).map(|(name, &(count, is_module))| {
        let name = excerpt(name);
        if is_module { format!("`{name}.*` ({count})") } else { format!("`{name}`") }
    });
    let mut listed: Vec<String> = listed.collect();
    if groups.len() > MAX_LISTED {
        listed.push(format!("and {} more", groups.len() - MAX_LISTED));
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_grouped_by_what_differs_from_the_prefix() {
        let names =
            ["state_dict.loss.a", "state_dict.loss.b.c", "state_dict.mean", "ema.x", "ema.y"];
        assert_eq!(
            note("state_dict.model.", &names).unwrap(),
            "left out 5 tensors beside the network at `state_dict.model`: `ema.*` (2), \
             `state_dict.loss.*` (2), `state_dict.mean`"
        );
        assert_eq!(note("module.", &["n_averaged", "x.num_batches_tracked"]), None);
        let many: Vec<String> = (0..9).map(|i| format!("metric{i}.total")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(note("model.", &many).unwrap().ends_with("`metric5.*` (1), and 3 more"));
        assert!(note("model.", &["std"]).unwrap().starts_with("left out 1 tensor beside"));
    }
}
