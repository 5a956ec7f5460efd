//! Automatic differentiation of graphs: the rule of each operation adds the nodes for its
//! gradients, and only the backward walk here accumulates them.
//!
//! Nodes that a rule adds are named after the node that they belong to: `NODE.grad.x`. Sums of
//! several gradients of one value are named after the node that computes it: `NODE.I.sum1`, ...,
//! where `I` is the index of the value.

use super::{Graph, Op, ValueId};
use crate::error::{Result, error};
use std::sync::Arc;

/// Context of an operation's gradient rule ([`Op::gradient`]): the values of the node, the
/// gradients of its outputs, and the collected gradients of its inputs.
pub struct Backward<'g> {
    graph: &'g mut Graph,
    name: String,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    output_gradients: Vec<Option<ValueId>>,
    needs_gradient: Vec<bool>,
    input_gradients: Vec<(usize, ValueId)>,
}

impl Backward<'_> {
    /// Returns an input of the node.
    pub fn input(&self, index: usize) -> ValueId {
        self.inputs[index]
    }

    /// Returns the number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Returns an output of the node.
    pub fn output(&self, index: usize) -> ValueId {
        self.outputs[index]
    }

    /// Returns the gradient of an output; `None` if no differentiated node reads it.
    pub fn output_gradient(&self, output: usize) -> Option<ValueId> {
        self.output_gradients[output]
    }

    /// Returns the gradient of the first output, which must exist.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn dy(&self) -> ValueId {
        self.output_gradients[0].expect("invariant: a rule runs only if an output has a gradient")
    }

    /// Returns whether the gradient of an input is needed. A rule may omit the others.
    pub fn needs_gradient(&self, input: usize) -> bool {
        self.needs_gradient[input]
    }

    /// Returns the graph, for shapes.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// Adds a node with one output, named `NODE.grad.PART`.
    ///
    /// # Errors
    /// Returns the same errors as [`Graph::push`].
    pub fn op(&mut self, part: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.ops(part, op, inputs)?[0])
    }

    /// Adds a node with any number of outputs.
    ///
    /// # Errors
    /// Returns the same errors as [`Graph::push`].
    pub fn ops(&mut self, part: &str, op: impl Op, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let name = format!("{}.grad.{part}", self.name);
        self.graph.push(&name, Arc::new(op), inputs)
    }

    /// Sets the gradient of an input. Several gradients of one value are summed.
    pub fn add_gradient(&mut self, input: usize, gradient: ValueId) {
        self.input_gradients.push((input, gradient));
    }
}

impl Graph {
    /// Adds the nodes that compute the gradients of a scalar (a loss) with respect to the values
    /// `of`, and returns them: `None` for a value that the scalar does not depend on.
    ///
    /// `seeds` are pairs of an intermediate value and its known gradient: usually that of the
    /// logits, which the loss operation computes itself. `add` is the operation that sums several
    /// gradients of one value.
    ///
    /// # Errors
    /// Returns an error if an operation on the path has no gradient, or if a seed has another shape
    /// than its value.
    pub(crate) fn gradients_with(
        &mut self,
        add: Arc<dyn Op>,
        seeds: &[(ValueId, ValueId)],
        of: &[ValueId],
    ) -> Result<Vec<Option<ValueId>>> {
        let mut sums = Sums {
            add,
            gradients: vec![None; self.values.len()],
            counts: vec![0; self.values.len()],
        };
        for &(value, gradient) in seeds {
            sums.add(self, value, gradient)?;
        }
        let depends = self.depends_on(of);
        for position in (0..self.nodes.len()).rev() {
            // Gradient nodes are appended after the nodes walked here.
            let node = &self.nodes[position];
            let output_gradients: Vec<Option<ValueId>> =
                node.outputs.iter().map(|v| sums.gradients[v.index()]).collect();
            let needs_gradient: Vec<bool> =
                node.inputs.iter().map(|v| depends[v.index()]).collect();
            if output_gradients.iter().all(Option::is_none) || !needs_gradient.contains(&true) {
                continue;
            }
            let (name, op, inputs, outputs) =
                (node.name.clone(), node.op.clone(), node.inputs.clone(), node.outputs.clone());
            let address = || format!("node `{name}` ({})", op.name());
            let mut rule = Backward {
                graph: self,
                name: name.clone(),
                inputs: inputs.clone(),
                outputs,
                output_gradients,
                needs_gradient,
                input_gradients: Vec::new(),
            };
            op.gradient(&mut rule).map_err(|e| e.at(address()))?;
            for (input, gradient) in rule.input_gradients {
                if depends[inputs[input].index()] {
                    sums.add(self, inputs[input], gradient).map_err(|e| e.at(address()))?;
                }
            }
        }
        Ok(of.iter().map(|v| sums.gradients[v.index()]).collect())
    }

    /// Returns for each value whether it is one of `of` or depends on one.
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

/// The accumulated gradient of each value, and the number of additions.
struct Sums {
    add: Arc<dyn Op>,
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
                graph.push(&name, self.add.clone(), &[sum, gradient])?[0]
            }
        });
        Ok(())
    }
}
