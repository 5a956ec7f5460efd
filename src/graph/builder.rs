//! Scopes, which derive names from the code that builds a network.

use super::{Graph, Op, ValueId};
use crate::error::Result;
use crate::tensor::Shape;
use std::sync::Arc;

/// A prefix in the tree of names under which nodes and parameters are added.
///
/// Operations define their own methods (`conv2d`, `activate`, ...) next to their implementation in
/// `ops`.
pub struct Scope<'g> {
    graph: &'g mut Graph,
    prefix: String,
}

impl<'g> Scope<'g> {
    pub(super) fn new(graph: &'g mut Graph) -> Self {
        Self { graph, prefix: String::new() }
    }

    /// Returns a scope below this one.
    pub fn scope(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let prefix = self.join(&name.to_string());
        Scope { graph: self.graph, prefix }
    }

    fn join(&self, name: &str) -> String {
        match (self.prefix.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.prefix.clone(),
            _ => format!("{}.{name}", self.prefix),
        }
    }

    /// Adds a parameter named `name` in this scope.
    pub fn param(&mut self, name: &str, shape: Shape) -> ValueId {
        let name = self.join(name);
        self.graph.param(&name, shape)
    }

    /// Adds a node with one output, named `name` in this scope (an empty name uses the scope's
    /// name).
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.ops(name, op, inputs)?[0])
    }

    /// Adds a node with any number of outputs.
    pub fn ops(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let name = self.join(name);
        self.graph.push(&name, Arc::new(op), inputs)
    }

    /// Returns the shape of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        self.graph.shape(value)
    }

    /// Returns the path of names of this scope.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// Returns the graph being built.
    pub fn graph(&mut self) -> &mut Graph {
        self.graph
    }
}
