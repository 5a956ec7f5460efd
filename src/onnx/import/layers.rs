//! Convolutions, fully connected layers and batch norms.

use super::super::proto::NodeProto;
use super::emit::{Emitter, dims_of};
use super::value::{Axis, Map, NCHW, Pending, Value};
use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::graph::{Part, Role};
use crate::ops::{BatchNorm, Conv2d};
use crate::tensor::{KernelShape, Shape, Tensor};
use crate::weights::dialects::KernelLayout;

/// Largest stride, dilation and padding. Networks have distances far below it.
const MAX_DISTANCE: usize = 1 << 16;

/// Padding of windows as a node states it: explicit, or as much as the size of the output needs.
///
/// # Errors
/// Returns an error for negative padding.
pub(super) fn padding(
    node: &NodeProto,
    x: Shape,
    kernel: Size,
    stride: Spacing,
    dilation: Spacing,
) -> Result<Padding> {
    let mode = node.only_text("auto_pad", &["NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"])?;
    if matches!(mode.as_str(), "NOTSET" | "") {
        let [top, left, bottom, right] = node.sizes("pads", 0)?;
        return limited(Padding { top, bottom, left, right });
    }
    if mode == "VALID" {
        return Ok(Padding::default());
    }
    let same = |size: usize, kernel: usize, stride: usize, dilation: usize| {
        let span = (size.div_ceil(stride) - 1) * stride + dilation * (kernel - 1) + 1;
        let total = span.saturating_sub(size);
        let (less, more) = (total / 2, total - total / 2);
        if mode == "SAME_UPPER" { (less, more) } else { (more, less) }
    };
    let (top, bottom) = same(x.h, kernel.height, stride.y, dilation.y);
    let (left, right) = same(x.w, kernel.width, stride.x, dilation.x);
    Ok(Padding { top, bottom, left, right })
}

/// Limits padding to what networks have.
///
/// # Errors
/// Returns an error for more.
pub(super) fn limited(padding: Padding) -> Result<Padding> {
    let Padding { top, bottom, left, right } = padding;
    if [top, bottom, left, right].iter().all(|&side| side <= MAX_DISTANCE) {
        return Ok(padding);
    }
    Err(error!(Weights, "padding must be at most {MAX_DISTANCE}, got {padding}"))
}

/// Distances that a node states, rows first.
///
/// # Errors
/// Returns an error for a distance of 0.
pub(super) fn spacing(node: &NodeProto, name: &str) -> Result<Spacing> {
    let [y, x] = node.sizes(name, 1)?;
    if (1..=MAX_DISTANCE).contains(&x) && (1..=MAX_DISTANCE).contains(&y) {
        return Ok(Spacing { x, y });
    }
    Err(error!(Weights, "`{name}` must be 1 to {MAX_DISTANCE}, got {y} and {x}"))
}

/// Two paddings together.
fn sum(a: Padding, b: Padding) -> Padding {
    Padding {
        top: a.top.saturating_add(b.top),
        bottom: a.bottom.saturating_add(b.bottom),
        left: a.left.saturating_add(b.left),
        right: a.right.saturating_add(b.right),
    }
}

pub(super) fn conv<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    inputs: &[Value<'n>],
) -> Result<Vec<Value<'n>>> {
    let mut map = Emitter::lazy(inputs, 0)?;
    let outside = match map.pending.last() {
        Some(&(_, Pending::Pad(padding))) => {
            map.pending.pop();
            padding
        }
        _ => Padding::default(),
    };
    let map = emitter.settle(map)?;
    emitter.check_axes(&map, &NCHW)?;
    let weight = inputs.get(1).ok_or_else(|| error!(Weights, "the kernel is missing"))?;
    let &[c_out, c_in, height, width] = dims_of(weight)? else {
        return Err(error!(Weights, "expected a kernel with 4 axes, got {:?}", dims_of(weight)?));
    };
    let kernel = Size::new(width, height);
    if kernel.is_empty() || c_out == 0 {
        return Err(error!(Weights, "the kernel is empty: {:?}", dims_of(weight)?));
    }
    let (stride, dilation) = (spacing(node, "strides")?, spacing(node, "dilations")?);
    let x = emitter.graph.shape(map.id);
    let padded = Pending::Pad(outside).shape(x);
    let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(0);
    let conv = Conv2d {
        stride,
        dilation,
        padding: sum(outside, padding(node, padded, kernel, stride, dilation)?),
        groups,
        ..Conv2d::default()
    };
    let shape = KernelShape::new(kernel, c_in, c_out).shape();
    let role = Role { depthwise: groups > 1 && c_in == 1, ..Part::Kernel.into() };
    let w = emitter.param("weight", role, shape, |emitter| {
        KernelLayout::Oihw.read(shape, Part::Kernel, emitter.floats(weight)?)
    })?;
    let id = with_bias(emitter, conv, map.id, w, inputs.get(2), c_out)?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

/// Adds a convolution with a bias of `c_out` values, if there is one.
fn with_bias(
    emitter: &mut Emitter,
    conv: Conv2d,
    x: crate::graph::ValueId,
    w: crate::graph::ValueId,
    bias: Option<&Value>,
    c_out: usize,
) -> Result<crate::graph::ValueId> {
    match bias {
        None | Some(Value::Missing) => emitter.push(conv, &[x, w]),
        Some(bias) => {
            let shape = Shape::vector(c_out);
            let b = emitter.param("bias", Part::Bias, shape, |emitter| {
                let mut values = emitter.floats(bias)?;
                if let [value] = values[..] {
                    values = vec![value; c_out];
                }
                Tensor::new(shape, values)
            })?;
            emitter.push(Conv2d { bias: true, ..conv }, &[x, w, b])
        }
    }
}

pub(super) fn batch_norm<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    inputs: &[Value<'n>],
) -> Result<Vec<Value<'n>>> {
    if node.flag("training_mode") {
        return Err(error!(Weights, "the batch norm is in training mode")
            .advice("export the network in evaluation mode"));
    }
    let map = emitter.map(inputs, 0)?;
    if map.axes.get(1) != Some(&Axis::C) {
        return Err(error!(Weights, "the channels are not the second axis"));
    }
    let shape = Shape::vector(emitter.graph.shape(map.id).c);
    let mut values = vec![map.id];
    for (i, part) in Part::NORM.into_iter().enumerate() {
        let input =
            inputs.get(i + 1).ok_or_else(|| error!(Weights, "input {} is missing", i + 1))?;
        let field = format!("norm.{}", part.field());
        values
            .push(emitter.param(&field, part, shape, |emitter| {
                Tensor::new(shape, emitter.floats(input)?)
            })?);
    }
    let eps = node.float("epsilon").unwrap_or(1e-5);
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(error!(Weights, "epsilon must not be negative, got {eps}"));
    }
    let id = emitter.push(BatchNorm { eps }, &values)?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

/// A product of the channels of each pixel with a matrix, which is a convolution of size 1.
fn dense<'n>(
    emitter: &mut Emitter<'n>,
    map: Map,
    matrix: &Value<'n>,
    bias: Option<&Value<'n>>,
    transposed: bool,
) -> Result<Vec<Value<'n>>> {
    if map.axes.last() != Some(&Axis::C) {
        return Err(error!(Weights, "the channels are not the last axis of the first factor"));
    }
    let &[rows, columns] = dims_of(matrix)? else {
        return Err(error!(Weights, "expected a matrix, got {:?}", dims_of(matrix)?));
    };
    let (c_in, c_out) = if transposed { (columns, rows) } else { (rows, columns) };
    let shape = KernelShape::new(Size::square(1), c_in, c_out).shape();
    let w = emitter.param("weight", Part::Kernel, shape, |emitter| {
        let layout = if transposed { KernelLayout::Oihw } else { KernelLayout::Native };
        layout.read(shape, Part::Kernel, emitter.floats(matrix)?)
    })?;
    let id = with_bias(emitter, Conv2d::default(), map.id, w, bias, c_out)?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn gemm<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    inputs: &[Value<'n>],
) -> Result<Vec<Value<'n>>> {
    let plain = |name| node.float(name).is_none_or(|factor| factor == 1.0);
    if node.flag("transA") || !plain("alpha") || !plain("beta") {
        return Err(error!(Weights, "transA, and alpha and beta other than 1, are not supported"));
    }
    let map = emitter.map(inputs, 0)?;
    let matrix = inputs.get(1).ok_or_else(|| error!(Weights, "the matrix is missing"))?;
    dense(emitter, map, matrix, inputs.get(2), node.flag("transB"))
}

pub(super) fn matmul<'n>(
    emitter: &mut Emitter<'n>,
    _node: &'n NodeProto,
    inputs: &[Value<'n>],
) -> Result<Vec<Value<'n>>> {
    let map = emitter.map(inputs, 0)?;
    let matrix = inputs.get(1).ok_or_else(|| error!(Weights, "the matrix is missing"))?;
    dense(emitter, map, matrix, None, false)
}
