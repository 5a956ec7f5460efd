//! Lets producers write directly into the output of a concatenation, which then becomes a no-op.

use crate::error::Result;
use crate::graph::{ChannelView, Graph, Node, ValueId};
use crate::ops::Concat;
use crate::tensor::DType;
use std::collections::HashSet;

/// `concat(f(..), g(..))` where `f` and `g` write into the channels of the output. The nodes stay:
/// their values become views, which a plan places in the output's buffer.
///
/// # Errors
/// Returns an error if the graph is inconsistent.
pub fn concat_views(mut graph: Graph) -> Result<Graph> {
    for node in 0..graph.nodes().len() {
        for (v, view) in views(&graph, &graph.nodes()[node]).unwrap_or_default() {
            graph.set_view(v, view);
        }
    }
    Ok(graph)
}

/// Returns the channel range of every input of a concatenation, or `None` if the node is none, or
/// one of the inputs cannot be a view.
fn views(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, ChannelView)>> {
    node.op.downcast_ref::<Concat>()?;
    let root = node.outputs[0];
    let distinct: HashSet<ValueId> = node.inputs.iter().copied().collect();
    // A view belongs to one buffer: neither the output nor an input may be part of another
    // concatenation's views.
    let fits = graph.value(root).view.is_none() && graph.ty(root).dtype == DType::F32;
    if !fits || distinct.len() != node.inputs.len() {
        return None;
    }
    let mut channel = 0;
    let mut views = Vec::new();
    for &v in &node.inputs {
        if channel % 4 != 0 || !may_write_into(graph, v, &distinct) {
            return None;
        }
        views.push((v, ChannelView { root, channel }));
        channel += graph.shape(v).c;
    }
    Some(views)
}

/// Returns whether the producer of `v` can write into a buffer that has all `inputs` of a
/// concatenation.
fn may_write_into(graph: &Graph, v: ValueId, inputs: &HashSet<ValueId>) -> bool {
    let Some(producer) = graph.producer(v) else { return false };
    let has_views =
        || graph.values().iter().any(|value| value.view.is_some_and(|view| view.root == v));
    // A dispatch cannot read and write the same buffer.
    let reads_same_buffer = producer.inputs.iter().any(|input| inputs.contains(input));
    producer.outputs.len() == 1
        && !reads_same_buffer
        && graph.value(v).view.is_none()
        && !has_views()
}
