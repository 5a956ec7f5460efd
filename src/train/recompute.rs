//! Recomputation of activations: most of what the forward part computes is forgotten, and computed
//! again when the backward part needs it (Chen et al. 2016, "Training deep nets with sublinear
//! memory cost").
//!
//! The forward part is cut into segments. What crosses a cut stays in memory; the rest of a segment
//! is computed again, from what stayed, right before the first backward node that reads some of it.
//! Backward nodes keep their order, and all operations give the same bits each time (dropout
//! counts, it does not draw), so loss and gradients are the same to the bit. The price is most of a
//! second forward part.

use crate::error::Result;
use crate::graph::{Graph, Node, Resident, Rewrite, ValueId, rewrite};
use crate::ops::kernel::TensorLayout;
use crate::ops::{BatchNorm, BatchNormTrain, Op, Packing};
use crate::plan::Plan;
use std::sync::Arc;

/// Segments are tried from the whole forward part down to about a part in so many.
const MOST_SEGMENTS: u64 = 24;

/// The step's graph with recomputation, where that needs less memory, else as it was. The first
/// `forward` nodes are the forward part with the loss; the others are gradients. Nodes that are
/// computed again are called `NODE.again`.
///
/// # Errors
/// Where nodes of that name exist.
pub(super) fn recompute(graph: Graph, forward: usize) -> Result<Graph> {
    let tape = Tape::new(&graph, forward);
    let all = tape.read_back_bytes();
    let mut best = (activation_bytes(&graph), graph.clone());
    let mut before = Vec::new();
    for parts in 2..=MOST_SEGMENTS {
        let cuts = tape.cuts(all / parts);
        if cuts == before {
            continue;
        }
        let tried = with_segments(&graph, &tape, &cuts)?;
        let bytes = activation_bytes(&tried);
        if bytes < best.0 {
            best = (bytes, tried);
        }
        before = cuts;
    }
    best.1.verify()?;
    Ok(best.1)
}

/// What a training needs for activations: gradients of parameters and statistics lie elsewhere.
fn activation_bytes(graph: &Graph) -> u64 {
    let mut apart = graph.clone();
    let elsewhere = Resident { buffer: String::new(), first: 0, packing: Packing::Channels };
    graph.outputs().iter().for_each(|&(_, v)| apart.set_resident(v, elsewhere.clone()));
    apart.clear_outputs();
    Plan::new(&apart).activation_bytes()
}

/// Who reads what of the forward part.
struct Tape<'g> {
    nodes: &'g [Node],
    /// For each value its bytes; none for what stays anyway.
    bytes: Vec<u64>,
    /// For each value the last node of the forward part that reads it.
    last_read: Vec<usize>,
    /// For each value whether the backward part reads it.
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
            node.inputs.iter().for_each(|v| tape.last_read[v.index()] = i);
            if is_batch_norm(node) {
                node.outputs[1..].iter().for_each(|v| tape.bytes[v.index()] = 0);
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

    /// Whether a value stays in memory, where a cut lies in front of node `cut`.
    fn stays(&self, v: ValueId, cut: usize) -> bool {
        self.last_read[v.index()] >= cut || self.bytes[v.index()] == 0
    }

    fn read_back_bytes(&self) -> u64 {
        let values = self.nodes.iter().flat_map(|n| &n.outputs);
        values.filter(|v| self.read_back[v.index()]).map(|v| self.bytes[v.index()]).sum()
    }

    /// The ends of segments, the last one's left out. Of all the ways to cut in which no segment of
    /// several nodes has more than `limit` bytes for the backward part beside those that cross its
    /// end, the one with the fewest bytes that cross cuts.
    fn cuts(&self, limit: u64) -> Vec<usize> {
        // For each position the bytes that cross cuts up to it, and where its segment begins. A
        // value that crosses several cuts counts once.
        let mut best: Vec<(u64, usize)> = vec![(0, 0)];
        for end in 1..=self.nodes.len() {
            let (mut crossing, mut inside) = (0, 0);
            let mut found = (u64::MAX, 0);
            for start in (0..end).rev() {
                for v in &self.nodes[start].outputs {
                    let bytes = self.bytes[v.index()];
                    match self.stays(*v, end) {
                        true => crossing += bytes,
                        false => inside += if self.read_back[v.index()] { bytes } else { 0 },
                    }
                }
                if inside > limit && start + 1 < end {
                    break;
                }
                // Of equals the longer segment.
                if best[start].0 + crossing <= found.0 {
                    found = (best[start].0 + crossing, start);
                }
            }
            best.push(found);
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

    /// For each segment but the last, the nodes that are computed again.
    fn again(&self, cuts: &[usize]) -> Vec<Vec<usize>> {
        let mut wanted = self.read_back.clone();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let segment = |(start, &end): (usize, &usize)| {
            let mut again = Vec::new();
            for i in (start..end).rev() {
                let node = &self.nodes[i];
                if node.outputs.iter().any(|v| wanted[v.index()] && !self.stays(*v, end)) {
                    node.inputs.iter().for_each(|v| wanted[v.index()] = true);
                    again.push(i);
                }
            }
            again.reverse();
            again
        };
        starts.zip(cuts).map(segment).collect()
    }
}

/// Norms whose statistics stay: they are vectors, and are taken for the second time as they are.
fn is_batch_norm(node: &Node) -> bool {
    node.op.is::<BatchNormTrain>()
}

/// The graph in which the backward part reads what does not stay from nodes that compute it again.
fn with_segments(graph: &Graph, tape: &Tape, cuts: &[usize]) -> Result<Graph> {
    let again = tape.again(cuts);
    let count = graph.values().len();
    let mut twice = Recomputation {
        gone: vec![None; count],
        first: vec![None; count],
        second: vec![None; count],
    };
    for (segment, (nodes, &end)) in again.iter().zip(cuts).enumerate() {
        let values =
            nodes.iter().flat_map(|&i| &tape.nodes[i].outputs).filter(|v| !tape.stays(**v, end));
        values.for_each(|v| twice.gone[v.index()] = Some(segment));
    }
    let mut done = vec![false; cuts.len()];
    let mut position = 0;
    rewrite(graph.clone(), |new, node, inputs| {
        twice.note(&node.inputs, inputs);
        let mut inputs = inputs.to_vec();
        if position >= tape.nodes.len() {
            for v in &node.inputs {
                let segment = twice.gone[v.index()];
                if let Some(segment) = segment.filter(|&s| !std::mem::replace(&mut done[s], true)) {
                    again[segment]
                        .iter()
                        .try_for_each(|&i| twice.compute_again(new, &tape.nodes[i]))?;
                }
            }
            inputs = twice.present(&node.inputs);
        }
        position += 1;
        let outputs = new.graph.push(&node.name, node.op.clone(), &inputs)?;
        twice.note(&node.outputs, &outputs);
        Ok(Some(outputs))
    })
}

/// What stands in the new graph for values of the old one.
struct Recomputation {
    /// For each value the segment that computes it again, where it does not stay.
    gone: Vec<Option<usize>>,
    /// As it was computed first.
    first: Vec<Option<ValueId>>,
    /// As it was computed again.
    second: Vec<Option<ValueId>>,
}

impl Recomputation {
    fn note(&mut self, old: &[ValueId], new: &[ValueId]) {
        old.iter().zip(new).for_each(|(old, new)| self.first[old.index()] = Some(*new));
    }

    /// What the backward part takes for values.
    fn present(&self, values: &[ValueId]) -> Vec<ValueId> {
        let one = |i: usize| if self.gone[i].is_some() { self.second[i] } else { self.first[i] };
        values
            .iter()
            .map(|v| one(v.index()).expect("invariant: nodes stand in running order"))
            .collect()
    }

    fn compute_again(&mut self, new: &mut Rewrite, node: &Node) -> Result<()> {
        let mut inputs = self.present(&node.inputs);
        let op: Arc<dyn Op> = match node.op.downcast_ref() {
            // The same operation as the last part of the first one, so the same bits, and its sums
            // are not made twice.
            Some(&BatchNormTrain { eps }) => {
                inputs.extend(self.present(&node.outputs[1..]));
                Arc::new(BatchNorm { eps })
            }
            None => node.op.clone(),
        };
        let outputs = new.graph.push(&format!("{}.again", node.name), op, &inputs)?;
        node.outputs
            .iter()
            .zip(outputs)
            .for_each(|(old, new)| self.second[old.index()] = Some(new));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StepOptions, training_step};
    use super::*;
    use crate::models::{Backbone, Config, Outputs, build_network};
    use crate::ops::{Activation, PixelLoss};
    use crate::tensor::{Shape, TensorType};

    fn step(backbone: &str, shape: Shape, options: StepOptions) -> Graph {
        let config = Config::deeplab_v3plus(Backbone::named(backbone).unwrap(), 12);
        let network =
            build_network(&config, shape, &Outputs { logits_full: true, ..Outputs::default() })
                .unwrap();
        training_step(network.graph, &options).unwrap().graph
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

    /// A row of 1x1 convolutions with an activation after each, of so many channels, and a loss.
    fn row(channels: &[usize], options: StepOptions) -> Graph {
        let mut graph = Graph::new();
        let mut x = graph.input("input", TensorType::f32(Shape::new(1, 32, 32, channels[0])));
        for (i, pair) in channels.windows(2).enumerate() {
            let weight =
                graph.param(&format!("conv{i}.weight"), Shape::new(1, 1, pair[0], pair[1]));
            let conv = crate::ops::Conv2d::default();
            x = graph.push(&format!("conv{i}"), Arc::new(conv), &[x, weight]).unwrap()[0];
            x = graph.root().activate(&format!("act{i}"), Activation::HardSwish, x).unwrap();
        }
        graph.output("logits_full", x);
        training_step(graph, &StepOptions { loss: PixelLoss::default(), ..options }).unwrap().graph
    }

    #[test]
    fn cuts_lie_where_little_crosses() {
        // Wide maps with a narrow one at conv2, and one at conv5: a cut there keeps 4 channels of
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
        // With no limit there is nothing to gain from a cut.
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
        // The backward part of the first segment ends with the gradients of conv0.
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
