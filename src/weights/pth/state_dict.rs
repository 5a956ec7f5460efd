//! Finding the state dict in whatever a training script has saved around it.

use super::tensor::is_tensor;
use super::value::{Id, Node, Values};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Where scripts put the state dict, in the order in which they are tried: an average of the
/// weights only where the weights themselves are not there.
const KEYS: [&str; 7] =
    ["state_dict", "model_state", "model_state_dict", "model", "model_ema", "net", "network"];
/// Nesting that is followed.
const MAX_DEPTH: usize = 8;
/// Text beside the state dict that is kept, in bytes; what comes after that is left out. A pickle
/// can repeat one long string under many keys.
const MAX_TEXT: usize = 1 << 20;
/// What `DistributedDataParallel` puts in front of every name.
const WRAPPER: &str = "module.";

/// The state dict of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct StateDict<'a> {
    /// Names and values, in order, each name once.
    pub entries: Vec<(&'a str, Id)>,
    /// Numbers and strings in the dicts on the way to it: epochs, scores, configurations.
    pub metadata: BTreeMap<String, String>,
}

/// Finds the state dict: the top, or what stands under a name that scripts use, or else the dict
/// with the most tensors, and of those the deepest. `None` where no dict holds tensors.
pub(super) fn find<'a>(values: &Values<'a>) -> Option<StateDict<'a>> {
    let mut metadata = BTreeMap::new();
    let dict = by_name(values, values.root, &mut metadata).or_else(|| largest(values))?;
    let mut entries = unique(values, dict);
    // Scalars in the state dict itself are no tensors: they are text about it.
    note_scalars(values, dict, &mut metadata);
    entries.retain(|&(_, id)| scalar(values, id).is_none());
    while !entries.is_empty()
        && entries.iter().all(|(name, _)| name.len() > WRAPPER.len() && name.starts_with(WRAPPER))
    {
        entries.iter_mut().for_each(|(name, _)| *name = &name[WRAPPER.len()..]);
    }
    Some(StateDict { entries, metadata })
}

/// Whether at least half of a dict's values are tensors.
fn is_state_dict(values: &Values<'_>, id: Id) -> bool {
    let Some(items) = values.entries(id) else { return false };
    let tensors = items.iter().filter(|&&(_, value)| is_tensor(values, value)).count();
    tensors > 0 && 2 * tensors >= items.len()
}

fn by_name(values: &Values<'_>, top: Id, metadata: &mut BTreeMap<String, String>) -> Option<Id> {
    let mut dict = top;
    for _ in 0..MAX_DEPTH {
        if is_state_dict(values, dict) {
            return Some(dict);
        }
        note_scalars(values, dict, metadata);
        let items = values.entries(dict)?;
        let under = |key: &str| {
            let item = items.iter().rev().find(|&&(name, _)| values.str(name) == Some(key));
            item.map(|&(_, value)| value).filter(|&value| values.entries(value).is_some())
        };
        dict = KEYS.iter().find_map(|key| under(key))?;
    }
    None
}

/// The dict with the most tensors, breadth first through dicts, lists and tuples.
fn largest(values: &Values<'_>) -> Option<Id> {
    let mut seen = HashSet::from([values.root]);
    let mut queue = VecDeque::from([(values.root, 0)]);
    let mut best: Option<(usize, Id)> = None;
    while let Some((id, depth)) = queue.pop_front() {
        if is_state_dict(values, id) {
            let count = unique(values, id).len();
            // Later ones are at least as deep.
            if best.is_none_or(|(most, _)| count >= most) {
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

/// A dict's entries with string keys: the place of the first and the value of the last, as Python
/// keeps them.
fn unique<'a>(values: &Values<'a>, dict: Id) -> Vec<(&'a str, Id)> {
    let items = values.entries(dict).unwrap_or_default();
    let mut places = HashMap::with_capacity(items.len());
    let mut out: Vec<(&str, Id)> = Vec::with_capacity(items.len());
    for &(key, value) in items {
        let Some(name) = values.str(key) else { continue };
        let place = *places.entry(name).or_insert(out.len());
        match out.get_mut(place) {
            Some(entry) => entry.1 = value,
            None => out.push((name, value)),
        }
    }
    out
}

fn note_scalars(values: &Values<'_>, dict: Id, metadata: &mut BTreeMap<String, String>) {
    let mut left =
        MAX_TEXT.saturating_sub(metadata.iter().map(|(name, text)| name.len() + text.len()).sum());
    for (name, id) in unique(values, dict) {
        let Some(text) = scalar(values, id) else { continue };
        let Some(after) = left.checked_sub(name.len() + text.len()) else { return };
        left = after;
        metadata.insert(name.to_owned(), text.into_owned());
    }
}

/// A number or string as text.
fn scalar<'a>(values: &Values<'a>, id: Id) -> Option<Cow<'a, str>> {
    match values.get(id) {
        Node::Bool(b) => Some(b.to_string().into()),
        Node::Int(i) => Some(i.to_string().into()),
        Node::Float(f) => Some(f.to_string().into()),
        Node::Str(s) => Some(Cow::Borrowed(s)),
        _ => None,
    }
}
