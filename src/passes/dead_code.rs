//! Removes nodes that no output depends on, and dropout, which is the identity at inference.

use crate::error::Result;
use crate::graph::{Graph, rewrite};
use crate::ops::Dropout;

/// Replaces `dropout(x)` by `x`, and removes nodes and parameters without readers.
pub fn dead_code(graph: Graph) -> Result<Graph> {
    rewrite(graph, |_, node, inputs| {
        let dropout = node.op.is::<Dropout>();
        Ok(dropout.then(|| inputs.to_vec()))
    })
}
