//! Operators that act on each value: activations, sums and products.

use super::super::proto::NodeProto;
use super::constant::Constant;
use super::emit::{Emitter, constant_input};
use super::value::{Axis, Map, Pending, Value};
use crate::error::{Result, error};
use crate::graph::{Part, ValueId};
use crate::ops::{Activate, Activation, Add, Mul};

type Outputs<'n> = Result<Vec<Value<'n>>>;

/// Adds an activation.
fn activate<'n>(emitter: &mut Emitter<'n>, inputs: &[Value<'n>], f: Activation) -> Outputs<'n> {
    let map = emitter.map(inputs, 0)?;
    let id = emitter.push(Activate(f), &[map.id])?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn relu<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    activate(e, x, Activation::Relu)
}

pub(super) fn hard_swish<'n>(
    e: &mut Emitter<'n>,
    _: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    activate(e, x, Activation::HardSwish)
}

pub(super) fn sigmoid<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    Ok(vec![Value::Map(e.defer(map, Pending::Sigmoid))])
}

pub(super) fn identity<'n>(_: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    Ok(vec![Value::Map(Emitter::lazy(x, 0)?)])
}

/// Floating point of every size is f32 here, and labels stay labels.
pub(super) fn cast<'n>(_: &mut Emitter<'n>, node: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let is_label = matches!(map.pending.last(), Some((_, Pending::Argmax)));
    if is_label || matches!(node.int("to"), Some(1 | 10 | 11 | 16)) {
        return Ok(vec![Value::Map(map)]);
    }
    Err(error!(Weights, "values of the image cannot become integers"))
}

/// Returns whether an axis of a value is that of its channels, and the operator acts on nothing
/// else.
fn is_over_channels(emitter: &Emitter, node: &NodeProto, map: &Map) -> Result<bool> {
    let (rank, opset) = (map.axes.len(), emitter.definition.opset);
    let default = if opset < 13 { 1 } else { -1 };
    let axis = super::attributes::axis(node.int("axis").unwrap_or(default), rank)?;
    let shape = emitter.shape(map);
    // Before version 13, all axes from this one on were one.
    let rest = opset >= 13 || map.axes[axis + 1..].iter().all(|axis| axis.of(shape) == 1);
    Ok(map.axes[axis] == Axis::C && rest)
}

pub(super) fn softmax<'n>(
    e: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    if !is_over_channels(e, node, &map)? {
        return Err(error!(Weights, "only a softmax over the channels is supported"));
    }
    let op = if node.op_type == "LogSoftmax" { Pending::LogSoftmax } else { Pending::Softmax };
    Ok(vec![Value::Map(e.defer(map, op))])
}

pub(super) fn argmax<'n>(e: &mut Emitter<'n>, node: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let axis = super::attributes::axis(node.int("axis").unwrap_or(0), map.axes.len())?;
    if map.axes[axis] != Axis::C || node.flag("select_last_index") {
        return Err(error!(Weights, "only the first largest value over the channels is supported"));
    }
    let mut map = e.defer(map, Pending::Argmax);
    if node.int("keepdims") == Some(0) {
        map.axes.remove(axis);
    }
    Ok(vec![Value::Map(map)])
}

/// Returns `x * scale + shift`.
fn affine(e: &mut Emitter, x: ValueId, part: &str, scale: f32, shift: f32) -> Result<ValueId> {
    let channels = e.graph.shape(x).c;
    let mut y = x;
    if scale != 1.0 {
        let factor = e.vector(&format!("{part}.scale"), Part::Kernel, vec![scale; channels])?;
        y = e.push_part(&format!("{part}.mul"), Mul, &[y, factor])?;
    }
    if shift != 0.0 {
        let term = e.vector(&format!("{part}.shift"), Part::Bias, vec![shift; channels])?;
        y = e.push_part(&format!("{part}.add"), Add, &[y, term])?;
    }
    Ok(y)
}

/// Returns values limited to a range, from `min(max(x, 0), 6)`.
fn limited(e: &mut Emitter, x: ValueId, min: f32, max: f32) -> Result<ValueId> {
    if (min, max) == (0.0, 6.0) {
        return e.push(Activate(Activation::Relu6), &[x]);
    }
    let scale = 6.0 / (max - min);
    let inner = affine(e, x, "before", scale, -min * scale)?;
    let limited = e.push(Activate(Activation::Relu6), &[inner])?;
    affine(e, limited, "after", 1.0 / scale, min)
}

pub(super) fn clip<'n>(e: &mut Emitter<'n>, node: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let bound = |name, index| -> Result<Option<f32>> {
        let given = constant_input(x, index)?.and_then(|c| c.floats().first().copied());
        // f32::MAX is the default of earlier versions.
        Ok(node.float(name).or(given).filter(|bound| bound.abs() < f32::MAX))
    };
    let (min, max) = (bound("min", 1)?, bound("max", 2)?);
    let map = e.map(x, 0)?;
    let id = match (min, max) {
        (None, None) => map.id,
        (Some(0.0), None) => e.push(Activate(Activation::Relu), &[map.id])?,
        (Some(min), Some(max)) if min < max => limited(e, map.id, min, max)?,
        _ => return Err(error!(Weights, "limits of {min:?} and {max:?} are not supported")),
    };
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn hard_sigmoid<'n>(
    e: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let (alpha, beta) = (node.float("alpha").unwrap_or(0.2), node.float("beta").unwrap_or(0.5));
    if (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5 {
        return activate(e, x, Activation::HardSigmoid);
    }
    let map = e.map(x, 0)?;
    let inner = affine(e, map.id, "inner", 6.0 * alpha, 6.0 * beta)?;
    let limited = e.push(Activate(Activation::Relu6), &[inner])?;
    let id = affine(e, limited, "after", 1.0 / 6.0, 0.0)?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

/// `relu(x) - slope * relu(-x)`.
pub(super) fn leaky_relu<'n>(
    e: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let slope = node.float("alpha").unwrap_or(0.01);
    let map = e.map(x, 0)?;
    let positive = e.push_part("positive", Activate(Activation::Relu), &[map.id])?;
    let negated = affine(e, map.id, "negated", -1.0, 0.0)?;
    let negative = e.push_part("negative", Activate(Activation::Relu), &[negated])?;
    let scaled = affine(e, negative, "slope", -slope, 0.0)?;
    let id = e.push(Add, &[positive, scaled])?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn neg<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let map = e.map(x, 0)?;
    let id = affine(e, map.id, "negated", -1.0, 0.0)?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

/// Returns a constant as a value for each channel of a map that it is repeated to.
fn per_channel(e: &Emitter, constant: &Constant, map: &Map) -> Result<Vec<f32>> {
    let (dims, shape) = (&constant.dims, e.shape(map));
    let mut channels = 1;
    for (i, &extent) in dims.iter().rev().enumerate() {
        let axis = map.axes.iter().rev().nth(i);
        match axis {
            _ if extent == 1 => {}
            Some(Axis::C) if extent == shape.c => channels = extent,
            _ => {
                return Err(error!(
                    Weights,
                    "a constant {dims:?} with a value for each pixel of {:?} is not supported",
                    e.dims(map)
                ));
            }
        }
    }
    let values = constant.floats();
    Ok(if channels == 1 { vec![values[0]; shape.c] } else { values })
}

/// Brings two maps to one order of axes, aligned at the end, and the larger one to the front.
fn paired(e: &mut Emitter, a: Map, b: Map) -> Result<(Map, ValueId)> {
    let (a, b) = if a.axes.len() >= b.axes.len() { (a, b) } else { (b, a) };
    let missing = a.axes.len() - b.axes.len();
    let (x, y) = (e.graph.shape(a.id), e.graph.shape(b.id));
    let fits =
        a.axes[missing..].iter().zip(&b.axes).all(|(i, j)| i == j || j.of(y) == 1 || i.of(x) == 1);
    if !fits {
        return Err(error!(Weights, "the axes {:?} and {:?} do not match", a.axes, b.axes));
    }
    Ok(if x.len() >= y.len() { (a, b.id) } else { (Map { axes: a.axes, ..b }, a.id) })
}

/// A sum or product.
fn binary<'n>(
    e: &mut Emitter<'n>,
    inputs: &[Value<'n>],
    is_product: bool,
    constant: fn(f32) -> f32,
) -> Outputs<'n> {
    let (map, other) = match (&inputs[0], inputs.get(1)) {
        (Value::Map(a), Some(Value::Map(b))) => {
            let (a, b) = (e.settle(a.clone())?, e.settle(b.clone())?);
            paired(e, a, b)?
        }
        (Value::Map(map), Some(Value::Constant(c)))
        | (Value::Constant(c), Some(Value::Map(map))) => {
            let map = e.settle(map.clone())?;
            let values = per_channel(e, c, &map)?.into_iter().map(constant).collect();
            let (field, part) =
                if is_product { ("scale", Part::Kernel) } else { ("shift", Part::Bias) };
            let other = e.vector(field, part, values)?;
            (map, other)
        }
        _ => return Err(error!(Weights, "expected two values, one of them of the image")),
    };
    let id =
        if is_product { e.push(Mul, &[map.id, other])? } else { e.push(Add, &[map.id, other])? };
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn add<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    binary(e, x, false, |c| c)
}

pub(super) fn mul<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    binary(e, x, true, |c| c)
}

/// `a - b = a + (-1) * b`.
pub(super) fn sub<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    if let (Value::Map(_), Some(Value::Constant(_))) = (&x[0], x.get(1)) {
        return binary(e, x, false, |c| -c);
    }
    let map = e.map(x, 1)?;
    let id = affine(e, map.id, "negated", -1.0, 0.0)?;
    binary(e, &[x[0].clone(), Value::Map(Map { id, ..map })], false, |c| c)
}

pub(super) fn div<'n>(e: &mut Emitter<'n>, _: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    match (&x[0], x.get(1)) {
        (Value::Map(_), Some(Value::Constant(_))) => binary(e, x, true, |c| 1.0 / c),
        _ => Err(error!(Weights, "only a division by a constant is supported")),
    }
}
