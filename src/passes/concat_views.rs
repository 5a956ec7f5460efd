//! Producers write straight into their place in a concatenation, which then has nothing left to do.

use crate::error::Result;
use crate::graph::{ChannelView, Graph, Node, ValueId};
use crate::ops::Concat;
use crate::tensor::DType;
use std::collections::HashSet;

/// Marks the inputs of concatenations as channel ranges of the output, where every producer can
/// write there.
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

/// The channel range of every input of a concatenation, or `None` where one of them cannot lie
/// there.
fn views(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, ChannelView)>> {
    let root = node.outputs[0];
    let distinct: HashSet<&ValueId> = node.inputs.iter().collect();
    // A view lies in one buffer alone: neither the output nor an input may take part in another
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
        // A buffer cannot be read and written in one dispatch: a producer must not read another
        // part of the same buffer.
        let reads_a_part = producer.inputs.iter().any(|input| distinct.contains(input));
        if channel % 4 != 0
            || graph.value(v).view.is_some()
            || is_root
            || reads_a_part
            || producer.outputs.len() != 1
        {
            return None;
        }
        views.push((v, ChannelView { root, channel }));
        channel += graph.shape(v).c;
    }
    Some(views)
}
