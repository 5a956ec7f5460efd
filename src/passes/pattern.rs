//! Rules of passes: a pattern, and what replaces its last node.

use crate::error::Result;
use crate::graph::{Graph, Node, Op, Rewrite, ValueId, rewrite};
use crate::tensor::Shape;

/// A node whose operation is a `T`, with its inputs in the graph under construction.
#[derive(Debug, Clone)]
pub struct Matched<T> {
    /// Name of the node.
    pub name: String,
    /// Its operation.
    pub op: T,
    /// What it reads.
    pub inputs: Vec<ValueId>,
}

impl<T: Op + Clone> Matched<T> {
    fn of(node: &Node, inputs: &[ValueId]) -> Option<Self> {
        let op = node.op.downcast_ref::<T>()?.clone();
        Some(Self { name: node.name.clone(), op, inputs: inputs.to_vec() })
    }
}

/// A place where a pattern is tried: a node, and the graph under construction, which has everything
/// before it.
pub struct Site<'a> {
    new: &'a Rewrite,
    node: &'a Node,
    inputs: &'a [ValueId],
}

impl Site<'_> {
    /// Returns the node, if its operation is a `T`.
    pub fn node<T: Op + Clone>(&self) -> Option<Matched<T>> {
        Matched::of(self.node, self.inputs)
    }

    /// Returns the node that computes `value`, if its operation is a `T` and nothing else reads the
    /// value: neither another node nor an output of the graph.
    pub fn used_once<T: Op + Clone>(&self, value: ValueId) -> Option<Matched<T>> {
        let node = self.new.graph.producer(value).filter(|_| self.new.uses(value) == 1)?;
        Matched::of(node, &node.inputs)
    }

    /// Returns whether all values are parameters.
    pub fn are_params(&self, values: &[ValueId]) -> bool {
        values.iter().all(|&v| self.new.graph.is_param(v))
    }

    /// Returns the shape of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.new.graph.shape(value)
    }
}

/// Rebuilds a graph. Where `pattern` matches, the node's only output becomes the value that
/// `replacement` returns; other nodes stay. Nodes and parameters without readers are removed.
///
/// # Errors
/// Returns the errors of `replacement`.
pub fn replace<M>(
    graph: Graph,
    pattern: impl Fn(&Site) -> Option<M>,
    replacement: impl Fn(&mut Rewrite, M) -> Result<ValueId>,
) -> Result<Graph> {
    rewrite(graph, |new, node, inputs| {
        let matched = pattern(&Site { new, node, inputs });
        matched.map(|m| Ok(vec![replacement(new, m)?])).transpose()
    })
}
