//! Gradients of a graph, summed with [`Add`].

use super::Add;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use std::sync::Arc;

impl Graph {
    /// Adds the nodes that compute the gradients of a scalar (a loss) with respect to the values
    /// `of`, and returns them: `None` for a value that the scalar does not depend on.
    ///
    /// `seeds` are pairs of an intermediate value and its known gradient: usually that of the
    /// logits, which the loss operation computes itself.
    ///
    /// # Errors
    /// Returns an error if an operation on the path has no gradient, or if a seed has another shape
    /// than its value.
    pub fn gradients(
        &mut self,
        seeds: &[(ValueId, ValueId)],
        of: &[ValueId],
    ) -> Result<Vec<Option<ValueId>>> {
        self.gradients_with(Arc::new(Add), seeds, of)
    }
}
