//! What each operation makes of its inputs, for [`Walk`].

use super::graph::{Arithmetic, Axis, Op, SliceMasks, WindowRule};
use super::layers::{Conv, KernelDims, Kind, Window, image_shape};
use super::numbers::Numbers;
use super::walk::{Pending, Value, View, Walk, unsupported};
use crate::error::{Result, error};
use crate::geometry::{Padding, Size};
use crate::tensor::Shape;

/// Returns the value of a node whose first input is known.
pub(super) fn evaluate(walk: &mut Walk, at: usize, op: &Op, inputs: &[Value]) -> Result<Value> {
    let numbers = |walk: &Walk| inputs.iter().map(|v| walk.numbers(v)).collect::<Option<Vec<_>>>();
    let first = inputs.first();
    match op {
        Op::Constant(id) => Ok(Value::Constant(*id)),
        Op::Placeholder { .. } if walk.outline.same_size.contains(&at) => Ok(Value::Sized),
        Op::Placeholder { .. } => Err(error!(Weights, "a second input of the graph")),
        Op::Identity => first.cloned().ok_or_else(|| error!(Weights, "it has no input")),
        Op::Truncate => match first {
            Some(Value::Layer(_) | Value::Sized) => Ok(inputs[0].clone()),
            _ => {
                let numbers = numbers(walk).and_then(|mut all| all.pop());
                let numbers = numbers.ok_or_else(|| error!(Weights, "its value is not known"))?;
                Ok(Value::Numbers(numbers.truncated()))
            }
        },
        Op::Shape => match first {
            Some(Value::Layer(View { layer, pending: Pending::None })) => {
                Ok(shape_numbers(walk.layers[*layer].shape))
            }
            Some(Value::Sized) if walk.shape.is_some() => {
                Ok(walk.shape.map(shape_numbers).expect("invariant: the shape was checked"))
            }
            _ => Err(error!(Weights, "the shape of its input is not known")),
        },
        Op::StridedSlice(masks) => strided_slice(numbers(walk), *masks),
        Op::Pack => {
            let all = numbers(walk).ok_or_else(|| error!(Weights, "its values are not known"))?;
            Ok(Value::Numbers(Numbers::pack(all)?))
        }
        Op::Reshape => reshape(walk, first),
        Op::Arithmetic(arithmetic) => match numbers(walk) {
            Some(all) => match &all[..] {
                [a, b] => Ok(Value::Numbers(Numbers::combine(*arithmetic, a, b)?)),
                _ => Err(error!(Weights, "expected two inputs")),
            },
            None => arithmetic_layers(walk, at, *arithmetic, inputs),
        },
        Op::Concat(axis) => concat(walk, at, *axis, inputs, numbers(walk)),
        Op::Other(name) => Err(unsupported(name)),
        _ => layer(walk, at, op, inputs),
    }
}

fn shape_numbers(shape: Shape) -> Value {
    Value::Numbers(Numbers::list([shape.n, shape.h, shape.w, shape.c].map(|n| n as f64).to_vec()))
}

/// Returns the value of a node that is a layer or a part of one.
fn layer(walk: &mut Walk, at: usize, op: &Op, inputs: &[Value]) -> Result<Value> {
    let Some(&Value::Layer(x)) = inputs.first() else {
        return Err(error!(Weights, "its input is not a value of the network"));
    };
    match op {
        Op::Conv { depthwise, rule } => conv(walk, at, x, inputs.get(1), *depthwise, *rule),
        Op::Bias => {
            let Some(&Value::Constant(bias)) = inputs.get(1) else {
                return Err(error!(Weights, "its bias is not a constant"));
            };
            per_channel(walk, at, x, Kind::Bias(bias))
        }
        Op::BatchNorm { eps } => {
            let mut constants = [0; 4];
            for (constant, input) in constants.iter_mut().zip(1..) {
                let Some(Value::Constant(id)) = inputs.get(input) else {
                    return Err(error!(Weights, "its statistics are not constants"));
                };
                *constant = *id;
            }
            per_channel(walk, at, x, Kind::Norm { constants, eps: *eps })
        }
        Op::Activation(activation) => per_channel(walk, at, x, Kind::Activation(*activation)),
        Op::SpaceToBatch => space_to_batch(walk, x, inputs),
        Op::BatchToSpace => batch_to_space(walk, x, inputs),
        Op::Pad => {
            let padding = walk.integers(inputs.get(1), "padding")?;
            match (&padding[..], x.pending) {
                (&[0, 0, top, bottom, left, right, 0, 0], Pending::None) => {
                    let padding = Padding { top, bottom, left, right };
                    Ok(Value::Layer(View { pending: Pending::Pad(padding), ..x }))
                }
                _ => Err(error!(Weights, "padding {padding:?} is not supported")),
            }
        }
        _ => {
            let x = settled(x)?;
            match op {
                Op::Resize { .. } => {
                    let size = walk.integers(inputs.get(1), "size")?;
                    resize(walk, at, x, &size, op)
                }
                Op::Pool { max, kernel, rule } => pool(walk, at, x, *max, *kernel, *rule),
                Op::Mean => mean(walk, at, x, inputs.get(1)),
                _ => Err(error!(Weights, "the node is not supported here")),
            }
        }
    }
}

/// Returns the layer of a view without pending steps.
fn settled(view: View) -> Result<usize> {
    match view.pending {
        Pending::None => Ok(view.layer),
        _ => Err(error!(Weights, "padding or SpaceToBatch that is not followed by a convolution")),
    }
}

fn conv(
    walk: &mut Walk,
    at: usize,
    x: View,
    kernel: Option<&Value>,
    depthwise: bool,
    mut rule: WindowRule,
) -> Result<Value> {
    let Some(&Value::Constant(kernel)) = kernel else {
        return Err(error!(Weights, "its kernel is not a constant"));
    };
    let input = walk.layers[x.layer].shape;
    let dims = KernelDims::of(&walk.graph.constants[kernel], depthwise, input.c)?;
    let mut pending = Pending::None;
    let explicit = match x.pending {
        Pending::None => None,
        Pending::Pad(padding) => Some(padding),
        Pending::Batch { block, padding, conv: None } => {
            if rule.stride != [1, 1] || rule.dilation != [1, 1] {
                return Err(error!(
                    Weights,
                    "strides or dilations between SpaceToBatch and BatchToSpace"
                ));
            }
            rule.dilation = [block, block];
            pending = Pending::Batch { block, padding, conv: Some(walk.layers.len()) };
            Some(padding)
        }
        Pending::Batch { .. } => {
            return Err(error!(Weights, "two convolutions between SpaceToBatch and BatchToSpace"));
        }
    };
    let window = Window::new([dims.height, dims.width], rule, input.size(), explicit)?;
    let shape = image_shape(window.output(input.size())?, dims.out_channels)?;
    let kind = Kind::Conv(Conv { kernel, depthwise, window });
    let view = walk.push(at, kind, vec![x.layer], shape)?;
    Ok(Value::Layer(View { pending, ..view }))
}

/// Adds a layer that treats each channel alone, so that pending steps may be completed after it.
fn per_channel(walk: &mut Walk, at: usize, x: View, kind: Kind) -> Result<Value> {
    match x.pending {
        Pending::None | Pending::Batch { conv: Some(_), .. } => {}
        _ => _ = settled(x)?,
    }
    let shape = walk.layers[x.layer].shape;
    let view = walk.push(at, kind, vec![x.layer], shape)?;
    Ok(Value::Layer(View { pending: x.pending, ..view }))
}

fn space_to_batch(walk: &Walk, x: View, inputs: &[Value]) -> Result<Value> {
    let layer = settled(x)?;
    let block = walk.integers(inputs.get(1), "block shape")?;
    let padding = walk.integers(inputs.get(2), "padding")?;
    match (&block[..], &padding[..]) {
        (&[y, x], &[top, bottom, left, right]) if x == y && x > 0 => {
            let padding = Padding { top, bottom, left, right };
            let pending = Pending::Batch { block: x, padding, conv: None };
            Ok(Value::Layer(View { layer, pending }))
        }
        _ => Err(error!(Weights, "blocks {block:?} with padding {padding:?} are not supported")),
    }
}

/// Completes an atrous convolution: its padding is that of SpaceToBatch without the crops.
fn batch_to_space(walk: &mut Walk, x: View, inputs: &[Value]) -> Result<Value> {
    let Pending::Batch { block, padding, conv: Some(conv) } = x.pending else {
        return Err(error!(Weights, "BatchToSpace without a convolution in front of it"));
    };
    let blocks = walk.integers(inputs.get(1), "block shape")?;
    let crops = walk.integers(inputs.get(2), "crops")?;
    let &[top, bottom, left, right] = &crops[..] else {
        return Err(error!(Weights, "expected four crops, got {crops:?}"));
    };
    let cropped = || {
        Some(Padding {
            top: padding.top.checked_sub(top)?,
            bottom: padding.bottom.checked_sub(bottom)?,
            left: padding.left.checked_sub(left)?,
            right: padding.right.checked_sub(right)?,
        })
    };
    let Some(padding) = cropped().filter(|_| blocks == [block, block]) else {
        return Err(error!(
            Weights,
            "blocks {blocks:?} and crops {crops:?} do not fit SpaceToBatch"
        ));
    };
    // The layers from the convolution to here are a chain.
    let mut chain = vec![x.layer];
    while let Some(&last) = chain.last().filter(|&&last| last != conv) {
        chain.push(walk.layers[last].inputs[0]);
    }
    let input = walk.layers[walk.layers[conv].inputs[0]].shape.size();
    let Kind::Conv(layer) = &mut walk.layers[conv].kind else {
        return Err(error!(Weights, "BatchToSpace without a convolution in front of it"));
    };
    layer.window.padding = padding;
    let size = layer.window.output(input)?;
    for layer in chain {
        let channels = walk.layers[layer].shape.c;
        walk.layers[layer].shape = image_shape(size, channels)?;
    }
    Ok(Value::Layer(View { layer: x.layer, pending: Pending::None }))
}

fn resize(walk: &mut Walk, at: usize, x: usize, size: &[usize], op: &Op) -> Result<Value> {
    let &[height, width] = size else {
        return Err(error!(Weights, "expected a height and a width, got {size:?}"));
    };
    let (shape, size) = (walk.layers[x].shape, Size::new(width, height));
    if shape.size() == size {
        return Ok(Value::Layer(View { layer: x, pending: Pending::None }));
    }
    let is_pixel = shape.size() == Size::square(1);
    let align_corners = if is_pixel { None } else { Some(resize_setting(op)?) };
    let shape = image_shape(size, shape.c)?;
    Ok(Value::Layer(walk.push(at, Kind::Resize { align_corners }, vec![x], shape)?))
}

/// Returns whether a bilinear resizing aligns the corners.
///
/// # Errors
/// Returns an error for the other rule of TensorFlow 1, which is neither.
pub(super) fn resize_setting(op: &Op) -> Result<bool> {
    match *op {
        Op::Resize { align_corners: true, half_pixel_centers: false } => Ok(true),
        Op::Resize { align_corners: false, half_pixel_centers: true } => Ok(false),
        Op::Resize { align_corners, half_pixel_centers } => Err(error!(
            Weights,
            "a bilinear resizing with align_corners={align_corners} and half_pixel_centers={half_pixel_centers} is not supported"
        )
        .advice("export the network with either align_corners or half_pixel_centers")),
        _ => Err(error!(Weights, "not a bilinear resizing")),
    }
}

fn pool(
    walk: &mut Walk,
    at: usize,
    x: usize,
    max: bool,
    kernel: [usize; 2],
    rule: WindowRule,
) -> Result<Value> {
    let shape = walk.layers[x].shape;
    let window = Window::new(kernel, rule, shape.size(), None)?;
    let size = window.output(shape.size())?;
    let whole = window.kernel == shape.size() && window.padding == Padding::default();
    let kind = if !max && whole { Kind::GlobalAvgPool } else { Kind::Pool { max, window } };
    let shape = image_shape(size, shape.c)?;
    Ok(Value::Layer(walk.push(at, kind, vec![x], shape)?))
}

fn mean(walk: &mut Walk, at: usize, x: usize, axes: Option<&Value>) -> Result<Value> {
    let numbers = axes.and_then(|axes| walk.numbers(axes));
    let numbers = numbers.map(|numbers| numbers.values).unwrap_or_default();
    let mut axes: Vec<i64> =
        numbers.iter().map(|&n| if n < 0.0 { n as i64 + 4 } else { n as i64 }).collect();
    axes.sort_unstable();
    if axes != [1, 2] {
        return Err(error!(Weights, "a mean over the axes {axes:?} is not supported"));
    }
    let shape = image_shape(Size::square(1), walk.layers[x].shape.c)?;
    Ok(Value::Layer(walk.push(at, Kind::GlobalAvgPool, vec![x], shape)?))
}

fn reshape(walk: &Walk, first: Option<&Value>) -> Result<Value> {
    match first {
        Some(Value::Layer(view)) => {
            let layer = settled(*view)?;
            // A single pixel has the same elements with and without its axes.
            if walk.layers[layer].shape.size() == Size::square(1) {
                return Ok(Value::Layer(*view));
            }
            Err(error!(Weights, "a change of axes is not supported in a network"))
        }
        Some(Value::Numbers(numbers)) => Ok(Value::Numbers(numbers.clone().flat())),
        Some(Value::Constant(id)) => Ok(Value::Constant(*id)),
        Some(_) => Err(error!(Weights, "a change of axes of the image")),
        None => Err(error!(Weights, "it has no input")),
    }
}

fn strided_slice(inputs: Option<Vec<Numbers>>, masks: SliceMasks) -> Result<Value> {
    match inputs.as_deref() {
        Some([x, begin, end, stride]) => Ok(Value::Numbers(x.slice(begin, end, stride, masks)?)),
        Some(_) => Err(error!(Weights, "expected four inputs")),
        None => Err(error!(Weights, "its values are not known")),
    }
}

fn arithmetic_layers(
    walk: &mut Walk,
    at: usize,
    op: Arithmetic,
    inputs: &[Value],
) -> Result<Value> {
    match (op, inputs) {
        // Before the normalization only the size matters.
        (_, [Value::Sized, _] | [_, Value::Sized]) if walk.outline.same_size.contains(&at) => {
            Ok(Value::Sized)
        }
        (Arithmetic::Add, &[Value::Layer(a), Value::Layer(b)]) => {
            let (a, b) = (settled(a)?, settled(b)?);
            let (left, right) = (walk.layers[a].shape, walk.layers[b].shape);
            if left != right {
                return Err(error!(Weights, "a sum of {left} and {right}"));
            }
            Ok(Value::Layer(walk.push(at, Kind::Add, vec![a, b], left)?))
        }
        (Arithmetic::Add, &[Value::Layer(x), Value::Constant(bias)])
        | (Arithmetic::Add, &[Value::Constant(bias), Value::Layer(x)]) => {
            let constant = &walk.graph.constants[bias];
            let channels = walk.layers[x.layer].shape.c;
            if constant.dims.iter().product::<usize>() != channels
                || constant.dims.last() != Some(&channels)
            {
                let dims = &constant.dims;
                return Err(error!(Weights, "a sum with a constant {dims:?} is not supported"));
            }
            per_channel(walk, at, x, Kind::Bias(bias))
        }
        _ => Err(unsupported(match op {
            Arithmetic::Add => "Add",
            Arithmetic::Sub => "Sub",
            Arithmetic::Mul => "Mul",
            _ => "arithmetic",
        })),
    }
}

fn concat(
    walk: &mut Walk,
    at: usize,
    place: Axis,
    inputs: &[Value],
    numbers: Option<Vec<Numbers>>,
) -> Result<Value> {
    let (parts, axis) = match (place, inputs) {
        (Axis::Value(axis), _) => (inputs, Some(axis as f64)),
        (Axis::First, [axis, parts @ ..]) | (Axis::Last, [parts @ .., axis]) => {
            (parts, walk.numbers(axis).and_then(|axis| axis.values.first().copied()))
        }
        _ => return Err(error!(Weights, "it has no inputs")),
    };
    if let Some(mut lists) = numbers {
        match place {
            Axis::First => _ = lists.remove(0),
            Axis::Last => _ = lists.pop(),
            Axis::Value(_) => {}
        }
        if axis != Some(0.0) {
            return Err(error!(Weights, "a concatenation along another axis than the first"));
        }
        return Ok(Value::Numbers(Numbers::concat(lists)?));
    }
    if !matches!(axis, Some(3.0 | -1.0)) {
        return Err(error!(Weights, "a concatenation along another axis than the channels"));
    }
    let mut layers = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Layer(view) = part else {
            return Err(error!(
                Weights,
                "a part of the concatenation is not a value of the network"
            ));
        };
        layers.push(settled(*view)?);
    }
    let Some(&first) = layers.first() else {
        return Err(error!(Weights, "a concatenation of nothing"));
    };
    let size = walk.layers[first].shape.size();
    let mut channels = 0usize;
    for &layer in &layers {
        let shape = walk.layers[layer].shape;
        if shape.size() != size {
            return Err(error!(Weights, "a concatenation of {size} and {}", shape.size()));
        }
        channels = channels.saturating_add(shape.c);
    }
    if let [only] = layers[..] {
        return Ok(Value::Layer(View { layer: only, pending: Pending::None }));
    }
    let shape = image_shape(size, channels)?;
    Ok(Value::Layer(walk.push(at, Kind::Concat, layers, shape)?))
}
