//! How long runs take, and which nodes take it.

use super::{Kind, Runner};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Cost;
use crate::tensor::{Shape, Tensor};
use std::time::Duration;
use web_time::Instant;

/// Durations of the same thing, from the shortest to the longest. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts them; `None` where there are none.
    pub fn new(mut all: Vec<Duration>) -> Option<Self> {
        all.sort();
        (!all.is_empty()).then_some(Self(all))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that a share `p` of 0 to 1 does not exceed, between two of them by their distance.
    pub fn percentile(&self, p: f64) -> Duration {
        let at = p.clamp(0.0, 1.0) * (self.0.len() - 1) as f64;
        let (low, high) = (self.0[at.floor() as usize], self.0[at.ceil() as usize]);
        low + (high - low).mul_f64(at.fract())
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.percentile(0.5)
    }
}

/// What a node takes.
#[derive(Debug, Clone)]
pub struct NodeTime {
    /// The node's name.
    pub name: String,
    /// Its operation.
    pub op: &'static str,
    /// The operation's attributes.
    pub attributes: String,
    /// The kernel in use; `None` on the CPU executor.
    pub kernel: Option<String>,
    /// Shape of the first output.
    pub output: Shape,
    /// Median over the rounds.
    pub time: Duration,
    /// What it computes.
    pub cost: Cost,
}

impl Runner {
    /// Runs `runs` times (at least once), upload and reading back included.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn time(&self, inputs: &[(&str, &Tensor)], runs: usize) -> Result<Times> {
        let run = |_| {
            let start = Instant::now();
            self.run(inputs)?;
            Ok(start.elapsed())
        };
        let all = (0..runs.max(1)).map(run).collect::<Result<Vec<_>>>()?;
        Ok(Times::new(all).expect("invariant: at least one run"))
    }

    /// Times the nodes that run, in their order, `rounds` times (at least once).
    ///
    /// On the CPU executor they are timed as they pass by in whole runs. On a device each is run
    /// alone, several times in one submission, after those before it: without its neighbors, and
    /// with its operands in the caches, a node may take a little less than in a run.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn time_nodes(&self, inputs: &[(&str, &Tensor)], rounds: usize) -> Result<Vec<NodeTime>> {
        let inputs = self.ordered(inputs)?;
        // For each node its kernel and its times.
        let mut found: Vec<(Option<String>, Vec<Duration>)> =
            vec![(None, Vec::new()); self.graph.nodes().len()];
        for _ in 0..rounds.max(1) {
            match &self.kind {
                Kind::Cpu(runner) => {
                    let note = |node: usize, time, _: &[Tensor]| {
                        found[node].1.push(time);
                        Ok(())
                    };
                    runner.run(&inputs, note)?;
                }
                Kind::Gpu(runner) => {
                    for (node, kernel, time) in runner.time_nodes(&inputs)? {
                        found[node].0.get_or_insert_with(|| kernel.to_owned());
                        found[node].1.push(time);
                    }
                }
            }
        }
        let timed = self.graph.nodes().iter().zip(found).filter_map(|(node, (kernel, times))| {
            let time = Times::new(times)?.median();
            let (output, cost) = (self.graph.shape(node.outputs[0]), cost(&self.graph, node));
            let (name, op, attributes) = (node.name.clone(), node.op.name(), node.op.attributes());
            Some(NodeTime { name, op, attributes, kernel, output, time, cost })
        });
        Ok(timed.collect())
    }

    /// Multi-Adds and bytes of one run: the sum over the nodes.
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
