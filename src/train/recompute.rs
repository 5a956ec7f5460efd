//! Activation recomputation: most intermediate values of the forward pass are dropped, and computed
//! again when the backward pass needs them (Chen et al. 2016, "Training deep nets with sublinear
//! memory cost").
//!
//! The forward pass is cut into segments. Values that cross a cut stay in memory; the rest of a
//! segment is recomputed from them, right before the first backward node that reads any of it.
//! Backward nodes keep their order, and all operations are deterministic (dropout uses a counter,
//! not a random state), so loss and gradients are bit-identical. The cost is most of a second
//! forward pass.

use crate::error::Result;
use crate::graph::{Graph, Node, Resident, Rewrite, ValueId, rewrite};
use crate::ops::kernel::TensorLayout;
use crate::ops::{BatchNorm, BatchNormTrain, Op, Packing};
use crate::plan::Plan;
use std::sync::Arc;

/// The bytes that a segment may keep are tried from a half of those of the forward pass down to one
/// in `MAX_SEGMENTS`.
const MAX_SEGMENTS: u64 = 24;

/// Returns the graph of the step with recomputation if that saves memory, else unchanged. The first
/// `forward` nodes are the forward pass with the loss; the rest are gradients. Recomputed nodes are
/// called `NODE.again`.
///
/// # Errors
/// Returns an error if nodes of that name exist.
pub(super) fn recompute(graph: Graph, forward: usize) -> Result<Graph> {
    let tape = Tape::new(&graph, forward);
    let total = tape.read_back_bytes();
    let mut best = (activation_bytes(&graph), graph.clone());
    let mut previous = Vec::new();
    for divisor in 2..=MAX_SEGMENTS {
        let cuts = tape.cuts(total / divisor);
        if cuts == previous {
            continue;
        }
        let candidate = with_segments(&graph, &tape, &cuts)?;
        let bytes = activation_bytes(&candidate);
        if bytes < best.0 {
            best = (bytes, candidate);
        }
        previous = cuts;
    }
    best.1.verify()?;
    Ok(best.1)
}

/// Bytes of activations. Gradients of parameters and statistics are stored elsewhere.
fn activation_bytes(graph: &Graph) -> u64 {
    let mut graph_without_outputs = graph.clone();
    let elsewhere = Resident { buffer: String::new(), first: 0, packing: Packing::Channels };
    for &(_, v) in graph.outputs() {
        graph_without_outputs.set_resident(v, elsewhere.clone());
    }
    graph_without_outputs.clear_outputs();
    Plan::new(&graph_without_outputs).activation_bytes()
}

/// The forward pass: which values are read where.
struct Tape<'g> {
    nodes: &'g [Node],
    /// Bytes of each value; 0 for values that stay in memory in any case.
    bytes: Vec<u64>,
    /// Last node of the forward pass that reads each value.
    last_read: Vec<usize>,
    /// Whether the backward pass reads each value.
    read_back: Vec<bool>,
}

impl<'g> Tape<'g> {
    fn new(graph: &'g Graph, forward: usize) -> Self {
        let (nodes, gradients) = graph.nodes().split_at(forward);
        let mut tape = Self {
            nodes,
            bytes: graph
                .value_ids()
                .map(|v| TensorLayout::bytes(graph.ty(v), Packing::Channels))
                .collect(),
            last_read: vec![0; graph.values().len()],
            read_back: vec![false; graph.values().len()],
        };
        for (i, node) in nodes.iter().enumerate() {
            for v in &node.inputs {
                tape.last_read[v.index()] = i;
            }
            if is_batch_norm(node) {
                for v in &node.outputs[1..] {
                    tape.bytes[v.index()] = 0;
                }
            }
        }
        for v in gradients.iter().flat_map(|node| &node.inputs) {
            tape.read_back[v.index()] = true;
        }
        for (_, v) in graph.outputs() {
            tape.bytes[v.index()] = 0;
        }
        tape
    }

    /// Whether a value stays in memory if there is a cut in front of node `cut`.
    fn stays(&self, v: ValueId, cut: usize) -> bool {
        self.last_read[v.index()] >= cut || self.bytes[v.index()] == 0
    }

    fn read_back_bytes(&self) -> u64 {
        let values = self.nodes.iter().flat_map(|n| &n.outputs);
        values.filter(|v| self.read_back[v.index()]).map(|v| self.bytes[v.index()]).sum()
    }

    /// Ends of the segments, except the last. A segment of several nodes may keep at most `limit`
    /// bytes for the backward pass, without values that cross its end. Among the cuts that satisfy
    /// this, returns those with the fewest bytes crossing.
    fn cuts(&self, limit: u64) -> Vec<usize> {
        // For each position: bytes that cross cuts up to it, and the start of its segment. A value
        // that crosses several cuts counts once.
        let mut best: Vec<(u64, usize)> = vec![(0, 0)];
        for end in 1..=self.nodes.len() {
            let (mut crossing, mut inside) = (0, 0);
            let mut cheapest = (u64::MAX, 0);
            for start in (0..end).rev() {
                for v in &self.nodes[start].outputs {
                    let bytes = self.bytes[v.index()];
                    if self.stays(*v, end) {
                        crossing += bytes;
                    } else if self.read_back[v.index()] {
                        inside += bytes;
                    }
                }
                if inside > limit && start + 1 < end {
                    break;
                }
                // Of equal cuts, the longer segment wins.
                if best[start].0 + crossing <= cheapest.0 {
                    cheapest = (best[start].0 + crossing, start);
                }
            }
            best.push(cheapest);
        }
        let mut cuts = Vec::new();
        let mut end = best[self.nodes.len()].1;
        while end > 0 {
            cuts.push(end);
            end = best[end].1;
        }
        cuts.reverse();
        cuts
    }

    /// Nodes to recompute, for each segment but the last.
    fn recomputed_nodes(&self, cuts: &[usize]) -> Vec<Vec<usize>> {
        let mut needed = self.read_back.clone();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let segment = |(start, &end): (usize, &usize)| {
            let mut recomputed = Vec::new();
            for i in (start..end).rev() {
                let node = &self.nodes[i];
                if node.outputs.iter().any(|v| needed[v.index()] && !self.stays(*v, end)) {
                    for v in &node.inputs {
                        needed[v.index()] = true;
                    }
                    recomputed.push(i);
                }
            }
            recomputed.reverse();
            recomputed
        };
        starts.zip(cuts).map(segment).collect()
    }
}

/// Batch norms keep their statistics: these are vectors, and the recomputed norm reads them.
fn is_batch_norm(node: &Node) -> bool {
    node.op.is::<BatchNormTrain>()
}

/// The graph in which the backward pass reads dropped values from nodes that recompute them.
fn with_segments(graph: &Graph, tape: &Tape, cuts: &[usize]) -> Result<Graph> {
    let recomputed = tape.recomputed_nodes(cuts);
    let count = graph.values().len();
    let mut values = Recomputation {
        segment: vec![None; count],
        first: vec![None; count],
        second: vec![None; count],
    };
    for (segment, (nodes, &end)) in recomputed.iter().zip(cuts).enumerate() {
        let outputs = nodes.iter().flat_map(|&i| &tape.nodes[i].outputs);
        for v in outputs.filter(|v| !tape.stays(**v, end)) {
            values.segment[v.index()] = Some(segment);
        }
    }
    let mut done = vec![false; cuts.len()];
    let mut position = 0;
    rewrite(graph.clone(), |new, node, inputs| {
        values.record_first(&node.inputs, inputs);
        let mut inputs = inputs.to_vec();
        if position >= tape.nodes.len() {
            for v in &node.inputs {
                let segment = values.segment[v.index()];
                if let Some(segment) = segment.filter(|&s| !std::mem::replace(&mut done[s], true)) {
                    for &i in &recomputed[segment] {
                        values.recompute(new, &tape.nodes[i])?;
                    }
                }
            }
            inputs = values.current(&node.inputs);
        }
        position += 1;
        let outputs = new.graph.push(&node.name, node.op.clone(), &inputs)?;
        values.record_first(&node.outputs, &outputs);
        Ok(Some(outputs))
    })
}

/// Maps values of the old graph to the new one.
struct Recomputation {
    /// Segment that recomputes each value, if it does not stay in memory.
    segment: Vec<Option<usize>>,
    /// Value as first computed.
    first: Vec<Option<ValueId>>,
    /// Value as recomputed.
    second: Vec<Option<ValueId>>,
}

impl Recomputation {
    fn record_first(&mut self, old: &[ValueId], new: &[ValueId]) {
        for (old, new) in old.iter().zip(new) {
            self.first[old.index()] = Some(*new);
        }
    }

    /// Values for the backward pass to read.
    fn current(&self, values: &[ValueId]) -> Vec<ValueId> {
        let current =
            |i: usize| if self.segment[i].is_some() { self.second[i] } else { self.first[i] };
        values
            .iter()
            .map(|v| current(v.index()).expect("invariant: nodes are in topological order"))
            .collect()
    }

    fn recompute(&mut self, new: &mut Rewrite, node: &Node) -> Result<()> {
        let mut inputs = self.current(&node.inputs);
        let op: Arc<dyn Op> = match node.op.downcast_ref() {
            // The same arithmetic as the normalization in `BatchNormTrain`, so the result is
            // bit-identical, without computing the statistics again.
            Some(&BatchNormTrain { eps }) => {
                inputs.extend(self.current(&node.outputs[1..]));
                Arc::new(BatchNorm { eps })
            }
            None => node.op.clone(),
        };
        let outputs = new.graph.push(&format!("{}.again", node.name), op, &inputs)?;
        for (old, new) in node.outputs.iter().zip(outputs) {
            self.second[old.index()] = Some(new);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::StepOptions;
    use super::super::step::training_step;
    use super::*;
    use crate::models::{Backbone, Config, NetworkGraph, Outputs, build_network};
    use crate::ops::{Activation, PixelLoss};
    use crate::tensor::{Shape, TensorType};

    fn step(backbone: &str, shape: Shape, options: StepOptions) -> Graph {
        let config = Config::deeplab_v3plus(Backbone::named(backbone).unwrap(), 12);
        let network =
            build_network(&config, shape, &Outputs { logits_full: true, ..Outputs::default() })
                .unwrap();
        training_step(network, &options).unwrap().graph
    }

    #[test]
    fn nodes_keep_their_order_and_statistics_are_not_computed_twice() {
        for backbone in ["mobilenet_v2_0.25", "resnet18", "mobilenet_v3"] {
            let shape = Shape::new(2, 65, 65, 3);
            let plain = step(backbone, shape, StepOptions::default());
            let again =
                step(backbone, shape, StepOptions { recompute: true, ..StepOptions::default() });
            let is_again = |n: &&Node| n.name.ends_with(".again");
            let names = |g: &Graph| {
                g.nodes()
                    .iter()
                    .filter(|n| !is_again(n))
                    .map(|n| n.name.clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!(names(&plain), names(&again), "{backbone}");
            let twice: Vec<&Node> = again.nodes().iter().filter(is_again).collect();
            assert!(
                twice.len() > 20 && !twice.iter().any(|n| is_batch_norm(n)),
                "{backbone}: {}",
                twice.len()
            );
            assert!(twice.iter().any(|n| n.op.is::<BatchNorm>()), "{backbone}");
            let outputs = |g: &Graph| {
                g.outputs().iter().map(|(n, v)| (n.clone(), g.ty(*v))).collect::<Vec<_>>()
            };
            assert_eq!(outputs(&plain), outputs(&again), "{backbone}");
        }
    }

    /// A row of 1x1 convolutions with these channels, an activation after each, and a loss.
    fn row(channels: &[usize], options: StepOptions) -> Graph {
        let mut graph = Graph::new();
        let (input, mut x) =
            graph.input_with_id("input", TensorType::f32(Shape::new(1, 32, 32, channels[0])));
        for (i, pair) in channels.windows(2).enumerate() {
            let weight =
                graph.param(&format!("conv{i}.weight"), Shape::new(1, 1, pair[0], pair[1]));
            let conv = crate::ops::Conv2d::default();
            x = graph.push(&format!("conv{i}"), Arc::new(conv), &[x, weight]).unwrap()[0];
            x = graph.root().activate(&format!("act{i}"), Activation::HardSwish, x).unwrap();
        }
        let logits = graph.output("logits_full", x);
        let network = NetworkGraph {
            graph,
            input,
            logits,
            aux_logits: None,
            logits_full: Some(logits),
            labels: None,
            confidence: None,
            stages: Vec::new(),
        };
        training_step(network, &StepOptions { loss: PixelLoss::default(), ..options })
            .unwrap()
            .graph
    }

    #[test]
    fn cuts_lie_where_little_crosses() {
        // Wide feature maps with narrow ones at conv2 and conv5: a cut there keeps 4 channels of
        // 32 x 32.
        let channels = [4, 32, 32, 4, 32, 32, 4, 32, 4];
        let graph = row(&channels, StepOptions::default());
        let forward = graph.nodes().iter().position(|n| n.name == "loss").unwrap() + 1;
        let tape = Tape::new(&graph, forward);
        let cuts = tape.cuts(tape.read_back_bytes() / 2);
        let names: Vec<&str> = cuts.iter().map(|&c| graph.nodes()[c - 1].name.as_str()).collect();
        assert!(
            !names.is_empty()
                && names.iter().all(|n| ["conv2", "act2", "conv5", "act5"].contains(n)),
            "{names:?}"
        );
        // Without a limit, cuts save nothing.
        assert!(tape.cuts(u64::MAX).is_empty());
    }

    #[test]
    fn what_is_computed_again_stands_before_its_first_reader_and_reads_what_stayed() {
        let graph = row(
            &[4, 32, 32, 4, 32, 32, 4, 32, 4],
            StepOptions { recompute: true, ..StepOptions::default() },
        );
        let names: Vec<&str> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
        let at = |name: &str| {
            names
                .iter()
                .position(|n| *n == name)
                .unwrap_or_else(|| panic!("no `{name}` in {names:?}"))
        };
        // The backward pass of the first segment ends with the gradients of conv0.
        assert!(
            at("conv0.again") < at("act0.again") && at("act0.again") < at("act1.grad.x"),
            "{names:?}"
        );
        assert!(
            at("conv0.again") > at("conv3.grad.w"),
            "the segment after it comes first: {names:?}"
        );
        let reader = graph.find_node("act0.grad.x").unwrap();
        assert_eq!(graph.value_name(reader.inputs[0]), "conv0.again");
    }

    #[test]
    fn a_graph_that_gains_nothing_stays_as_it_was() {
        let plain = row(&[4, 4], StepOptions::default());
        let again = row(&[4, 4], StepOptions { recompute: true, ..StepOptions::default() });
        assert_eq!(plain.nodes().len(), again.nodes().len());
    }
}
