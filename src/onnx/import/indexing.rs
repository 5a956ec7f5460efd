//! Constants with other axes, or some of their elements: reshaping, slicing, gathering.

use super::super::proto::NodeProto;
use super::attributes::axis;
use super::constant::{Constant, Values};
use super::evaluate::{MAX_LEN, broadcast, check_len, input, list, positions, shape};
use crate::error::{Result, error};

/// The elements at `positions`, as a tensor of `dims`.
fn pick(x: &Constant, dims: Vec<usize>, positions: &[usize]) -> Result<Constant> {
    check_len(Some(positions.len()))?;
    if positions.iter().any(|&position| position >= x.len()) {
        return Err(error!(Weights, "an index is out of range for {:?}", x.dims));
    }
    let values = match &x.values {
        Values::Int(values) => Values::Int(positions.iter().map(|&i| values[i]).collect()),
        Values::Float(values) => Values::Float(positions.iter().map(|&i| values[i]).collect()),
    };
    Ok(Constant { dims, values })
}

/// Number of elements before, along and after an axis.
fn split(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

pub(super) fn concat(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let parts: Vec<&Constant> = inputs.iter().copied().flatten().collect();
    let first = *parts.first().ok_or_else(|| error!(Weights, "nothing to concatenate"))?;
    let axis = axis(node.int("axis").unwrap_or(0), first.dims.len())?;
    let fits = |part: &&Constant| {
        part.dims.len() == first.dims.len()
            && (0..first.dims.len()).all(|i| i == axis || part.dims[i] == first.dims[i])
    };
    if !parts.iter().all(fits) {
        return Err(error!(Weights, "the parts do not fit each other"));
    }
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    check_len(dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
    let (before, _, after) = split(&first.dims, axis);
    let order = || {
        (0..before).flat_map(|block| {
            parts.iter().enumerate().flat_map(move |(i, part)| {
                let run = part.dims[axis] * after;
                (0..run).map(move |j| (i, block * run + j))
            })
        })
    };
    let all_ints: Option<Vec<&[i64]>> = parts.iter().map(|part| part.integers().ok()).collect();
    let values = match all_ints {
        Some(ints) => Values::Int(order().map(|(i, j)| ints[i][j]).collect()),
        None => {
            let floats: Vec<Vec<f32>> = parts.iter().map(|part| part.floats()).collect();
            Values::Float(order().map(|(i, j)| floats[i][j]).collect())
        }
    };
    Ok(Constant { dims, values })
}

pub(super) fn expand(inputs: &[Option<&Constant>]) -> Result<Constant> {
    let (x, to) = (input(inputs, 0)?, shape(input(inputs, 1)?.integers()?)?);
    let dims = broadcast(&x.dims, &to)?;
    let positions: Vec<usize> = positions(&x.dims, &dims).collect();
    pick(x, dims, &positions)
}

pub(super) fn gather(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let (x, indices) = (input(inputs, 0)?, input(inputs, 1)?);
    let along = axis(node.int("axis").unwrap_or(0), x.dims.len())?;
    let (before, extent, after) = split(&x.dims, along);
    let dims = [&x.dims[..along], &indices.dims[..], &x.dims[along + 1..]].concat();
    check_len(dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
    let mut positions = Vec::new();
    for block in 0..before {
        for &index in indices.integers()? {
            let index = axis(index, extent)?;
            positions.extend((0..after).map(|i| (block * extent + index) * after + i));
        }
    }
    pick(x, dims, &positions)
}

pub(super) fn range(inputs: &[Option<&Constant>]) -> Result<Constant> {
    let scalar = |index| {
        let values = input(inputs, index)?.integers()?;
        values.first().copied().ok_or_else(|| error!(Weights, "input {index} is empty"))
    };
    let (start, end, step) = (scalar(0)?, scalar(1)?, scalar(2)?);
    if step == 0 {
        return Err(error!(Weights, "a range with steps of 0"));
    }
    let next = |&v: &i64| v.checked_add(step);
    let values = std::iter::successors(Some(start), next)
        .take_while(|&v| if step > 0 { v < end } else { v > end })
        .take(MAX_LEN + 1)
        .collect::<Vec<_>>();
    check_len(Some(values.len()))?;
    Ok(Constant::ints(values))
}

/// Returns the dimensions that `Reshape` states: 0 keeps one, and -1 follows from the others.
///
/// # Errors
/// Returns an error if the number of elements differs.
pub(super) fn reshaped(dims: &[usize], stated: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let len: usize = dims.iter().product();
    let fail = || error!(Weights, "cannot reshape {dims:?} to {stated:?}");
    let mut to = Vec::new();
    for (i, &n) in stated.iter().enumerate() {
        to.push(match n {
            0 if !allow_zero => *dims.get(i).ok_or_else(fail)?,
            -1 => 1,
            n => usize::try_from(n).map_err(|_| fail())?,
        });
    }
    let known = to.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(fail)?;
    if let Some(open) = stated.iter().position(|&n| n == -1) {
        to[open] = len.checked_div(known).ok_or_else(fail)?;
    }
    let total = to.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if total == Some(len) { Ok(to) } else { Err(fail()) }
}

pub(super) fn reshape(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let (x, stated) = (input(inputs, 0)?, input(inputs, 1)?.integers()?);
    let dims = reshaped(&x.dims, stated, node.flag("allowzero"))?;
    Ok(Constant { dims, values: x.values.clone() })
}

/// A range along an axis, as `Slice` states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub axis: usize,
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

/// Returns the ranges of a node of type `Slice`, whose bounds are attributes or constant inputs.
///
/// # Errors
/// Returns an error if they do not fit `dims`.
pub(super) fn ranges(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    dims: &[usize],
) -> Result<Vec<Range>> {
    let required = |name, index| {
        let found = list(node, inputs, name, index)?;
        found.ok_or_else(|| error!(Weights, "`{name}` is missing"))
    };
    let (starts, ends) = (required("starts", 1)?, required("ends", 2)?);
    let axes = list(node, inputs, "axes", 3)?;
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(node, inputs, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || steps.contains(&0) {
        return Err(error!(Weights, "the bounds of the slice do not fit each other"));
    }
    let mut ranges = Vec::new();
    for (i, &stated) in axes.iter().enumerate() {
        let axis = axis(stated, dims.len())?;
        let (n, step) = (dims[axis] as i64, steps[i]);
        if n == 0 {
            ranges.push(Range { axis, start: 0, end: 0, step });
            continue;
        }
        let resolve = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let start = resolve(starts[i]).clamp(low.max(0), high);
        // The end of a range in reverse is before the first element if it is far below zero.
        let end = if step < 0 && ends[i] < -n { -1 } else { resolve(ends[i]).clamp(low, high) };
        ranges.push(Range { axis, start, end, step });
    }
    Ok(ranges)
}

pub(super) fn slice(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let mut x = input(inputs, 0)?.clone();
    for Range { axis, start, end, step } in ranges(node, inputs, &x.dims.clone())? {
        let taken: Vec<usize> = std::iter::successors(Some(start), |&v| v.checked_add(step))
            .take_while(|&v| if step > 0 { v < end } else { v > end })
            .map(|v| v as usize)
            .collect();
        let (before, extent, after) = split(&x.dims, axis);
        let positions: Vec<usize> = (0..before)
            .flat_map(|block| taken.iter().map(move |index| block * extent + index))
            .flat_map(|row| (0..after).map(move |i| row * after + i))
            .collect();
        let mut dims = x.dims.clone();
        dims[axis] = taken.len();
        x = pick(&x, dims, &positions)?;
    }
    Ok(x)
}

/// Returns dimensions without the axes that `Squeeze` names, or without those of size 1.
///
/// # Errors
/// Returns an error if such an axis has another size.
pub(super) fn squeezed(dims: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>> {
    let dropped: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| axis(a, dims.len())).collect::<Result<_>>()?,
        None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
    };
    if dropped.iter().any(|&i| dims[i] != 1) {
        return Err(error!(Weights, "cannot drop the axes {dropped:?} of {dims:?}"));
    }
    let kept = dims.iter().enumerate().filter(|(i, _)| !dropped.contains(i));
    Ok(kept.map(|(_, &d)| d).collect())
}

/// Returns dimensions with axes of size 1 where `Unsqueeze` names them.
///
/// # Errors
/// Returns an error if an axis is out of range or named twice.
pub(super) fn unsqueezed(dims: &[usize], axes: &[i64]) -> Result<Vec<usize>> {
    let rank = dims.len() + axes.len();
    let added: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?;
    let mut rest = dims.iter();
    let all: Vec<usize> = (0..rank)
        .filter_map(|i| if added.contains(&i) { Some(1) } else { rest.next().copied() })
        .collect();
    if all.len() == rank { Ok(all) } else { Err(error!(Weights, "an axis is named twice")) }
}

pub(super) fn squeeze(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let x = input(inputs, 0)?;
    let dims = squeezed(&x.dims, list(node, inputs, "axes", 1)?.as_deref())?;
    Ok(Constant { dims, values: x.values.clone() })
}

pub(super) fn unsqueeze(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let x = input(inputs, 0)?;
    let axes = list(node, inputs, "axes", 1)?;
    let axes = axes.ok_or_else(|| error!(Weights, "`axes` is missing"))?;
    Ok(Constant { dims: unsqueezed(&x.dims, &axes)?, values: x.values.clone() })
}

pub(super) fn transpose(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let x = input(inputs, 0)?;
    let order = permutation(node, x.dims.len())?;
    let strides: Vec<usize> = (0..x.dims.len()).map(|i| x.dims[i + 1..].iter().product()).collect();
    let dims: Vec<usize> = order.iter().map(|&i| x.dims[i]).collect();
    let positions: Vec<usize> = (0..x.len())
        .map(|mut at| {
            let mut position = 0;
            for (i, &extent) in dims.iter().enumerate().rev() {
                position += at % extent * strides[order[i]];
                at /= extent;
            }
            position
        })
        .collect();
    pick(x, dims, &positions)
}

/// Returns the order of axes of a node of type `Transpose`, reversed by default.
///
/// # Errors
/// Returns an error if it is no permutation of `rank` axes.
pub(super) fn permutation(node: &NodeProto, rank: usize) -> Result<Vec<usize>> {
    let Some(stated) = node.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let order: Vec<usize> = stated.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?;
    let is_permutation = order.len() == rank && (0..rank).all(|i| order.contains(&i));
    if is_permutation {
        return Ok(order);
    }
    Err(error!(Weights, "{stated:?} is no order of {rank} axes"))
}
