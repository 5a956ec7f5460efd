//! Removes nodes that no output depends on, and dropout, which is the identity at inference.

use super::pattern::replace;
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::Dropout;

/// `dropout(x) = x`. Nodes and parameters without readers are removed.
///
/// # Errors
/// Returns an error if the graph is inconsistent.
pub fn dead_code(graph: Graph) -> Result<Graph> {
    replace(graph, |site| site.node::<Dropout>(), |_, dropout| Ok(dropout.inputs[0]))
}
