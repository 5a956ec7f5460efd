//! Gradients, graph to graph: each operation's rule adds the nodes for its own, and nothing but the
//! walk here adds them up.
//!
//! Nodes that a rule adds are called after the node that they belong to: `NODE.grad.x`. Sums of
//! several gradients of one value are called after the node that computes it: `NODE.I.sum1`, ...,
//! `I` being the number of the value.

use super::{Graph, ValueId};
use crate::error::{Result, error};
use crate::ops::{Add, Op};
use std::sync::Arc;

/// What an operation's rule ([`Op::gradient`]) sees: its node's values, the gradients that arrived,
/// and where to put those of the inputs.
pub struct Backward<'g> {
    graph: &'g mut Graph,
    name: String,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    arrived: Vec<Option<ValueId>>,
    wanted: Vec<bool>,
    given: Vec<(usize, ValueId)>,
}

impl Backward<'_> {
    /// An input of the node.
    pub fn input(&self, index: usize) -> ValueId {
        self.inputs[index]
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// An output of the node.
    pub fn output(&self, index: usize) -> ValueId {
        self.outputs[index]
    }

    /// The gradient of an output; none where nothing that is differentiated reads it.
    pub fn arrived(&self, output: usize) -> Option<ValueId> {
        self.arrived[output]
    }

    /// The gradient of the only output of an operation that has one.
    pub fn dy(&self) -> ValueId {
        self.arrived[0].expect("invariant: a rule is asked only where a gradient arrived")
    }

    /// Whether anybody asks for the gradient of an input. A rule leaves out what it would compute
    /// for the others.
    pub fn wants(&self, input: usize) -> bool {
        self.wanted[input]
    }

    /// The graph, for shapes.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// Adds a node with one output, called `NODE.grad.PART`.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn op(&mut self, part: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.ops(part, op, inputs)?[0])
    }

    /// Adds a node with any number of outputs.
    ///
    /// # Errors
    /// As [`Graph::push`].
    pub fn ops(&mut self, part: &str, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let name = format!("{}.grad.{part}", self.name);
        self.graph.push(&name, Arc::new(op), inputs)
    }

    /// Gives the gradient of an input. Given twice for one value, gradients are added up.
    pub fn give(&mut self, input: usize, gradient: ValueId) {
        self.given.push((input, gradient));
    }
}

impl Graph {
    /// Adds the nodes that compute the gradients of a number (a loss) by the values `of`, and
    /// returns them: `None` for a value that the number does not depend on.
    ///
    /// `seeds` are the gradients that are known, of values on the way: usually that of the logits,
    /// which the loss operation computes itself.
    ///
    /// # Errors
    /// Where an operation on the way has no rule, or a seed has another shape than its value.
    pub fn gradients(
        &mut self,
        seeds: &[(ValueId, ValueId)],
        of: &[ValueId],
    ) -> Result<Vec<Option<ValueId>>> {
        let mut sums =
            Sums { gradients: vec![None; self.values.len()], counts: vec![0; self.values.len()] };
        for &(value, gradient) in seeds {
            sums.add(self, value, gradient)?;
        }
        let depends = self.depends_on(of);
        for position in (0..self.nodes.len()).rev() {
            // Nodes of gradients are added behind the ones walked here.
            let node = &self.nodes[position];
            let arrived: Vec<Option<ValueId>> =
                node.outputs.iter().map(|v| sums.gradients[v.index()]).collect();
            let wanted: Vec<bool> = node.inputs.iter().map(|v| depends[v.index()]).collect();
            if arrived.iter().all(Option::is_none) || !wanted.contains(&true) {
                continue;
            }
            let (name, op, inputs, outputs) =
                (node.name.clone(), node.op.clone(), node.inputs.clone(), node.outputs.clone());
            let address = || format!("node `{name}` ({})", op.name());
            let read = inputs.clone();
            let mut rule = Backward {
                graph: self,
                name: name.clone(),
                inputs: read,
                outputs,
                arrived,
                wanted,
                given: Vec::new(),
            };
            op.gradient(&mut rule).map_err(|e| e.at(address()))?;
            for (input, gradient) in rule.given {
                if depends[inputs[input].index()] {
                    sums.add(self, inputs[input], gradient).map_err(|e| e.at(address()))?;
                }
            }
        }
        Ok(of.iter().map(|v| sums.gradients[v.index()]).collect())
    }

    /// For each value, whether it is one of `of` or is computed from one.
    fn depends_on(&self, of: &[ValueId]) -> Vec<bool> {
        let mut depends = vec![false; self.values.len()];
        of.iter().for_each(|v| depends[v.index()] = true);
        for node in &self.nodes {
            if node.inputs.iter().any(|v| depends[v.index()]) {
                node.outputs.iter().for_each(|v| depends[v.index()] = true);
            }
        }
        depends
    }
}

/// The gradient of each value so far, and how many were added up for it.
struct Sums {
    gradients: Vec<Option<ValueId>>,
    counts: Vec<usize>,
}

impl Sums {
    fn add(&mut self, graph: &mut Graph, value: ValueId, gradient: ValueId) -> Result<()> {
        if graph.ty(gradient) != graph.ty(value) {
            let (got, expected) = (graph.shape(gradient), graph.shape(value));
            return Err(error!(
                Graph,
                "the gradient of `{}` is {got}, expected {expected}",
                graph.value_name(value)
            ));
        }
        let i = value.index();
        self.gradients[i] = Some(match self.gradients[i] {
            None => gradient,
            Some(sum) => {
                self.counts[i] += 1;
                // Two outputs of a node share its name.
                let name = format!("{}.{i}.sum{}", graph.value_name(value), self.counts[i]);
                graph.push(&name, Arc::new(Add), &[sum, gradient])?[0]
            }
        });
        Ok(())
    }
}
