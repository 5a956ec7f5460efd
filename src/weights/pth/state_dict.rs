//! Finding the tensors in a checkpoint.
//!
//! A checkpoint is a state dict, or a module, or dicts and lists with one or several of them: the
//! network, its moving average, the discriminator. All of them are read. Their tensors are named by
//! the keys that lead to them if there are several; a single one keeps its own names.

use super::modules::{self, Budget, Tree};
use super::tensor::is_tensor;
use super::truncated;
use super::value::{Id, Node, Values};
use crate::error::Result;
use crate::weights::LayerAttributes;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Maximum nesting depth of dicts and lists.
const MAX_DEPTH: usize = 8;
/// Maximum size of the metadata in bytes; further entries are omitted. A pickle can repeat one long
/// string under many keys.
const MAX_METADATA: usize = 1 << 20;
/// Maximum number of state dicts that are searched for those that a dict encloses.
const MAX_ENCLOSED: usize = 32;
/// Prefix that `DistributedDataParallel` adds to every name.
const PREFIX: &str = "module.";

/// The state dicts of a checkpoint.
#[derive(Debug, Default)]
pub(super) struct StateDict {
    /// Unique names with their values, in order.
    pub entries: Vec<(String, Id)>,
    /// The pickled modules, by their paths.
    pub layers: Vec<(String, LayerAttributes)>,
    /// Numbers and strings beside the tensors and in the enclosing dicts: epochs, scores,
    /// configurations.
    pub metadata: BTreeMap<String, String>,
}

/// Returns whether what is stored under a key of a checkpoint is the state of its training, which
/// has tensors in the shapes of the parameters.
fn is_training_state(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("optim") || key.contains("optimizer") || key == "hyper_parameters"
}

/// Finds the state dicts and modules. `None` if there are none.
///
/// # Errors
/// Returns an error if a module contains itself, or if the names exceed the limits.
pub(super) fn find(values: &Values<'_>) -> Result<Option<StateDict>> {
    let mut search = Search {
        values,
        found: Vec::new(),
        dicts: Vec::new(),
        kinds: HashMap::new(),
        budget: Budget::default(),
    };
    search.run()?;
    let Search { found, dicts, .. } = search;
    if found.is_empty() {
        return Ok(None);
    }
    let mut metadata = BTreeMap::new();
    for (path, dict) in dicts {
        let encloses = |found: &Found| {
            let rest = found.path.strip_prefix(&path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('.'))
        };
        if found.iter().take(MAX_ENCLOSED).any(encloses) {
            collect_scalars(values, dict, &mut metadata);
        }
    }
    let single = found.len() == 1;
    let (mut entries, mut layers) = (Vec::new(), Vec::new());
    for Found { path, tree } in found {
        let named = |name: String| {
            if single || path.is_empty() { name } else { format!("{path}.{name}") }
        };
        entries.extend(tree.tensors.into_iter().map(|(name, id)| (named(name), id)));
        layers.extend(tree.layers.into_iter().map(|(name, layer)| (named(name), layer)));
    }
    let is_prefixed = |name: &str| name.len() > PREFIX.len() && name.starts_with(PREFIX);
    while entries.iter().all(|(name, _): &(String, Id)| is_prefixed(name)) {
        for (name, _) in &mut entries {
            name.drain(..PREFIX.len());
        }
        layers.retain(|(name, _): &(String, LayerAttributes)| is_prefixed(name));
        for (name, _) in &mut layers {
            name.drain(..PREFIX.len());
        }
    }
    Ok(Some(StateDict { entries, layers, metadata }))
}

/// A state dict or module.
struct Found {
    /// The keys that lead to it, separated by dots.
    path: String,
    tree: Tree,
}

/// A breadth-first search through dicts and lists.
struct Search<'v, 'a> {
    values: &'v Values<'a>,
    found: Vec<Found>,
    /// All dicts, with the keys that lead to them.
    dicts: Vec<(String, Id)>,
    kinds: HashMap<Id, Kind>,
    budget: Budget,
}

/// What the search makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    StateDict,
    /// A dict or list.
    Container,
    Other,
}

impl Search<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let values = self.values;
        let mut seen = HashSet::from([values.root]);
        let mut queue = VecDeque::from([(values.root, 0, String::new())]);
        while let Some((id, depth, path)) = queue.pop_front() {
            let tree = match self.kind(id) {
                Kind::Module => modules::contents(values, id, &mut self.budget)?,
                Kind::StateDict => {
                    Tree { tensors: self.state_dict(id, path.len())?, layers: Vec::new() }
                }
                Kind::Container | Kind::Other => Tree::default(),
            };
            if !tree.tensors.is_empty() {
                self.found.push(Found { path: path.clone(), tree });
            }
            if depth < MAX_DEPTH {
                for (key, child) in self.children(id) {
                    if !seen.insert(child) {
                        continue;
                    }
                    self.budget.take(1, path.len() + key.len())?;
                    let separator = if path.is_empty() { "" } else { "." };
                    queue.push_back((child, depth + 1, format!("{path}{separator}{key}")));
                }
            }
            if values.entries(id).is_some() {
                self.dicts.push((path, id));
            }
        }
        Ok(())
    }

    /// Returns the kind of a value. It is remembered, since a small file can refer to one large
    /// value many times.
    fn kind(&mut self, id: Id) -> Kind {
        let values = self.values;
        *self.kinds.entry(id).or_insert_with(|| {
            if is_tensor(values, id) {
                Kind::Other
            } else if modules::is_module(values, id) {
                Kind::Module
            } else if is_state_dict(values, id) {
                Kind::StateDict
            } else if values.entries(id).is_some() || values.sequence(id).is_some() {
                Kind::Container
            } else {
                Kind::Other
            }
        })
    }

    /// Returns the dicts, lists and modules in a dict or list, with their keys.
    fn children(&mut self, id: Id) -> Vec<(String, Id)> {
        let values = self.values;
        let all: Vec<(String, Id)> = match (values.entries(id), values.sequence(id)) {
            (Some(_), _) => unique_entries(values, id)
                .into_iter()
                .filter(|&(key, child)| !is_tensor(values, child) && !is_training_state(key))
                .map(|(key, child)| (truncated(key).to_owned(), child))
                .collect(),
            (None, Some(ids)) => {
                ids.iter().enumerate().map(|(i, &child)| (i.to_string(), child)).collect()
            }
            (None, None) => Vec::new(),
        };
        all.into_iter().filter(|&(_, child)| self.kind(child) != Kind::Other).collect()
    }

    /// Returns the entries of a state dict, without its scalars and the state dicts in it.
    fn state_dict(&mut self, id: Id, path: usize) -> Result<Vec<(String, Id)>> {
        let mut out = Vec::new();
        for (name, value) in unique_entries(self.values, id) {
            let is_separate = matches!(self.kind(value), Kind::Module | Kind::StateDict);
            if !is_separate && scalar(self.values, value).is_none() {
                self.budget.take(1, path + name.len())?;
                out.push((name.to_owned(), value));
            }
        }
        Ok(out)
    }
}

/// Returns whether at least half of a dict's values are tensors.
fn is_state_dict(values: &Values<'_>, id: Id) -> bool {
    let Some(items) = values.entries(id) else { return false };
    let tensors = items.iter().filter(|&&(_, value)| is_tensor(values, value)).count();
    tensors > 0 && 2 * tensors >= items.len()
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
