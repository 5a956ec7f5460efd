//! Timing of runs and of single nodes.

use super::backend::Program;
use super::runner::{AnyProgram, Runner, with_program};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Cost;
use crate::tensor::{Shape, Tensor};
use std::time::Duration;
use web_time::Instant;

/// Sorted durations of repeated measurements; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts durations; `None` if there are none.
    pub fn new(mut all: Vec<Duration>) -> Option<Self> {
        all.sort();
        (!all.is_empty()).then_some(Self(all))
    }

    /// Returns the number of measurements.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the `p`-quantile, `p` from 0 to 1, with linear interpolation between measurements.
    pub fn percentile(&self, p: f64) -> Duration {
        let at = p.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let (low, high) = (self.0[at.floor() as usize], self.0[at.ceil() as usize]);
        low + (high - low).mul_f64(at.fract())
    }

    /// Returns the median.
    pub fn median(&self) -> Duration {
        self.percentile(0.5)
    }
}

/// Time and cost of a node.
#[derive(Debug, Clone)]
pub struct NodeTime {
    /// Name of the node.
    pub name: String,
    /// Name of the operation.
    pub op: &'static str,
    /// Attributes of the operation.
    pub attributes: String,
    /// The kernel in use; `None` on the CPU executor.
    pub kernel: Option<String>,
    /// Shape of the first output.
    pub output: Shape,
    /// Median over the rounds.
    pub time: Duration,
    /// Multiply-adds and bytes.
    pub cost: Cost,
}

impl Runner {
    /// Times `runs` runs (at least one), including upload and readback.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`].
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn time(&self, inputs: &[(&str, &Tensor)], runs: usize) -> Result<Times> {
        let run = |_| {
            let start = Instant::now();
            self.run(inputs)?;
            Ok(start.elapsed())
        };
        let all = (0..runs.max(1)).map(run).collect::<Result<Vec<_>>>()?;
        Ok(Times::new(all).expect("invariant: at least one run"))
    }

    /// Times the nodes that run, in order, `rounds` times (at least once).
    ///
    /// On the CPU executor nodes are timed within whole runs. On a device each node is run
    /// separately, several times in one submission, after the nodes before it: without its
    /// neighbors, and with its operands in the caches, it may take slightly less time than in a
    /// run.
    ///
    /// # Errors
    /// Returns the same errors as [`Runner::run`].
    pub fn time_nodes(&self, inputs: &[(&str, &Tensor)], rounds: usize) -> Result<Vec<NodeTime>> {
        let inputs = self.ordered(inputs)?;
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); self.graph.nodes().len()];
        for _ in 0..rounds.max(1) {
            let round = with_program!(&self.program, program => program.time_nodes(&inputs))?;
            for (node, time) in round {
                times[node].push(time);
            }
        }
        let mut kernels: Vec<Option<String>> = vec![None; times.len()];
        for (node, kernel) in with_program!(&self.program, program => program.kernels()) {
            kernels[node] = Some(kernel.to_owned());
        }
        let nodes = self.graph.nodes().iter().zip(times).zip(kernels);
        let timed = nodes.filter_map(|((node, times), kernel)| {
            let time = Times::new(times)?.median();
            let (output, cost) = (self.graph.shape(node.outputs[0]), cost(&self.graph, node));
            let (name, op, attributes) = (node.name.clone(), node.op.name(), node.op.attributes());
            Some(NodeTime { name, op, attributes, kernel, output, time, cost })
        });
        Ok(timed.collect())
    }

    /// Returns the multiply-adds and bytes of one run, summed over the nodes.
    pub fn cost(&self) -> Cost {
        self.graph.nodes().iter().map(|node| cost(&self.graph, node)).fold(
            Cost::default(),
            |a, b| Cost { multi_adds: a.multi_adds + b.multi_adds, bytes: a.bytes + b.bytes },
        )
    }
}

fn cost(graph: &Graph, node: &Node) -> Cost {
    let types = |ids: &[ValueId]| ids.iter().map(|&v| graph.ty(v)).collect::<Vec<_>>();
    node.op.cost(&types(&node.inputs), &types(&node.outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_the_times_around_them() {
        let ms = Duration::from_millis;
        assert_eq!(Times::new(Vec::new()), None);
        let times = Times::new([40, 10, 30, 20].map(ms).to_vec()).unwrap();
        assert_eq!(
            (times.percentile(0.0), times.median(), times.percentile(1.0)),
            (ms(10), ms(25), ms(40))
        );
        assert_eq!(Times::new(vec![ms(7)]).unwrap().percentile(0.9), ms(7));
    }
}
