//! Scopes, which derive names from the code that builds a network.

use super::{Graph, Op, ParamInfo, Place, Role, ValueId};
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
    place: Place,
}

impl<'g> Scope<'g> {
    pub(super) fn new(graph: &'g mut Graph) -> Self {
        Self { graph, prefix: String::new(), place: Place::default() }
    }

    /// Returns a scope below this one, at the same place of the network.
    pub fn scope(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let prefix = self.join(&name.to_string());
        Scope { graph: self.graph, prefix, place: self.place }
    }

    /// Returns the scope at another place of the network, which the parameters in it record.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    fn join(&self, name: &str) -> String {
        match (self.prefix.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.prefix.clone(),
            _ => format!("{}.{name}", self.prefix),
        }
    }

    /// Adds a parameter named `name` in this scope, a kernel by its role.
    pub fn param(&mut self, name: &str, shape: Shape) -> ValueId {
        let role = Role { place: self.place, ..Role::default() };
        let info = ParamInfo { name: self.join(name), layer: self.prefix.clone(), role };
        self.graph.param(info, shape)
    }

    /// Adds a parameter of the layer at the path `layer`, named after what it is in that layer
    /// ([`Part::field`](super::Part::field)). The place of its role becomes that of this scope.
    pub fn layer_param(&mut self, layer: &str, role: Role, shape: Shape) -> ValueId {
        let name = self.join(role.part.field());
        let role = Role { place: self.place, ..role };
        self.graph.param(ParamInfo { name, layer: layer.to_owned(), role }, shape)
    }

    /// Adds a node with one output, named `name` in this scope (an empty name uses the scope's
    /// name).
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit the operation.
    pub fn op(&mut self, name: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.ops(name, op, inputs)?[0])
    }

    /// Adds a node with any number of outputs.
    ///
    /// # Errors
    /// Returns an error that names the node if the inputs do not fit the operation.
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
