//! Pickled modules (`torch.save(model)`): the tensors that `model.state_dict()` would return.
//!
//! An `nn.Module` is pickled as the dict of its attributes. Three of them are dicts by name:
//! `_parameters`, `_buffers` and `_modules`, the child modules. Its class is never looked up.

use super::value::{Id, Node, Values};
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use crate::weights::LayerAttributes;
use std::collections::HashSet;

/// Maximum nesting of modules. The deepest supported networks have 8.
const MAX_DEPTH: usize = 64;

/// Remaining size of the names of a file's tensors. Modules can share children, so that a small
/// file can name more tensors than fit into memory.
pub(super) struct Budget {
    /// Tensors, and attributes of modules.
    objects: usize,
    /// Bytes of the tensor names.
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { objects: 1 << 20, bytes: 16 << 20 }
    }
}

impl Budget {
    /// Counts `objects` objects with names of `bytes` bytes.
    ///
    /// # Errors
    /// Returns an error if less than that remains.
    pub(super) fn take(&mut self, objects: usize, bytes: usize) -> Result<()> {
        match (self.objects.checked_sub(objects), self.bytes.checked_sub(bytes)) {
            (Some(objects), Some(bytes)) => {
                *self = Self { objects, bytes };
                Ok(())
            }
            _ => Err(error!(Weights, "the pickle names too many tensors")
                .advice("save the model's state_dict() alone")),
        }
    }
}

/// Returns whether a value is a pickled module.
pub(super) fn is_module(values: &Values<'_>, id: Id) -> bool {
    dict(values, id, "_modules").is_some() && dict(values, id, "_parameters").is_some()
}

/// Returns an attribute of an object that is a dict.
fn dict<'v>(values: &'v Values<'_>, id: Id, name: &str) -> Option<&'v [(Id, Id)]> {
    let attributes = values.attributes(id)?;
    let &(_, value) = attributes.iter().rev().find(|&&(key, _)| values.str(key) == Some(name))?;
    values.entries(value)
}

/// A module whose children are being visited.
struct Frame<'a> {
    id: Id,
    /// Length of the path of the module, in bytes.
    path: usize,
    children: Vec<(&'a str, Id)>,
    next: usize,
}

/// The contents of a module and of the modules in it, named by their paths.
#[derive(Default)]
pub(super) struct Tree {
    /// Parameters and persistent buffers, in the order of `state_dict()`.
    pub tensors: Vec<(String, Id)>,
    /// The modules, without the outermost one.
    pub layers: Vec<(String, LayerAttributes)>,
}

/// Returns the contents of a module.
///
/// # Errors
/// Returns an error if a module contains itself, or if the modules are nested too deeply or exceed
/// the budget.
pub(super) fn contents(values: &Values<'_>, module: Id, budget: &mut Budget) -> Result<Tree> {
    let mut out = Tree::default();
    let mut path = String::new();
    let mut stack = vec![frame(values, module, &path, &mut out, budget)?];
    while let Some(top) = stack.last_mut() {
        path.truncate(top.path);
        let Some(&(name, child)) = top.children.get(top.next) else {
            stack.pop();
            continue;
        };
        top.next += 1;
        path.push_str(name);
        if stack.iter().any(|frame| frame.id == child) {
            return Err(unreadable(format!("module `{}` contains itself", excerpt(&path))));
        }
        if stack.len() == MAX_DEPTH {
            return Err(unreadable(format!("modules are nested deeper than {MAX_DEPTH}")));
        }
        budget.take(1, path.len())?;
        out.layers.push((path.clone(), attributes(values, child)));
        path.push('.');
        stack.push(frame(values, child, &path, &mut out, budget)?);
    }
    Ok(out)
}

fn unreadable(message: String) -> Error {
    error!(Weights, "{message}").advice("save the model's state_dict() instead of the model")
}

/// Appends the tensors of a module itself, and returns the frame of its children.
fn frame<'a>(
    values: &Values<'a>,
    id: Id,
    path: &str,
    out: &mut Tree,
    budget: &mut Budget,
) -> Result<Frame<'a>> {
    let attributes = values.attributes(id).unwrap_or_default();
    budget.take(1 + attributes.len(), path.len())?;
    let set = attributes
        .iter()
        .find(|&&(key, _)| values.str(key) == Some("_non_persistent_buffers_set"))
        .and_then(|&(_, set)| values.sequence(set));
    let temporary: HashSet<&str> =
        set.unwrap_or_default().iter().filter_map(|&name| values.str(name)).collect();
    for (field, is_buffer) in [("_parameters", false), ("_buffers", true)] {
        for &(key, value) in dict(values, id, field).unwrap_or_default() {
            let Some(name) = values.str(key) else { continue };
            if matches!(values.get(value), Node::None) || (is_buffer && temporary.contains(name)) {
                continue;
            }
            budget.take(1, path.len() + name.len())?;
            out.tensors.push((format!("{path}{name}"), value));
        }
    }
    let children = dict(values, id, "_modules").unwrap_or_default();
    let children = children
        .iter()
        .filter(|&&(_, child)| values.attributes(child).is_some())
        .filter_map(|&(key, child)| Some((values.str(key)?, child)))
        .collect();
    Ok(Frame { id, path: path.len(), children, next: 0 })
}

/// Returns the class and the numbers of a module that matter for what it computes.
fn attributes(values: &Values<'_>, id: Id) -> LayerAttributes {
    let mut layer = LayerAttributes { class: class(values, id), ..LayerAttributes::default() };
    for &(key, value) in values.attributes(id).unwrap_or_default() {
        match values.str(key) {
            Some("stride") => layer.stride = pair(values, value),
            Some("dilation") => layer.dilation = pair(values, value),
            Some("padding") => layer.padding = pair(values, value),
            Some("eps") => {
                layer.eps = match *values.get(value) {
                    Node::Float(eps) => Some(eps),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    layer
}

/// Returns the name of an object's class. PyTorch before 1.6 stores classes outside of the pickle.
fn class(values: &Values<'_>, id: Id) -> String {
    let Node::Call(call) = values.get(id) else { return String::new() };
    let callable = match values.get(call.callable) {
        Node::Persistent(id) => values.sequence(*id).and_then(|parts| parts.get(1).copied()),
        _ => None,
    };
    let names = values.global(callable.unwrap_or(call.callable));
    names.map_or(String::new(), |(_, name)| excerpt(name))
}

/// Returns one number for both axes, or a tuple of two.
fn pair(values: &Values<'_>, id: Id) -> Option<[u64; 2]> {
    match values.sequence(id) {
        Some(&[y, x]) => Some([values.size(y)?, values.size(x)?]),
        Some(_) => None,
        None => values.size(id).map(|n| [n, n]),
    }
}
