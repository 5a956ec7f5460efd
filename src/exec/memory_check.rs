//! Memory checks before anything is allocated: graphs that do not fit are rejected with a size that
//! would.

use crate::error::{Error, Result, error};
use crate::graph::{Graph, ValueId};
use crate::memory::{Available, Reservation, mib};
use crate::ops::bytes;
use crate::plan::{HostMemory, HostPlan};
use crate::tensor::Shape;

/// Reserves memory for a graph on the CPU.
///
/// # Errors
/// Returns an error of kind `OutOfMemory` if the graph does not fit. The error names the node with
/// the largest output and suggests an input size that would fit.
pub(super) fn reserve(graph: &Graph, plan: &HostPlan) -> Result<Reservation> {
    let need = HostMemory::new(graph, plan, rayon::current_num_threads());
    Reservation::new(need.retained(), need.inputs).map_err(|room| out_of_memory(graph, &need, room))
}

/// The error for a graph that needs more than `room`.
pub(super) fn out_of_memory(graph: &Graph, need: &HostMemory, room: Available) -> Error {
    // Scratch memory of operations hardly depends on the image size.
    let (fixed, grows) = (need.scratch, need.total().saturating_sub(need.scratch));
    let fraction = match room.bytes.checked_sub(fixed) {
        Some(left) if left > 0 => left as f64 / grows.max(1) as f64,
        _ => room.bytes as f64 / need.total().max(1) as f64,
    };
    let of_value = |v: ValueId| bytes(&[graph.ty(v)]);
    let Some(largest) = largest(graph, of_value) else {
        return error!(OutOfMemory, "the graph needs {}, but {room}", mib(need.total()));
    };
    let what = format!(
        "{} takes {} of {}",
        value(graph, largest),
        mib(of_value(largest)),
        mib(need.total())
    );
    let or = if room.is_limit { ", or raise `--max-memory`" } else { "" };
    at(graph, largest, error!(OutOfMemory, "{what} in all, but {room}"))
        .advice(advice(graph, fraction, or))
}

/// Returns the value with the most bytes, excluding parameters.
pub(super) fn largest(graph: &Graph, bytes: impl Fn(ValueId) -> u64) -> Option<ValueId> {
    graph.value_ids().filter(|&v| !graph.is_param(v)).max_by_key(|&v| bytes(v))
}

/// Describes a value for an error whose address names it.
pub(super) fn value(graph: &Graph, v: ValueId) -> String {
    let shape = graph.shape(v);
    if graph.producer(v).is_some() {
        format!("its output {shape}")
    } else {
        format!("its shape {shape}")
    }
}

/// Adds the address of a value's node or input to an error.
pub(super) fn at(graph: &Graph, v: ValueId, error: Error) -> Error {
    let kind = if graph.producer(v).is_some() { "node" } else { "input" };
    error.at(format!("{kind} `{}`", graph.value_name(v)))
}

/// Suggests what would fit into `fraction` of the memory that a graph needs: a smaller input (or,
/// if outputs are larger than inputs, a smaller image), or a smaller batch.
pub(super) fn advice(graph: &Graph, fraction: f64, or: &str) -> String {
    /// Safety margin, because strides round sides up.
    const MARGIN: f64 = 0.99;
    let widest = |values: &mut dyn Iterator<Item = ValueId>| {
        values.map(|v| graph.shape(v)).max_by_key(|s| s.h.saturating_mul(s.w))
    };
    let input = widest(&mut graph.inputs().map(|(_, v)| v));
    let output = widest(&mut graph.outputs().iter().map(|&(_, v)| v));
    let area = |s: &Shape| s.h.saturating_mul(s.w);
    let (shape, what) = match (input, output) {
        (Some(input), Some(output)) if area(&output) > area(&input) => (output, "image"),
        (Some(shape), _) | (None, Some(shape)) => (shape, "input"),
        (None, None) => return format!("use a smaller size{or}"),
    };
    let side = |side: usize| (side as f64 * fraction.sqrt() * MARGIN) as usize;
    let batch = (shape.n as f64 * fraction) as usize;
    match (side(shape.w), side(shape.h)) {
        (0, _) | (_, 0) => format!("no size would fit{or}"),
        (w, h) if batch > 0 && shape.n > 1 => {
            format!("an {what} of about {w}x{h} or a batch of {batch} would fit{or}")
        }
        (w, h) => format!("an {what} of about {w}x{h} would fit{or}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;
    use crate::tensor::TensorType;

    /// Two nodes on an image of 100 x 80.
    fn graph(n: usize) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32(Shape::new(n, 80, 100, 4)));
        let mut root = graph.root();
        let a = root.activate("a", Activation::Relu, x).unwrap();
        let b = root.activate("b", Activation::Relu, a).unwrap();
        graph.output("b", b);
        graph
    }

    fn refused(n: usize, room: Available) -> String {
        let graph = graph(n);
        let need = HostMemory::new(&graph, &HostPlan::new(&graph), 1);
        out_of_memory(&graph, &need, room).to_string()
    }

    #[test]
    fn the_input_the_outputs_and_the_values_between_are_needed() {
        let graph = graph(2);
        let one = 4 * 2 * 80 * 100 * 4;
        let need = HostMemory::new(&graph, &HostPlan::new(&graph), 1);
        assert_eq!(need, HostMemory { values: one, outputs: one, inputs: one, scratch: 0 });
        assert_eq!((need.retained(), need.total()), (2 * one, 3 * one));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_size_that_would() {
        let quarter = Available { bytes: 3 * 4 * 80 * 100 * 4 / 4, is_limit: false };
        let text = refused(1, quarter);
        assert!(
            text.starts_with("node `b`: its output [1, 80, 100, 4] takes 1 MiB of 1 MiB in all, but 0 MiB of memory are"),
            "{text}"
        );
        assert!(text.ends_with("; an input of about 49x39 would fit"), "{text}");
        let text = refused(8, Available { bytes: 8 * quarter.bytes, is_limit: true });
        assert!(
            text.ends_with(
                "; an input of about 49x39 or a batch of 2 would fit, or raise `--max-memory`"
            ),
            "{text}"
        );
        assert!(
            refused(1, Available { bytes: 0, is_limit: false }).ends_with("; no size would fit")
        );
    }

    #[test]
    fn absurd_sizes_are_refused_and_do_not_overflow() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32(Shape::new(usize::MAX, usize::MAX, 2, 2)));
        let y = graph.root().activate("y", Activation::Relu, x).unwrap();
        graph.output("y", y);
        let plan = HostPlan::new(&graph);
        assert_eq!(HostMemory::new(&graph, &plan, 1).total(), u64::MAX);
        assert_eq!(
            reserve(&graph, &plan).map(drop).unwrap_err().kind(),
            crate::ErrorKind::OutOfMemory
        );
    }
}
