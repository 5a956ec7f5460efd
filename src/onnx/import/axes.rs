//! Operators that change the axes of a value: most only change what the axes mean in the file.

use super::super::proto::NodeProto;
use super::attributes::axis;
use super::constant::Constant;
use super::emit::{Emitter, constant_input};
use super::evaluate::list;
use super::indexing::{Range, permutation, ranges, reshaped, squeezed, unsqueezed};
use super::layers::limited;
use super::value::{Axis, Map, NCHW, Pending, Value};
use crate::error::{Result, error};
use crate::geometry::Padding;
use crate::ops::{Concat, Slice};

type Outputs<'n> = Result<Vec<Value<'n>>>;

/// Returns the inputs that are constants.
fn constants<'v>(inputs: &'v [Value]) -> Vec<Option<&'v Constant>> {
    let constant = |value: &'v Value| match value {
        Value::Constant(constant) => Some(&**constant),
        _ => None,
    };
    inputs.iter().map(constant).collect()
}

pub(super) fn transpose<'n>(
    _: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let order = permutation(node, map.axes.len())?;
    let axes = order.iter().map(|&i| map.axes[i]).collect();
    Ok(vec![Value::Map(Map { axes, ..map })])
}

/// Gives a value other dimensions, of which those that are not 1 must stay in order.
fn relabel<'n>(emitter: &Emitter<'n>, map: Map, to: &[usize]) -> Outputs<'n> {
    let from = emitter.dims(&map);
    let mut large = from.iter().zip(&map.axes).filter(|(n, _)| **n != 1);
    // Any axis of size 1 can stand for another one; those at the front keep their order.
    let mut ones: Vec<Axis> =
        from.iter().zip(&map.axes).filter(|(n, _)| **n == 1).map(|(_, &axis)| axis).collect();
    let shape = emitter.shape(&map);
    ones.extend(NCHW.into_iter().filter(|a| a.of(shape) == 1 && !map.axes.contains(a)));
    let mut ones = ones.into_iter().filter(|&axis| axis != Axis::One);
    let axes: Option<Vec<Axis>> = to
        .iter()
        .map(|&n| match n {
            1 => Some(ones.next().unwrap_or(Axis::One)),
            n => large.next().filter(|(same, _)| **same == n).map(|(_, &axis)| axis),
        })
        .collect();
    match axes {
        Some(axes) if large.next().is_none() => Ok(vec![Value::Map(Map { axes, ..map })]),
        _ => Err(error!(
            Weights,
            "from {from:?} to {to:?}: only axes of size 1 can be added or removed"
        )),
    }
}

pub(super) fn reshape<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let stated = constant_input(x, 1)?.ok_or_else(|| error!(Weights, "the shape is missing"))?;
    let to = reshaped(&emitter.dims(&map), stated.integers()?, node.flag("allowzero"))?;
    relabel(emitter, map, &to)
}

pub(super) fn flatten<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let dims = emitter.dims(&map);
    let stated = node.int("axis").unwrap_or(1);
    let at = if stated == dims.len() as i64 { dims.len() } else { axis(stated, dims.len())? };
    let to = [dims[..at].iter().product(), dims[at..].iter().product()];
    relabel(emitter, map, &to)
}

pub(super) fn squeeze<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let named = list(node, &constants(x), "axes", 1)?;
    let dims = emitter.dims(&map);
    let to = squeezed(&dims, named.as_deref())?;
    relabel(emitter, map, &to)
}

pub(super) fn unsqueeze<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let named = list(node, &constants(x), "axes", 1)?;
    let named = named.ok_or_else(|| error!(Weights, "`axes` is missing"))?;
    let to = unsqueezed(&emitter.dims(&map), &named)?;
    relabel(emitter, map, &to)
}

pub(super) fn concat<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let first = emitter.map(x, 0)?;
    let along = axis(node.int("axis").unwrap_or(1), first.axes.len())?;
    if first.axes[along] != Axis::C {
        return Err(error!(Weights, "only a concatenation of channels is supported"));
    }
    let mut parts = vec![first.id];
    for index in 1..x.len() {
        let part = emitter.map(x, index)?;
        let shape = emitter.graph.shape(part.id);
        let same = |(a, b): (&Axis, &Axis)| a == b || b.of(shape) == 1 && *a != Axis::C;
        if part.axes.len() != first.axes.len() || !first.axes.iter().zip(&part.axes).all(same) {
            return Err(error!(
                Weights,
                "the axes {:?} and {:?} do not match", first.axes, part.axes
            ));
        }
        parts.push(part.id);
    }
    let id = emitter.push(Concat, &parts)?;
    Ok(vec![Value::Map(Map { id, ..first })])
}

pub(super) fn slice<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let mut map = emitter.map(x, 0)?;
    let dims = emitter.dims(&map);
    for Range { axis, start, end, step } in ranges(node, &constants(x), &dims)? {
        if (start, end, step) == (0, dims[axis] as i64, 1) {
            continue;
        }
        if map.axes[axis] != Axis::C || step != 1 {
            return Err(error!(Weights, "only a slice of consecutive channels is supported"));
        }
        let channels = usize::try_from(end - start).unwrap_or(0);
        map.id = emitter.push(Slice { first: start as usize, channels }, &[map.id])?;
    }
    Ok(vec![Value::Map(map)])
}

pub(super) fn split<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = emitter.map(x, 0)?;
    let along = axis(node.int("axis").unwrap_or(0), map.axes.len())?;
    if map.axes[along] != Axis::C {
        return Err(error!(Weights, "only a split of the channels is supported"));
    }
    let total = emitter.graph.shape(map.id).c;
    let parts = node.output.len();
    let sizes = match list(node, &constants(x), "split", 1)? {
        Some(sizes) => sizes,
        None => {
            let each = total.div_ceil(parts.max(1));
            let size = |i: usize| total.saturating_sub(i * each).min(each) as i64;
            (0..parts).map(size).collect()
        }
    };
    let mut first = 0;
    let mut outputs = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        let channels = usize::try_from(size).unwrap_or(0);
        let id =
            emitter.push_part(&format!("part{index}"), Slice { first, channels }, &[map.id])?;
        first = first.saturating_add(channels);
        outputs.push(Value::Map(Map { id, ..map.clone() }));
    }
    if first != total || outputs.len() != parts {
        return Err(error!(Weights, "{sizes:?} do not split {total} channels into {parts} parts"));
    }
    Ok(outputs)
}

pub(super) fn pad<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    node.only_text("mode", &["constant"])?;
    let map = Emitter::lazy(x, 0)?;
    let constants = constants(x);
    let pads = match list(node, &constants, "pads", 1)? {
        Some(pads) => pads,
        None => node.ints("paddings").unwrap_or(&[]).to_vec(),
    };
    let given = constants.get(2).copied().flatten().and_then(|c| c.floats().first().copied());
    let value = node.float("value").or(given).unwrap_or(0.0);
    let rank = map.axes.len();
    let axes = match constants.get(3).copied().flatten() {
        Some(axes) => {
            axes.integers()?.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(error!(Weights, "expected {} values of padding, got {pads:?}", 2 * axes.len()));
    }
    if pads.iter().all(|&n| n == 0) {
        return Ok(vec![Value::Map(map)]);
    }
    let mut padding = Padding::default();
    for (i, &at) in axes.iter().enumerate() {
        let amount = |n: i64| {
            usize::try_from(n).map_err(|_| error!(Weights, "negative padding, which crops"))
        };
        let (before, after) = (amount(pads[i])?, amount(pads[i + axes.len()])?);
        match map.axes[at] {
            Axis::H => (padding.top, padding.bottom) = (before, after),
            Axis::W => (padding.left, padding.right) = (before, after),
            _ if (before, after) == (0, 0) => {}
            _ => return Err(error!(Weights, "padding of channels is not supported")),
        }
    }
    if value != 0.0 {
        return Err(error!(Weights, "padding with {value} is not supported, only with 0"));
    }
    let (map, padding) = (emitter.settle(map)?, limited(padding)?);
    Ok(vec![Value::Map(emitter.defer(map, Pending::Pad(padding)))])
}
