//! The CPU executor: nodes in order through the operations' reference functions.

use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct CpuRunner {
    graph: Arc<Graph>,
    /// For each node the values that nothing reads after it.
    last_read: Vec<Vec<ValueId>>,
}

impl CpuRunner {
    pub(super) fn new(graph: Arc<Graph>) -> Self {
        let mut last = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            for v in node.inputs.iter().chain(&node.outputs) {
                last[v.index()] = Some(i);
            }
        }
        for (_, v) in graph.outputs() {
            last[v.index()] = None;
        }
        let mut last_read = vec![Vec::new(); graph.nodes().len()];
        for v in graph.value_ids() {
            if let Some(i) = last[v.index()] {
                last_read[i].push(v);
            }
        }
        Self { graph, last_read }
    }

    /// Runs once; `timed` is told how long each node took.
    pub(super) fn run(&self, inputs: &[&Tensor], mut timed: impl FnMut(usize, Duration)) -> Result<Vec<Tensor>> {
        let graph = &self.graph;
        let mut given: Vec<Option<&Tensor>> = graph.value_ids().map(|v| graph.param_data(v).map(|p| p.tensor())).collect();
        for ((_, v), tensor) in graph.inputs().zip(inputs) {
            given[v.index()] = Some(tensor);
        }
        let mut computed: Vec<Option<Tensor>> = vec![None; graph.values().len()];
        for (i, node) in graph.nodes().iter().enumerate() {
            let start = Instant::now();
            let mut outputs: Vec<Tensor> = node.outputs.iter().map(|&v| Tensor::zeros(graph.ty(v))).collect();
            let read: Vec<&Tensor> = node
                .inputs
                .iter()
                .map(|v| given[v.index()].or(computed[v.index()].as_ref()).expect("invariant: a verified graph runs in order"))
                .collect();
            node.op.cpu(&read, &mut outputs).map_err(|e| e.at(format!("node `{}` ({})", node.name, node.op.name())))?;
            for (v, tensor) in node.outputs.iter().zip(outputs) {
                computed[v.index()] = Some(tensor);
            }
            for v in &self.last_read[i] {
                computed[v.index()] = None;
            }
            timed(i, start.elapsed());
        }
        let output = |v: ValueId| computed[v.index()].as_ref().or(given[v.index()]).cloned();
        Ok(graph.outputs().iter().map(|&(_, v)| output(v).expect("invariant: outputs are kept")).collect())
    }
}
