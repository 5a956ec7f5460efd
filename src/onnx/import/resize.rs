//! Resizing, whose rules for the positions of pixels differ between the versions of the operators.

use super::super::proto::NodeProto;
use super::constant::{Constant, Values};
use super::emit::{Emitter, constant_input};
use super::value::{Axis, Map, Pending, Value};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::ops::PixelAlignment;

type Outputs<'n> = Result<Vec<Value<'n>>>;

/// Distance in pixels by which the positions of the file's scale may differ from those of the sizes.
const TOLERANCE: f64 = 1e-3;

/// `Upsample`, which `Resize` replaces since version 10.
pub(super) fn upsample<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let scales = match node.floats("scales") {
        Some(scales) => scales.to_vec(),
        None => required(constant_input(x, 1)?)?.floats(),
    };
    let mode = node.only_text("mode", &["nearest", "linear", "bilinear"])?;
    add(emitter, x, &Target::Scales(scales), PixelAlignment::TopLeft, &mode)
}

pub(super) fn resize<'n>(
    emitter: &mut Emitter<'n>,
    node: &'n NodeProto,
    x: &[Value<'n>],
) -> Outputs<'n> {
    let mode = node.only_text("mode", &["nearest", "linear", "bilinear"])?;
    if emitter.definition.opset < 11 {
        let scales = Target::Scales(required(constant_input(x, 1)?)?.floats());
        return add(emitter, x, &scales, PixelAlignment::TopLeft, &mode);
    }
    if node.flag("antialias") {
        return Err(error!(Weights, "antialiasing is not supported"));
    }
    node.only_text("keep_aspect_ratio_policy", &["stretch"])?;
    let known = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    let alignment = match node.only_text("coordinate_transformation_mode", &known)?.as_str() {
        "align_corners" => PixelAlignment::Corners,
        "asymmetric" => PixelAlignment::TopLeft,
        _ => PixelAlignment::HalfPixel,
    };
    let sizes = constant_input(x, 3)?.filter(|sizes| sizes.len() > 0);
    let target = match sizes {
        Some(sizes) => Target::Sizes(on_all_axes(emitter, node, x, sizes)?),
        None => {
            let scales = required(constant_input(x, 2)?)?;
            Target::Scales(on_all_axes(emitter, node, x, scales)?.floats())
        }
    };
    add(emitter, x, &target, alignment, &mode)
}

fn required(constant: Option<&Constant>) -> Result<&Constant> {
    constant.ok_or_else(|| error!(Weights, "neither sizes nor scales are given"))
}

/// Returns sizes or scales for all axes, where the node states those of some.
fn on_all_axes(
    emitter: &Emitter,
    node: &NodeProto,
    x: &[Value],
    stated: &Constant,
) -> Result<Constant> {
    let Some(axes) = node.ints("axes") else { return Ok(stated.clone()) };
    let dims = emitter.dims(&Emitter::lazy(x, 0)?);
    let at =
        axes.iter().map(|&a| super::attributes::axis(a, dims.len())).collect::<Result<Vec<_>>>()?;
    if at.len() != stated.len() {
        return Err(error!(Weights, "{} sizes or scales for {} axes", stated.len(), at.len()));
    }
    let place = |i: usize| at.iter().position(|&axis| axis == i);
    let values = match &stated.values {
        Values::Int(sizes) => Values::Int(
            (0..dims.len()).map(|i| place(i).map_or(dims[i] as i64, |p| sizes[p])).collect(),
        ),
        Values::Float(scales) => {
            Values::Float((0..dims.len()).map(|i| place(i).map_or(1.0, |p| scales[p])).collect())
        }
    };
    Ok(Constant { dims: vec![dims.len()], values })
}

/// The size of the result, for each axis.
enum Target {
    Sizes(Constant),
    Scales(Vec<f32>),
}

fn add<'n>(
    emitter: &mut Emitter<'n>,
    x: &[Value<'n>],
    target: &Target,
    alignment: PixelAlignment,
    mode: &str,
) -> Outputs<'n> {
    let map = Emitter::lazy(x, 0)?;
    let dims = emitter.dims(&map);
    let to = sizes(&dims, target, alignment)?;
    let from = emitter.shape(&map);
    let mut size = from.size();
    for ((&axis, &from), &to) in map.axes.iter().zip(&dims).zip(&to) {
        match axis {
            Axis::H => size.height = to,
            Axis::W => size.width = to,
            _ if from == to => {}
            _ => return Err(error!(Weights, "only rows and columns can be resized")),
        }
    }
    if size == from.size() {
        return Ok(vec![Value::Map(map)]);
    }
    // From a single pixel all modes are the same.
    if mode == "nearest" && from.size() != Size::square(1) {
        return Err(error!(Weights, "resizing to the nearest pixel is not supported"));
    }
    Ok(vec![resized(emitter, map, size, alignment)])
}

fn resized<'n>(
    emitter: &Emitter<'n>,
    map: Map,
    size: Size,
    alignment: PixelAlignment,
) -> Value<'n> {
    Value::Map(emitter.defer(map, Pending::Resize { size, alignment }))
}

/// Returns the size of each axis of the result.
fn sizes(from: &[usize], target: &Target, alignment: PixelAlignment) -> Result<Vec<usize>> {
    match target {
        Target::Sizes(sizes) => {
            let sizes = super::evaluate::shape(sizes.integers()?)?;
            if sizes.len() == from.len() && !sizes.contains(&0) {
                return Ok(sizes);
            }
            Err(error!(Weights, "cannot resize {from:?} to {sizes:?}"))
        }
        Target::Scales(scales) => {
            if scales.len() != from.len() {
                return Err(error!(Weights, "{} scales for {} axes", scales.len(), from.len()));
            }
            let each = from.iter().zip(scales);
            each.map(|(&from, &scale)| scaled(from, scale, alignment)).collect()
        }
    }
}

/// Returns the size of an axis at a scale. The positions of pixels follow from the scale in the
/// file, and here from the sizes.
fn scaled(from: usize, scale: f32, alignment: PixelAlignment) -> Result<usize> {
    let exact = from as f64 * f64::from(scale);
    // Scales that were divisions have rounding errors.
    let to = if (exact - exact.round()).abs() < 1e-4 { exact.round() } else { exact.floor() };
    if !(to >= 1.0 && to < (1 << 20) as f64) {
        return Err(error!(Weights, "cannot resize {from} pixels by {scale}"));
    }
    let shift = (to / f64::from(scale) - from as f64).abs();
    if alignment != PixelAlignment::Corners && shift > TOLERANCE {
        return Err(error!(
            Weights,
            "{from} pixels cannot be resized by {scale}: {to} pixels are not the same scale"
        )
        .advice("use an image whose size is a multiple of what the network expects"));
    }
    Ok(to as usize)
}
