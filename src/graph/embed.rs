//! Embedding of a graph into another one.

use super::{Graph, ParamInfo, ValueId, ValueSource};
use crate::error::{Result, error};

impl Graph {
    /// Adds the nodes of `other` and returns its outputs with their names. The names of its nodes
    /// and parameters are prefixed with `prefix` and a dot. Parameters keep their identities, so a
    /// network that is embedded twice has its weights on the device only once.
    ///
    /// `inputs` are the values for the inputs of `other`, by name.
    ///
    /// # Errors
    /// Returns an error if an input of `other` is missing or has another type.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn embed(
        &mut self,
        prefix: &str,
        other: &Graph,
        inputs: &[(&str, ValueId)],
    ) -> Result<Vec<(String, ValueId)>> {
        let mut map: Vec<Option<ValueId>> = vec![None; other.values.len()];
        for (mapped, value) in map.iter_mut().zip(&other.values) {
            *mapped = match &value.source {
                ValueSource::Node { .. } => None,
                ValueSource::Param { info, data } => {
                    let info = ParamInfo {
                        name: format!("{prefix}.{}", info.name),
                        layer: format!("{prefix}.{}", info.layer),
                        role: info.role,
                    };
                    Some(self.param_with_data(info, value.ty.shape, data.clone()))
                }
                ValueSource::Input(name) => {
                    let input = inputs.iter().find(|(n, _)| n == name).map(|&(_, v)| v);
                    let input = input.ok_or_else(|| {
                        error!(Graph, "is missing").at(format!("input `{name}` of `{prefix}`"))
                    })?;
                    let (want, got) = (value.ty, self.ty(input));
                    if want != got {
                        return Err(error!(
                            Graph,
                            "expected {:?} {}, got {:?} {}",
                            want.dtype,
                            want.shape,
                            got.dtype,
                            got.shape
                        )
                        .at(format!("input `{name}` of `{prefix}`")));
                    }
                    Some(input)
                }
            };
        }
        const ORDER: &str = "invariant: nodes are in execution order";
        for node in &other.nodes {
            let inputs: Vec<ValueId> =
                node.inputs.iter().map(|v| map[v.index()].expect(ORDER)).collect();
            let outputs =
                self.push(&format!("{prefix}.{}", node.name), node.op.clone(), &inputs)?;
            for (old, new) in node.outputs.iter().zip(outputs) {
                map[old.index()] = Some(new);
            }
        }
        Ok(other
            .outputs
            .iter()
            .map(|(name, v)| (name.clone(), map[v.index()].expect(ORDER)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Device, Runner};
    use crate::graph::ParamRef;
    use crate::ops::{Add, Flip};
    use crate::tensor::{Shape, Tensor, TensorType};

    #[test]
    fn a_graph_that_stands_in_another_twice_shares_its_parameters() {
        let shape = Shape::new(1, 1, 3, 2);
        let mut inner = Graph::new();
        let x = inner.input("x", TensorType::f32(shape));
        let summand =
            ParamRef::new(Tensor::from_fn(Shape::vector(2), |_, _, _, c| 10.0 * c as f32));
        let b = inner.param_with_data("b", Shape::vector(2), Some(summand));
        let y = inner.root().op("sum", Add, &[x, b]).unwrap();
        inner.output("y", y);

        let mut outer = Graph::new();
        let x = outer.input("image", TensorType::f32(shape));
        let once = outer.embed("once", &inner, &[("x", x)]).unwrap();
        let turned = outer.root().op("turned", Flip, &[once[0].1]).unwrap();
        let twice = outer.embed("twice", &inner, &[("x", turned)]).unwrap();
        assert_eq!(twice[0].0, "y");
        outer.output("y", twice[0].1);
        outer.verify().unwrap();
        let params: Vec<_> =
            outer.params().map(|(_, v)| outer.param_data(v).unwrap().id()).collect();
        assert_eq!(params.len(), 2);
        assert_eq!(params[0], params[1]);
        let image = Tensor::from_fn(shape, |_, _, w, _| w as f32);
        let y = Runner::new(&Device::Cpu, outer).unwrap().run(&[("image", &image)]).unwrap();
        assert_eq!(y[0].f32(), [2.0, 22.0, 1.0, 21.0, 0.0, 20.0]);
    }

    #[test]
    fn inputs_that_are_missing_or_do_not_fit_are_named() {
        let mut inner = Graph::new();
        let x = inner.input("x", TensorType::f32(Shape::vector(2)));
        inner.output("x", x);
        let mut outer = Graph::new();
        let other = outer.input("other", TensorType::f32(Shape::vector(3)));
        for (inputs, part) in [(vec![], "is missing"), (vec![("x", other)], "[1, 1, 1, 3]")] {
            let error = outer.embed("inner", &inner, &inputs).unwrap_err().to_string();
            assert!(error.contains("input `x` of `inner`") && error.contains(part), "{error}");
        }
    }
}
