//! Building a graph of this crate's operations from the nodes of a file, for one size of the image.

use super::super::proto::NodeProto;
use super::constant::{Constant, Values};
use super::definition::Definition;
use super::operators::{self, Operator};
use super::read::OnnxFile;
use super::value::{Axis, Map, Pending, Value};
use super::{constant, evaluate};
use crate::error::{Error, ErrorKind, Result, error};
use crate::graph::{Graph, Op, ParamInfo, ParamRef, Part, Role, ValueId, Weights};
use crate::ops::{Activate, Activation, Resize, Softmax};
use crate::tensor::{Shape, Tensor};
use crate::text::excerpt;
use std::collections::HashMap;
use std::sync::Arc;

/// Where parameters come from.
pub(super) enum Params<'n> {
    /// They are read from the file and collected.
    Read { file: &'n OnnxFile, weights: &'n mut Weights },
    /// They were read before.
    Known,
}

/// Builds a graph.
pub(super) struct Emitter<'n> {
    pub definition: &'n Definition,
    pub graph: Graph,
    values: HashMap<&'n str, Value<'n>>,
    params: Params<'n>,
    /// Results of what was added when it was used, by input and node.
    settled: HashMap<(ValueId, usize), ValueId>,
    /// The node that is being added.
    at: usize,
}

impl<'n> Emitter<'n> {
    /// Starts a graph with the file's input, the value `image` of `graph`.
    pub fn new(
        definition: &'n Definition,
        graph: Graph,
        image: ValueId,
        params: Params<'n>,
    ) -> Self {
        let axes = definition.input.axes.to_vec();
        let input = Value::Map(Map { id: image, axes, pending: Vec::new() });
        let mut values = HashMap::from([(definition.input.name.as_str(), input)]);
        for (name, dims) in &definition.weights {
            values.insert(name, Value::Weight(name, dims));
        }
        for (name, constant) in &definition.constants {
            values.insert(name, Value::Constant(constant.clone()));
        }
        Self { definition, graph, values, params, settled: HashMap::new(), at: 0 }
    }

    /// Adds all nodes, and returns the output with the operations on it that are still to be added.
    ///
    /// # Errors
    /// Returns an error that names the node if one is not supported, or its inputs do not fit.
    pub fn run(&mut self) -> Result<Map> {
        let definition = self.definition;
        for (index, node) in definition.nodes.iter().enumerate() {
            self.at = index;
            // Errors of this crate's operations name the node already.
            let address = |e: Error| match e.kind() {
                ErrorKind::Graph => e,
                _ => {
                    e.at(format!("node `{}` ({})", definition.names[index], excerpt(&node.op_type)))
                }
            };
            let outputs = self.node(node).map_err(address)?;
            for (name, value) in node.output.iter().zip(outputs) {
                self.values.insert(name, value);
            }
        }
        match self.values.get(definition.output.as_str()) {
            Some(Value::Map(map)) => Ok(map.clone()),
            _ => Err(error!(
                Weights,
                "the output `{}` does not depend on the image",
                excerpt(&definition.output)
            )),
        }
    }

    fn node(&mut self, node: &'n NodeProto) -> Result<Vec<Value<'n>>> {
        let inputs = node.input.iter().map(|name| self.value(name)).collect::<Result<Vec<_>>>()?;
        if node.op_type == "Shape" {
            return Ok(vec![Value::Constant(Arc::new(self.shape_of(node, &inputs)?))]);
        }
        let constants: Option<Vec<Option<&Constant>>> = inputs
            .iter()
            .map(|value| match value {
                Value::Missing => Some(None),
                Value::Constant(constant) => Some(Some(&**constant)),
                Value::Weight(..) | Value::Map(_) => None,
            })
            .collect();
        if let Some(constants) = constants {
            let value = evaluate::evaluate(node, &constants, self.definition.opset)?;
            return Ok(vec![Value::Constant(Arc::new(value))]);
        }
        // Files share weights through nodes that do nothing.
        if let (Value::Weight(..), "Identity" | "Cast") = (&inputs[0], node.op_type.as_str()) {
            return Ok(inputs);
        }
        let Operator { add, .. } = operators::find(&node.op_type)
            .ok_or_else(|| error!(Weights, "the operator is not supported"))?;
        add(self, node, &inputs)
    }

    /// Returns a value by its name.
    fn value(&self, name: &str) -> Result<Value<'n>> {
        if name.is_empty() {
            return Ok(Value::Missing);
        }
        self.values.get(name).cloned().ok_or_else(|| {
            error!(Weights, "no earlier node computes its input `{}`", excerpt(name))
        })
    }

    /// The sizes of the axes of a value, for `Shape`.
    fn shape_of(&self, node: &NodeProto, inputs: &[Value]) -> Result<Constant> {
        let dims = match inputs.first() {
            Some(Value::Map(map)) => self.dims(map),
            Some(Value::Constant(constant)) => constant.dims.clone(),
            Some(Value::Weight(_, dims)) => dims.to_vec(),
            _ => return Err(error!(Weights, "the input is missing")),
        };
        let rank = dims.len() as i64;
        let bound = |name: &str, default: i64| {
            let bound = node.int(name).unwrap_or(default);
            (if bound < 0 { bound.saturating_add(rank) } else { bound }).clamp(0, rank) as usize
        };
        let (start, end) = (bound("start", 0), bound("end", rank));
        let sizes = dims.get(start..end.max(start)).unwrap_or(&[]);
        Ok(Constant::ints(sizes.iter().map(|&n| n as i64).collect()))
    }

    /// Returns an input that depends on the image, with nothing still to be added.
    pub fn map(&mut self, inputs: &[Value], index: usize) -> Result<Map> {
        let map = Self::lazy(inputs, index)?;
        self.settle(map)
    }

    /// Returns an input that depends on the image.
    pub fn lazy(inputs: &[Value], index: usize) -> Result<Map> {
        match inputs.get(index) {
            Some(Value::Map(map)) => Ok(map.clone()),
            _ => Err(error!(Weights, "input {index} does not depend on the image")),
        }
    }

    /// Checks the order of axes. Those of size 1 are interchangeable.
    pub fn check_axes(&self, map: &Map, expected: &[Axis]) -> Result<()> {
        let shape = self.shape(map);
        let same = |(&a, &b): (&Axis, &Axis)| a == b || (a.of(shape), b.of(shape)) == (1, 1);
        if map.axes.len() == expected.len() && map.axes.iter().zip(expected).all(same) {
            return Ok(());
        }
        Err(error!(Weights, "expected axes {expected:?}, got {:?} of {shape}", map.axes))
    }

    /// Returns the shape of a value, with what is still to be added.
    pub fn shape(&self, map: &Map) -> Shape {
        map.pending.iter().fold(self.graph.shape(map.id), |shape, (_, op)| op.shape(shape))
    }

    /// Returns the sizes of the axes of a value.
    pub fn dims(&self, map: &Map) -> Vec<usize> {
        let shape = self.shape(map);
        map.axes.iter().map(|axis| axis.of(shape)).collect()
    }

    /// Adds what is still to be added.
    pub fn settle(&mut self, map: Map) -> Result<Map> {
        let mut id = map.id;
        for (node, pending) in map.pending {
            // Another user of the value may have added it.
            if let Some(&added) = self.settled.get(&(id, node)) {
                id = added;
                continue;
            }
            let op: Arc<dyn Op> = match pending {
                Pending::Sigmoid => Arc::new(Activate(Activation::Sigmoid)),
                Pending::Softmax => Arc::new(Softmax),
                Pending::Resize { size, alignment } => {
                    Arc::new(Resize { size, alignment, window: None })
                }
                Pending::Pad(_) => {
                    return Err(error!(Weights, "padding that no convolution follows"));
                }
                Pending::LogSoftmax => {
                    return Err(error!(Weights, "the logarithm of a softmax inside the network"));
                }
                Pending::Argmax => {
                    return Err(error!(Weights, "labels inside the network"));
                }
            };
            let result = self.push_as(&self.definition.names[node], op, &[id])?;
            self.settled.insert((id, node), result);
            id = result;
        }
        Ok(Map { id, axes: map.axes, pending: Vec::new() })
    }

    /// Appends an operation that is added when its result is used.
    pub fn defer(&self, mut map: Map, pending: Pending) -> Map {
        map.pending.push((self.at, pending));
        map
    }

    /// Adds an operation named after the node.
    pub fn push(&mut self, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.push_as(self.name(), Arc::new(op), inputs)
    }

    /// Adds one of several operations of the node.
    pub fn push_part(&mut self, part: &str, op: impl Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.push_as(&format!("{}.{part}", self.name()), Arc::new(op), inputs)
    }

    fn push_as(&mut self, name: &str, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.graph.push(name, op, inputs)?[0])
    }

    /// Returns the unique name of the node.
    pub fn name(&self) -> &'n str {
        &self.definition.names[self.at]
    }

    /// Returns the elements of a constant. Weights are only there when parameters are read.
    pub fn floats(&self, value: &Value) -> Result<Vec<f32>> {
        match (value, &self.params) {
            (Value::Constant(constant), _) => Ok(constant.floats()),
            (Value::Weight(name, _), Params::Read { file, .. }) => {
                let tensor = file.constants.get(*name);
                let tensor = tensor.ok_or_else(|| error!(Weights, "`{name}` is missing"))?;
                match constant::read(tensor, file.directory.as_deref())?.values {
                    Values::Float(values) => Ok(values),
                    Values::Int(_) => Err(error!(Weights, "expected floating point, got integers")),
                }
            }
            _ => Err(error!(Weights, "expected a constant")),
        }
    }

    /// Adds a parameter of the node. Its elements are only computed when parameters are read.
    pub fn param(
        &mut self,
        field: &str,
        role: impl Into<Role>,
        shape: Shape,
        elements: impl FnOnce(&Self) -> Result<Tensor>,
    ) -> Result<ValueId> {
        let (layer, name) = (self.name().to_owned(), format!("{}.{field}", self.name()));
        let is_new =
            matches!(&self.params, Params::Read { weights, .. } if !weights.contains_key(&name));
        if is_new {
            let tensor = elements(self)?;
            if let Some(first) = tensor.f32().iter().find(|v| !v.is_finite()) {
                return Err(error!(
                    Weights,
                    "`{field}` contains {first}: every value must be finite"
                ));
            }
            if let Params::Read { weights, .. } = &mut self.params {
                weights.insert(name.clone(), ParamRef::new(tensor));
            }
        }
        Ok(self.graph.param(ParamInfo { name, layer, role: role.into() }, shape))
    }

    /// Adds a parameter with a value for each channel.
    pub fn vector(&mut self, field: &str, part: Part, values: Vec<f32>) -> Result<ValueId> {
        let shape = Shape::vector(values.len());
        self.param(field, part, shape, |_| Tensor::new(shape, values))
    }
}

/// Returns the dimensions of a constant.
pub(super) fn dims_of<'v>(value: &'v Value) -> Result<&'v [usize]> {
    match value {
        Value::Constant(constant) => Ok(&constant.dims),
        Value::Weight(_, dims) => Ok(dims),
        _ => Err(error!(Weights, "expected a constant")),
    }
}

/// Returns an input that is a small constant, `None` if it is left out.
pub(super) fn constant_input<'v>(
    inputs: &'v [Value],
    index: usize,
) -> Result<Option<&'v Constant>> {
    match inputs.get(index) {
        None | Some(Value::Missing) => Ok(None),
        Some(Value::Constant(constant)) => Ok(Some(constant)),
        Some(_) => Err(error!(Weights, "input {index} must be a constant")),
    }
}
