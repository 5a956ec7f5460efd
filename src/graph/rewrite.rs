//! Node-by-node rewriting of graphs, shared by the passes: a rule may replace each node.

use super::{Graph, Node, Op, ValueId, ValueSource};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::Arc;

/// The new graph under construction, with queries for rules.
pub struct Rewrite {
    /// The graph being built. Rules add parameters and nodes here.
    pub graph: Graph,
    uses: HashMap<ValueId, usize>,
}

impl Rewrite {
    /// Returns the number of readers of `value`, including the outputs of the graph.
    pub fn uses(&self, value: ValueId) -> usize {
        self.uses.get(&value).copied().unwrap_or(0)
    }

    /// Adds a node with one output, which exactly one node will read.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit the operation.
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        let value = self.graph.push(name, Arc::new(op), inputs)?[0];
        self.uses.insert(value, 1);
        Ok(value)
    }
}

/// Rebuilds `old`. `rule` is called with each node and its inputs in the new graph, and may return
/// values that replace the node's outputs; `None` keeps the node. Nodes and parameters without
/// readers are removed.
///
/// # Errors
/// Returns the errors of `rule`, and an error if a replacement does not fit the nodes that read it.
#[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
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
            .map(|v| map[v.index()].expect("invariant: nodes are in execution order"))
            .collect();
        let outputs = match rule(&mut new, node, &inputs)? {
            Some(replacements) => replacements,
            None => new.graph.push(&node.name, node.op.clone(), &inputs)?,
        };
        for (old_id, new_id) in node.outputs.iter().zip(outputs) {
            map[old_id.index()] = Some(new_id);
            // A value that replaces several old ones (the node was removed) has the readers of all
            // of them.
            let is_input = node.inputs.iter().zip(&inputs).any(|(_, &input)| input == new_id);
            let before = if is_input { new.uses(new_id).saturating_sub(1) } else { 0 };
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

/// Returns the graph without the nodes and parameters that no output depends on. Inputs remain,
/// because callers pass them by name.
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
    // Old position of a node to new position, for kept nodes.
    let position: Vec<usize> = keep
        .iter()
        .scan(0, |next, &kept| {
            let new_position = *next;
            *next += usize::from(kept);
            Some(new_position)
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
