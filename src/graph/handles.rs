//! Handles of a graph's inputs and outputs, for those who run it.

use super::{Graph, ValueId};
use crate::tensor::TensorType;

/// An input of a graph, for those who pass it: its position among [`Graph::inputs`]. Passes and
/// training keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(usize);

impl InputId {
    /// Returns the position among [`Graph::inputs`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// An output of a graph, for those who read it: its position among [`Graph::outputs`] and the
/// results of a run. Passes keep it; removing outputs invalidates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputId(usize);

impl OutputId {
    /// Returns the position among [`Graph::outputs`] and the results of a run.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Graph {
    /// Adds an input like [`Graph::input`], and returns its handle as well.
    pub fn input_with_id(&mut self, name: &str, ty: TensorType) -> (InputId, ValueId) {
        let id = InputId(self.inputs().count());
        (id, self.input(name, ty))
    }

    /// Adds `value` as an output named `name`, which runs return. An existing output of this name
    /// is replaced and keeps its position.
    pub fn output(&mut self, name: &str, value: ValueId) -> OutputId {
        if let Some(at) = self.outputs.iter().position(|(n, _)| n == name) {
            self.outputs[at].1 = value;
            return OutputId(at);
        }
        self.outputs.push((name.to_owned(), value));
        OutputId(self.outputs.len() - 1)
    }

    /// Returns name and value of an input.
    ///
    /// # Panics
    /// Panics if the handle belongs to a graph with more inputs.
    pub fn input_at(&self, id: InputId) -> (&str, ValueId) {
        self.inputs().nth(id.0).expect("invariant: the handle belongs to this graph")
    }

    /// Returns name and value of an output.
    ///
    /// # Panics
    /// Panics if the handle belongs to a graph with more outputs.
    pub fn output_at(&self, id: OutputId) -> (&str, ValueId) {
        let (name, value) = &self.outputs[id.0];
        (name, *value)
    }
}
