//! Leaves out what no output depends on, and dropout, which does nothing in a trained network.

use crate::error::Result;
use crate::graph::{Graph, rewrite};
use crate::ops::Dropout;

/// `dropout(x) = x`; nodes and parameters without a reader go.
pub fn dead_code(graph: Graph) -> Result<Graph> {
    rewrite(graph, |_, node, inputs| {
        let dropout = node.op.is::<Dropout>();
        Ok(dropout.then(|| inputs.to_vec()))
    })
}
