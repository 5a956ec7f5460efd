//! Lets producers write directly into the output of a concatenation, which then becomes a no-op.

use crate::error::Result;
use crate::graph::{ChannelView, Graph, Node, ValueId};
use crate::ops::Concat;
use crate::tensor::DType;
use std::collections::HashSet;

/// Marks the inputs of a concatenation as views of its output if every producer can write there.
pub fn concat_views(mut graph: Graph) -> Result<Graph> {
    let concats: Vec<Node> =
        graph.nodes().iter().filter(|n| n.op.is::<Concat>()).cloned().collect();
    for node in &concats {
        if let Some(views) = views(&graph, node) {
            for (v, view) in views {
                graph.set_view(v, view);
            }
        }
    }
    Ok(graph)
}

/// Returns the channel range of every input of a concatenation, or `None` if one of them cannot be
/// a view.
fn views(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, ChannelView)>> {
    let root = node.outputs[0];
    let distinct: HashSet<&ValueId> = node.inputs.iter().collect();
    // A view belongs to one buffer: neither the output nor an input may be part of another
    // concatenation's views.
    if distinct.len() != node.inputs.len()
        || graph.value(root).view.is_some()
        || graph.ty(root).dtype != DType::F32
    {
        return None;
    }
    let mut channel = 0;
    let mut views = Vec::new();
    for &v in &node.inputs {
        let producer = graph.producer(v)?;
        let is_root = graph
            .value_ids()
            .any(|other| graph.value(other).view.is_some_and(|view| view.root == v));
        // A dispatch cannot read and write the same buffer: a producer must not read another input
        // of the concatenation.
        let reads_same_buffer = producer.inputs.iter().any(|input| distinct.contains(input));
        if channel % 4 != 0
            || graph.value(v).view.is_some()
            || is_root
            || reads_same_buffer
            || producer.outputs.len() != 1
        {
            return None;
        }
        views.push((v, ChannelView { root, channel }));
        channel += graph.shape(v).c;
    }
    Some(views)
}
