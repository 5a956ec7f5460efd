//! The operations of TensorFlow that networks consist of, from their attributes.

use super::super::dtype::StoredDType;
use super::graph::{Arithmetic, Axis, Border, Op, SliceMasks, WindowRule};
use super::proto::{self, AttrValue, NodeDef};
use crate::error::{Result, error};
use crate::ops::Activation;

/// Returns the operation of a node that is not a constant.
pub(super) fn op(def: &NodeDef) -> Result<Op> {
    let attributes = Attributes(def);
    if let Some(format) = attributes.text("data_format")
        && format != "NHWC"
    {
        return Ok(Op::Other(format!("{} of the layout {format}", def.op)));
    }
    Ok(match def.op.as_str() {
        "Placeholder" => Op::Placeholder {
            dims: match attributes.get("shape").and_then(|value| value.shape.as_ref()) {
                Some(shape) => proto::shape(shape)?,
                None => Vec::new(),
            },
            is_integer: attributes.dtype("dtype").is_some_and(|dtype| !dtype.is_float()),
        },
        "Cast" if attributes.dtype("DstT").is_some_and(|dtype| !dtype.is_float()) => Op::Truncate,
        "Identity"
        | "Cast"
        | "StopGradient"
        | "CheckNumerics"
        | "PreventGradient"
        | "Snapshot"
        | "PlaceholderWithDefault" => Op::Identity,
        "Conv2D" => conv(&attributes, false)?,
        "DepthwiseConv2dNative" => conv(&attributes, true)?,
        "BiasAdd" | "BiasAddV1" => Op::Bias,
        "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3" => {
            if attributes.get("is_training").and_then(|value| value.b) != Some(false) {
                return Ok(Op::Other(format!("{} of a training graph", def.op)));
            }
            Op::BatchNorm { eps: attributes.get("epsilon").and_then(|v| v.f).unwrap_or(1e-4) }
        }
        "Relu" => Op::Activation(Activation::Relu),
        "Relu6" => Op::Activation(Activation::Relu6),
        "Concat" => Op::Concat(Axis::First),
        "ConcatV2" => Op::Concat(Axis::Last),
        "ResizeBilinear" => Op::Resize {
            align_corners: attributes.flag("align_corners"),
            half_pixel_centers: attributes.flag("half_pixel_centers"),
        },
        "MaxPool" => pool(&attributes, true)?,
        "AvgPool" => pool(&attributes, false)?,
        "Mean" => Op::Mean,
        "Pad" => Op::Pad,
        "SpaceToBatchND" => Op::SpaceToBatch,
        "BatchToSpaceND" => Op::BatchToSpace,
        "Shape" => Op::Shape,
        "StridedSlice" => strided_slice(&attributes),
        "Pack" => Op::Pack,
        "Reshape" | "Squeeze" | "ExpandDims" => Op::Reshape,
        name => arithmetic(name).map_or_else(|| Op::Other(name.to_owned()), Op::Arithmetic),
    })
}

fn arithmetic(name: &str) -> Option<Arithmetic> {
    Some(match name {
        "Add" | "AddV2" => Arithmetic::Add,
        "Sub" => Arithmetic::Sub,
        "Mul" => Arithmetic::Mul,
        "RealDiv" | "Div" => Arithmetic::Div,
        "FloorDiv" => Arithmetic::FloorDiv,
        "FloorMod" => Arithmetic::FloorMod,
        "Maximum" => Arithmetic::Maximum,
        "Minimum" => Arithmetic::Minimum,
        _ => return None,
    })
}

/// The attributes of a node.
struct Attributes<'a>(&'a NodeDef);

impl<'a> Attributes<'a> {
    fn get(&self, name: &str) -> Option<&'a AttrValue> {
        self.0.attr.get(name)
    }

    fn dtype(&self, name: &str) -> Option<StoredDType> {
        proto::dtype(self.get(name)?.kind?)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(|value| value.b).unwrap_or(false)
    }

    fn number(&self, name: &str) -> i64 {
        self.get(name).and_then(|value| value.i).unwrap_or(0)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.get(name)?.s.as_deref()?).ok()
    }

    /// Returns rows and columns of a list over the four axes of an image. `None` if batch or
    /// channels are not one.
    fn pair(&self, name: &str) -> Result<Option<[usize; 2]>> {
        let Some(list) = self.get(name).and_then(|value| value.list.as_ref()) else {
            return Ok(Some([1, 1]));
        };
        Ok(match proto::integers(list)?[..] {
            [] => Some([1, 1]),
            [1, y, x, 1] => {
                usize::try_from(y).ok().zip(usize::try_from(x).ok()).map(|(y, x)| [y, x])
            }
            _ => None,
        })
    }
}

fn window_rule(attributes: &Attributes) -> Result<Option<WindowRule>> {
    let border = match attributes.text("padding") {
        Some("SAME") => Border::Same,
        Some("VALID") => Border::Valid,
        _ => return Ok(None),
    };
    let rule = attributes.pair("strides")?.zip(attributes.pair("dilations")?);
    Ok(rule.map(|(stride, dilation)| WindowRule { stride, dilation, border }))
}

fn conv(attributes: &Attributes, depthwise: bool) -> Result<Op> {
    let name = &attributes.0.op;
    Ok(match window_rule(attributes)? {
        Some(rule) => Op::Conv { depthwise, rule },
        None => Op::Other(format!("{name} with unusual strides or padding")),
    })
}

fn pool(attributes: &Attributes, max: bool) -> Result<Op> {
    let name = &attributes.0.op;
    Ok(match window_rule(attributes)?.zip(attributes.pair("ksize")?) {
        Some((rule, kernel)) => Op::Pool { max, kernel, rule },
        None => Op::Other(format!("{name} with an unusual window")),
    })
}

fn strided_slice(attributes: &Attributes) -> Op {
    if attributes.number("ellipsis_mask") != 0 || attributes.number("new_axis_mask") != 0 {
        return Op::Other("StridedSlice with an ellipsis or new axis".to_owned());
    }
    Op::StridedSlice(SliceMasks {
        begin: attributes.number("begin_mask"),
        end: attributes.number("end_mask"),
        shrink: attributes.number("shrink_axis_mask"),
    })
}

/// Decodes a few little-endian numbers. `None` for a type other than the common ones.
pub(super) fn numbers(dtype: StoredDType, bytes: &[u8]) -> Option<Vec<f64>> {
    Some(match dtype {
        StoredDType::F32 => {
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        StoredDType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        StoredDType::I32 => {
            bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
        }
        StoredDType::I64 => {
            bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
        }
        _ => return None,
    })
}

/// Checks that a size or distance in a file is usable.
pub(super) fn positive(what: &str, n: usize) -> Result<usize> {
    if (1..=1 << 16).contains(&n) {
        return Ok(n);
    }
    Err(error!(Weights, "{what} must be 1 to {}, got {n}", 1 << 16))
}
