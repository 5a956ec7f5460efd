//! The walk that passes share: a new graph is built node by node, and a rule may put something else
//! in a node's place.

use super::{Graph, Node, ValueId, ValueSource};
use crate::error::Result;
use crate::ops::Op;
use std::collections::HashMap;
use std::sync::Arc;

/// The new graph while it grows, with what rules ask about it.
pub struct Rewrite {
    /// The graph being built. Rules add parameters and nodes here.
    pub graph: Graph,
    uses: HashMap<ValueId, usize>,
}

impl Rewrite {
    /// The node that computes `value`, if its operation is a `T` and nothing but the node being
    /// rewritten reads it.
    pub fn sole_producer<T: Op>(&self, value: ValueId) -> Option<(&Node, &T)> {
        if self.uses(value) != 1 {
            return None;
        }
        self.producer(value)
    }

    /// The node that computes `value`, if its operation is a `T`.
    pub fn producer<T: Op>(&self, value: ValueId) -> Option<(&Node, &T)> {
        let node = self.graph.producer(value)?;
        Some((node, node.op.downcast_ref::<T>()?))
    }

    /// How many readers `value` has, the outputs of the graph counted in.
    pub fn uses(&self, value: ValueId) -> usize {
        self.uses.get(&value).copied().unwrap_or(0)
    }

    /// Adds a node with one output, which one node is going to read.
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        let value = self.graph.push(name, Arc::new(op), inputs)?[0];
        self.uses.insert(value, 1);
        Ok(value)
    }
}

/// Builds `old` anew. `rule` sees each node with its inputs in the new graph and may return what
/// stands for its outputs; `None` keeps the node. What nothing reads any more is left out.
pub fn rewrite(
    old: Graph,
    mut rule: impl FnMut(&mut Rewrite, &Node, &[ValueId]) -> Result<Option<Vec<ValueId>>>,
) -> Result<Graph> {
    let uses = old.uses();
    let mut new = Rewrite { graph: Graph::new(), uses: HashMap::new() };
    let mut map: Vec<Option<ValueId>> = vec![None; old.values.len()];
    for (i, value) in old.values.iter().enumerate() {
        if !matches!(value.source, ValueSource::Node { .. }) {
            let id = new.graph.push_value(value.ty, value.source.clone());
            new.uses.insert(id, uses[i]);
            map[i] = Some(id);
        }
    }
    for node in &old.nodes {
        let inputs: Vec<ValueId> = node
            .inputs
            .iter()
            .map(|v| map[v.index()].expect("invariant: nodes stand in running order"))
            .collect();
        let outputs = match rule(&mut new, node, &inputs)? {
            Some(replaced) => replaced,
            None => new.graph.push(&node.name, node.op.clone(), &inputs)?,
        };
        for (old_id, new_id) in node.outputs.iter().zip(outputs) {
            map[old_id.index()] = Some(new_id);
            // A value that stands for several old ones (a node left out) has the readers of all of
            // them.
            let passed_on = node.inputs.iter().zip(&inputs).any(|(_, &input)| input == new_id);
            let before = if passed_on { new.uses(new_id).saturating_sub(1) } else { 0 };
            new.uses.insert(new_id, before + uses[old_id.index()]);
        }
    }
    for (name, value) in &old.outputs {
        new.graph.output(
            name,
            map[value.index()].expect("invariant: outputs are computed by nodes of the graph"),
        );
    }
    Ok(strip(&new.graph))
}

/// The graph without the nodes and parameters that no output depends on. Inputs stay: callers give
/// them by name.
pub(crate) fn strip(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.values.len()];
    for (_, value) in &graph.outputs {
        live[value.index()] = true;
    }
    let mut keep = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        keep[i] = node.outputs.iter().any(|v| live[v.index()]);
        if keep[i] {
            for v in node.inputs.iter().chain(&node.outputs) {
                live[v.index()] = true;
            }
        }
    }
    // Old position of a node -> new position, meaningful for the kept ones.
    let position: Vec<usize> = keep
        .iter()
        .scan(0, |next, &kept| {
            let here = *next;
            *next += usize::from(kept);
            Some(here)
        })
        .collect();
    let mut out = Graph::new();
    let mut map: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    for (i, value) in graph.values.iter().enumerate() {
        let source = match &value.source {
            ValueSource::Node { node, .. } if !keep[*node] => continue,
            ValueSource::Node { node, output } => {
                ValueSource::Node { node: position[*node], output: *output }
            }
            ValueSource::Param { .. } if !live[i] => continue,
            other => other.clone(),
        };
        let id = out.push_value(value.ty, source);
        out.values[id.index()].view = value.view;
        map[i] = Some(id);
    }
    let at =
        |v: &ValueId| map[v.index()].expect("invariant: kept nodes read and write kept values");
    out.nodes = graph
        .nodes
        .iter()
        .zip(&keep)
        .filter(|(_, kept)| **kept)
        .map(|(n, _)| Node {
            name: n.name.clone(),
            op: n.op.clone(),
            inputs: n.inputs.iter().map(at).collect(),
            outputs: n.outputs.iter().map(at).collect(),
        })
        .collect();
    for view in out.values.iter_mut().filter_map(|v| v.view.as_mut()) {
        view.root = at(&view.root);
    }
    out.outputs = graph.outputs.iter().map(|(name, v)| (name.clone(), at(v))).collect();
    out
}
