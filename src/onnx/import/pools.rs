//! Pooling.

use super::super::proto::NodeProto;
use super::attributes::axis;
use super::emit::{Emitter, constant_input};
use super::layers::{padding, spacing};
use super::value::{Axis, Map, NCHW, Value};
use crate::error::{Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::ops::{AvgPool, GlobalAvgPool, MaxPool};

type Outputs<'n> = Result<Vec<Value<'n>>>;

/// The window of a pooling node.
struct Window {
    map: Map,
    kernel: Size,
    stride: Spacing,
    dilation: Spacing,
    padding: Padding,
    ceil_mode: bool,
}

fn window<'n>(emitter: &mut Emitter<'n>, node: &NodeProto, x: &[Value<'n>]) -> Result<Window> {
    let map = emitter.map(x, 0)?;
    emitter.check_axes(&map, &NCHW)?;
    let [height, width] = node.sizes("kernel_shape", 0)?;
    let kernel = Size::new(width, height);
    if kernel.is_empty() {
        return Err(error!(Weights, "the window is empty"));
    }
    let (stride, dilation) = (spacing(node, "strides")?, spacing(node, "dilations")?);
    let shape = emitter.graph.shape(map.id);
    let padding = padding(node, shape, kernel, stride, dilation)?;
    Ok(Window { map, kernel, stride, dilation, padding, ceil_mode: node.flag("ceil_mode") })
}

pub(super) fn max<'n>(e: &mut Emitter<'n>, node: &'n NodeProto, x: &[Value<'n>]) -> Outputs<'n> {
    let Window { map, kernel, stride, dilation, padding, ceil_mode } = window(e, node, x)?;
    let id = e.push(MaxPool { kernel, stride, dilation, padding, ceil_mode }, &[map.id])?;
    // A second output would be the positions, which nothing that is supported reads.
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn average<'n>(
    e: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let Window { map, kernel, stride, dilation, padding, ceil_mode } = window(e, node, x)?;
    if dilation != Spacing::ONE {
        return Err(error!(Weights, "average pooling with dilation is not supported"));
    }
    let count_include_pad = node.flag("count_include_pad");
    let pool = AvgPool { kernel, stride, padding, count_include_pad, ceil_mode };
    let id = e.push(pool, &[map.id])?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

pub(super) fn global_average<'n>(
    e: &mut Emitter<'n>,
    _: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = e.map(x, 0)?;
    e.check_axes(&map, &NCHW)?;
    let id = e.push(GlobalAvgPool, &[map.id])?;
    Ok(vec![Value::Map(Map { id, ..map })])
}

/// The mean over rows and columns.
pub(super) fn reduce_mean<'n>(
    e: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let map = e.map(x, 0)?;
    let rank = map.axes.len();
    let given = match (node.ints("axes"), constant_input(x, 1)?) {
        (Some(axes), _) => axes.to_vec(),
        (None, Some(axes)) => axes.integers()?.to_vec(),
        (None, None) => (0..rank as i64).collect(),
    };
    let over: Vec<usize> = given.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?;
    let shape = e.graph.shape(map.id);
    // Over an axis of size 1 the mean is the value itself.
    let is_over = |axis: Axis| over.iter().any(|&i| map.axes[i] == axis) || axis.of(shape) == 1;
    let spatial = is_over(Axis::H) && is_over(Axis::W);
    let others = over
        .iter()
        .any(|&i| !matches!(map.axes[i], Axis::H | Axis::W) && map.axes[i].of(shape) != 1);
    if !spatial || others {
        return Err(error!(Weights, "only a mean over all rows and columns is supported"));
    }
    let id = e.push(GlobalAvgPool, &[map.id])?;
    let mut axes = map.axes;
    if node.int("keepdims") == Some(0) {
        axes =
            axes.iter().enumerate().filter(|(i, _)| !over.contains(i)).map(|(_, &a)| a).collect();
    }
    Ok(vec![Value::Map(Map { id, axes, pending: Vec::new() })])
}
