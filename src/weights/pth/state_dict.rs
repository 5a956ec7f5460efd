//! Finding the state dict in a checkpoint.

use super::tensor::is_tensor;
use super::value::{Id, Node, Values};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Common keys of the state dict in a checkpoint, in search order: averaged weights come after the
/// weights themselves.
const KEYS: [&str; 7] =
    ["state_dict", "model_state", "model_state_dict", "model", "model_ema", "net", "network"];
/// Maximum nesting depth of the search.
const MAX_DEPTH: usize = 8;
/// Maximum size of the metadata in bytes; further entries are omitted. A pickle can repeat one long
/// string under many keys.
const MAX_METADATA: usize = 1 << 20;
/// Prefix that `DistributedDataParallel` adds to every name.
const PREFIX: &str = "module.";

/// The state dict of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct StateDict<'a> {
    /// Unique names with their values, in order.
    pub entries: Vec<(&'a str, Id)>,
    /// Numbers and strings in the enclosing dicts: epochs, scores, configurations.
    pub metadata: BTreeMap<String, String>,
}

/// Finds the state dict: the top-level object, or an entry with a common key, or else the dict with
/// the most tensors, and among equals the deepest. `None` if no dict contains tensors.
pub(super) fn find<'a>(values: &Values<'a>) -> Option<StateDict<'a>> {
    let mut metadata = BTreeMap::new();
    let dict = find_by_key(values, values.root, &mut metadata).or_else(|| largest(values))?;
    let mut entries = unique_entries(values, dict);
    // Scalars in the state dict itself are metadata, not tensors.
    collect_scalars(values, dict, &mut metadata);
    entries.retain(|&(_, id)| scalar(values, id).is_none());
    while !entries.is_empty()
        && entries.iter().all(|(name, _)| name.len() > PREFIX.len() && name.starts_with(PREFIX))
    {
        for (name, _) in &mut entries {
            *name = &name[PREFIX.len()..];
        }
    }
    Some(StateDict { entries, metadata })
}

/// Returns whether at least half of a dict's values are tensors.
fn is_state_dict(values: &Values<'_>, id: Id) -> bool {
    let Some(items) = values.entries(id) else { return false };
    let tensors = items.iter().filter(|&&(_, value)| is_tensor(values, value)).count();
    tensors > 0 && 2 * tensors >= items.len()
}

fn find_by_key(
    values: &Values<'_>,
    root: Id,
    metadata: &mut BTreeMap<String, String>,
) -> Option<Id> {
    let mut dict = root;
    for _ in 0..MAX_DEPTH {
        if is_state_dict(values, dict) {
            return Some(dict);
        }
        collect_scalars(values, dict, metadata);
        let items = values.entries(dict)?;
        let inner_dict = |key: &str| {
            let item = items.iter().rev().find(|&&(name, _)| values.str(name) == Some(key));
            item.map(|&(_, value)| value).filter(|&value| values.entries(value).is_some())
        };
        dict = KEYS.iter().find_map(|key| inner_dict(key))?;
    }
    None
}

/// Returns the dict with the most tensors, searching dicts, lists and tuples breadth-first.
fn largest(values: &Values<'_>) -> Option<Id> {
    let mut seen = HashSet::from([values.root]);
    let mut queue = VecDeque::from([(values.root, 0)]);
    let mut best: Option<(usize, Id)> = None;
    while let Some((id, depth)) = queue.pop_front() {
        if is_state_dict(values, id) {
            let count = unique_entries(values, id).len();
            // Later dicts are at least as deep.
            if best.is_none_or(|(best_count, _)| count >= best_count) {
                best = Some((count, id));
            }
        }
        if depth == MAX_DEPTH {
            continue;
        }
        let children: Vec<Id> = match (values.entries(id), values.sequence(id)) {
            (Some(items), _) => items.iter().map(|&(_, value)| value).collect(),
            (None, Some(ids)) => ids.to_vec(),
            (None, None) => continue,
        };
        queue.extend(
            children
                .into_iter()
                .filter(|child| seen.insert(*child))
                .map(|child| (child, depth + 1)),
        );
    }
    best.map(|(_, id)| id)
}

/// Returns the entries of a dict with string keys. A repeated key has the position of its first and
/// the value of its last occurrence, as in Python.
fn unique_entries<'a>(values: &Values<'a>, dict: Id) -> Vec<(&'a str, Id)> {
    let items = values.entries(dict).unwrap_or_default();
    let mut positions = HashMap::with_capacity(items.len());
    let mut out: Vec<(&str, Id)> = Vec::with_capacity(items.len());
    for &(key, value) in items {
        let Some(name) = values.str(key) else { continue };
        let position = *positions.entry(name).or_insert(out.len());
        match out.get_mut(position) {
            Some(entry) => entry.1 = value,
            None => out.push((name, value)),
        }
    }
    out
}

/// Adds the numbers and strings of a dict to the metadata, up to the size limit.
fn collect_scalars(values: &Values<'_>, dict: Id, metadata: &mut BTreeMap<String, String>) {
    let used = metadata.iter().map(|(name, text)| name.len() + text.len()).sum();
    let mut remaining = MAX_METADATA.saturating_sub(used);
    for (name, id) in unique_entries(values, dict) {
        let Some(text) = scalar(values, id) else { continue };
        let Some(rest) = remaining.checked_sub(name.len() + text.len()) else { return };
        remaining = rest;
        metadata.insert(name.to_owned(), text.into_owned());
    }
}

/// Returns a number or string as text, `None` for other values.
fn scalar<'a>(values: &Values<'a>, id: Id) -> Option<Cow<'a, str>> {
    match values.get(id) {
        Node::Bool(b) => Some(b.to_string().into()),
        Node::Int(i) => Some(i.to_string().into()),
        Node::Float(f) => Some(f.to_string().into()),
        Node::Str(s) => Some(Cow::Borrowed(s)),
        _ => None,
    }
}
