//! Gradients: every operation's rule against finite differences of a double-precision oracle, on
//! both executors.

mod conv;
mod dropout;
mod loss;
mod loss_golden;
mod networks;
mod norm;
mod optimizer;
#[path = "../ops_oracle/oracle.rs"]
#[allow(dead_code)]
mod oracle;
mod pixel;
mod pool;
#[path = "../support/mod.rs"]
mod support;
mod walk;

use atrous::engine::exec::Runner;
use atrous::engine::graph::{Graph, ParamRef, ValueId};
use atrous::engine::ops::{Op, Packing};
use atrous::engine::{Shape, Tensor};
use oracle::Map;
use std::sync::Arc;
use support::{Rng, allclose, devices};

/// Computes an operation in double precision.
type Oracle = Box<dyn Fn(&[Map]) -> Map>;

/// An operation at a point, and its result there in double precision.
struct Case {
    op: Arc<dyn Op>,
    inputs: Vec<Tensor>,
    oracle: Oracle,
}

impl Case {
    fn new(op: impl Op, inputs: Vec<Tensor>, oracle: impl Fn(&[Map]) -> Map + 'static) -> Self {
        Self { op: Arc::new(op), inputs, oracle: Box::new(oracle) }
    }

    fn what(&self) -> String {
        let shapes: Vec<String> = self.inputs.iter().map(|t| t.shape().to_string()).collect();
        format!("{} {} of {}", self.op.name(), self.op.attributes(), shapes.join(", "))
    }

    /// The graph of the gradients of `sum(y * dy)` with respect to every input. Inputs that devices
    /// pack as matrices are parameters.
    fn graph(&self, dy: Shape) -> atrous::Result<Graph> {
        let mut graph = Graph::new();
        let ids: Vec<ValueId> = (0..)
            .zip(&self.inputs)
            .map(|(i, tensor)| match self.op.packing(i) {
                Packing::Matrix => graph.param_with_data(
                    &format!("x{i}"),
                    tensor.shape(),
                    Some(ParamRef::new(tensor.clone())),
                ),
                Packing::Channels => graph.input(&format!("x{i}"), tensor.ty()),
            })
            .collect();
        let dy = graph.input("dy", atrous::engine::TensorType::f32(dy));
        let y = graph.push("op", self.op.clone(), &ids)?[0];
        let gradients = graph.gradients(&[(y, dy)], &ids)?;
        for (i, gradient) in gradients.into_iter().enumerate() {
            graph.output(&format!("d{i}"), gradient.expect("the output depends on every input"));
        }
        Ok(graph)
    }

    /// `(L(x + h) - L(x - h)) / 2h` for every element of every input, with `L = sum(y * dy)`.
    fn differences(&self, dy: &Map) -> Vec<Vec<f64>> {
        const H: f64 = 1e-4;
        let mut maps: Vec<Map> = self.inputs.iter().map(Map::of).collect();
        let loss = |maps: &[Map]| {
            (self.oracle)(maps).data.iter().zip(&dy.data).map(|(y, dy)| y * dy).sum::<f64>()
        };
        (0..maps.len())
            .map(|i| {
                let each = |k: usize| {
                    let x = maps[i].data[k];
                    maps[i].data[k] = x + H;
                    let above = loss(&maps);
                    maps[i].data[k] = x - H;
                    let below = loss(&maps);
                    maps[i].data[k] = x;
                    (above - below) / (2.0 * H)
                };
                (0..self.inputs[i].shape().len()).map(each).collect()
            })
            .collect()
    }
}

/// Runs all cases on every device, then fails if any case failed.
///
/// Elements are sums of at most some hundred products of numbers in [-1, 1]: f32 rounds them by
/// less than 2e-5, and the error of the difference is about `H * H` times the third derivative,
/// which for these functions is zero or small.
fn check(rng: &mut Rng, cases: &[Case]) {
    let mut problems = Vec::new();
    for case in cases {
        let what = case.what();
        let maps: Vec<Map> = case.inputs.iter().map(Map::of).collect();
        let dy = rng.tensor((case.oracle)(&maps).shape);
        let wanted = case.differences(&Map::of(&dy));
        let graph = match case.graph(dy.shape()) {
            Ok(graph) => graph,
            Err(e) => {
                problems.push(format!("{what}: {e}"));
                continue;
            }
        };
        for device in devices() {
            let named: Vec<(String, &Tensor)> =
                (0..).zip(&case.inputs).map(|(i, t)| (format!("x{i}"), t)).collect();
            let mut named: Vec<(&str, &Tensor)> =
                named.iter().map(|(n, t)| (n.as_str(), *t)).collect();
            named.push(("dy", &dy));
            match Runner::new(&device, graph.clone()).and_then(|runner| runner.run(&named)) {
                Err(e) => problems.push(format!("{what} on {device}: {e}")),
                Ok(gradients) => {
                    for (i, (got, want)) in gradients.iter().zip(&wanted).enumerate() {
                        problems.extend(
                            allclose(
                                &format!("{what} on {device}, input {i}"),
                                got,
                                want,
                                5e-5,
                                1e-4,
                            )
                            .err(),
                        );
                    }
                }
            }
        }
    }
    let shown = problems.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} of {} cases failed:\n{shown}", problems.len(), cases.len());
}
