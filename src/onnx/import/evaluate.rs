//! Arithmetic on constants: the sizes that exported graphs compute while they run are known as soon
//! as the size of the image is.

use super::super::proto::NodeProto;
use super::constant::{Constant, Values};
use super::indexing::{
    concat, expand, gather, range, reshape, slice, squeeze, transpose, unsqueeze,
};
use crate::error::{Result, error};

/// Maximum number of elements of a computed constant. Sizes have a few.
pub(super) const MAX_LEN: usize = 1 << 16;

/// Computes the output of a node whose inputs are constants. `opset` is the version of the
/// operators.
type Evaluate = fn(&NodeProto, &[Option<&Constant>], i64) -> Result<Constant>;

/// The operators that constants can have.
const OPERATORS: &[(&str, Evaluate)] = &[
    ("Add", |_, x, _| arithmetic(x, i64::checked_add, |a, b| a + b)),
    ("Sub", |_, x, _| arithmetic(x, i64::checked_sub, |a, b| a - b)),
    ("Mul", |_, x, _| arithmetic(x, i64::checked_mul, |a, b| a * b)),
    ("Div", |_, x, _| arithmetic(x, i64::checked_div, |a, b| a / b)),
    ("Mod", |_, x, _| arithmetic(x, i64::checked_rem_euclid, f32::rem_euclid)),
    ("Max", |_, x, _| arithmetic(x, |a, b| Some(a.max(b)), f32::max)),
    ("Min", |_, x, _| arithmetic(x, |a, b| Some(a.min(b)), f32::min)),
    ("Equal", |_, x, _| compare(x, |a, b| a == b)),
    ("Less", |_, x, _| compare(x, |a, b| a < b)),
    ("Greater", |_, x, _| compare(x, |a, b| a > b)),
    ("Where", |_, x, _| choose(x)),
    ("Floor", |_, x, _| map(x, |a| a, f32::floor)),
    ("Ceil", |_, x, _| map(x, |a| a, f32::ceil)),
    ("Round", |_, x, _| map(x, |a| a, f32::round_ties_even)),
    ("Neg", |_, x, _| map(x, i64::wrapping_neg, |a| -a)),
    ("Sqrt", |_, x, _| map(x, |a| a, f32::sqrt)),
    ("Identity", |_, x, _| input(x, 0).cloned()),
    ("Cast", cast),
    ("Concat", concat),
    ("ConstantOfShape", constant_of_shape),
    ("Expand", |_, x, _| expand(x)),
    ("Gather", gather),
    ("Range", |_, x, _| range(x)),
    ("ReduceProd", |_, x, _| product(x)),
    ("Reshape", reshape),
    ("Slice", slice),
    ("Squeeze", squeeze),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

/// Returns whether constants can have an operator.
pub(super) fn is_known(op_type: &str) -> bool {
    OPERATORS.iter().any(|(name, _)| *name == op_type)
}

/// Computes the output of a node whose inputs are constants.
///
/// # Errors
/// Returns an error if the operator is not supported for constants, or the inputs do not fit it.
pub(super) fn evaluate(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    opset: i64,
) -> Result<Constant> {
    let operator = OPERATORS.iter().find(|(name, _)| *name == node.op_type);
    let (_, evaluate) = operator.ok_or_else(|| {
        error!(Weights, "not supported for constants, only for the image's values")
    })?;
    let value = evaluate(node, inputs, opset)?;
    if value.dims.iter().product::<usize>() != value.len() {
        return Err(error!(Weights, "{} elements do not fill {:?}", value.len(), value.dims));
    }
    Ok(value)
}

/// Returns an input.
pub(super) fn input<'c>(inputs: &[Option<&'c Constant>], index: usize) -> Result<&'c Constant> {
    let input = inputs.get(index).copied().flatten();
    input.ok_or_else(|| error!(Weights, "input {index} is missing"))
}

/// Returns the integers of an attribute, or from another version of the operators on of an input.
pub(super) fn list(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    name: &str,
    index: usize,
) -> Result<Option<Vec<i64>>> {
    match (node.ints(name), inputs.get(index).copied().flatten()) {
        (Some(ints), _) => Ok(Some(ints.to_vec())),
        (None, Some(constant)) => Ok(Some(constant.integers()?.to_vec())),
        (None, None) => Ok(None),
    }
}

pub(super) fn check_len(len: Option<usize>) -> Result<usize> {
    len.filter(|&len| len <= MAX_LEN)
        .ok_or_else(|| error!(Weights, "a computed constant has more than {MAX_LEN} elements"))
}

/// Returns the dimensions to which both are repeated, aligned at the end.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let side = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let dims: Option<Vec<usize>> = (0..rank)
        .map(|i| match (side(a, i), side(b, i)) {
            (a, b) if a == b || b == 1 => Some(a),
            (1, b) => Some(b),
            _ => None,
        })
        .collect();
    let dims = dims.ok_or_else(|| error!(Weights, "{a:?} and {b:?} do not fit each other"))?;
    check_len(dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
    Ok(dims)
}

/// Returns the positions of the elements of a tensor repeated to `to`.
pub(super) fn positions<'d>(
    dims: &'d [usize],
    to: &'d [usize],
) -> impl Iterator<Item = usize> + 'd {
    let count = to.iter().product::<usize>();
    (0..count).map(move |mut at| {
        let (mut position, mut stride) = (0, 1);
        for (i, &extent) in to.iter().enumerate().rev() {
            let index = at % extent;
            at /= extent;
            if let Some(own) = (i + dims.len()).checked_sub(to.len()).map(|i| dims[i]) {
                position += if own == 1 { 0 } else { index * stride };
                stride *= own;
            }
        }
        position
    })
}

fn arithmetic(
    inputs: &[Option<&Constant>],
    int: fn(i64, i64) -> Option<i64>,
    float: fn(f32, f32) -> f32,
) -> Result<Constant> {
    let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
    let dims = broadcast(&a.dims, &b.dims)?;
    let pairs = positions(&a.dims, &dims).zip(positions(&b.dims, &dims));
    let values = match (&a.values, &b.values) {
        (Values::Int(a), Values::Int(b)) => {
            let computed: Option<Vec<i64>> = pairs.map(|(i, j)| int(a[i], b[j])).collect();
            let overflow = || error!(Weights, "integer overflow, or division by zero");
            Values::Int(computed.ok_or_else(overflow)?)
        }
        _ => {
            let (a, b) = (a.floats(), b.floats());
            Values::Float(pairs.map(|(i, j)| float(a[i], b[j])).collect())
        }
    };
    Ok(Constant { dims, values })
}

fn compare(inputs: &[Option<&Constant>], holds: fn(f32, f32) -> bool) -> Result<Constant> {
    let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
    let dims = broadcast(&a.dims, &b.dims)?;
    let (x, y) = (a.floats(), b.floats());
    let pairs = positions(&a.dims, &dims).zip(positions(&b.dims, &dims));
    let values = Values::Int(pairs.map(|(i, j)| i64::from(holds(x[i], y[j]))).collect());
    Ok(Constant { dims, values })
}

fn choose(inputs: &[Option<&Constant>]) -> Result<Constant> {
    let [condition, a, b] = [input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?];
    let dims = broadcast(&condition.dims, &broadcast(&a.dims, &b.dims)?)?;
    let chosen = condition.integers()?;
    let each = positions(&condition.dims, &dims)
        .zip(positions(&a.dims, &dims).zip(positions(&b.dims, &dims)));
    let values = match (&a.values, &b.values) {
        (Values::Int(a), Values::Int(b)) => {
            Values::Int(each.map(|(c, (i, j))| if chosen[c] != 0 { a[i] } else { b[j] }).collect())
        }
        _ => {
            let (a, b) = (a.floats(), b.floats());
            let pick = |(c, (i, j)): (usize, (usize, usize))| {
                if chosen[c] != 0 { a[i] } else { b[j] }
            };
            Values::Float(each.map(pick).collect())
        }
    };
    Ok(Constant { dims, values })
}

fn map(
    inputs: &[Option<&Constant>],
    int: fn(i64) -> i64,
    float: fn(f32) -> f32,
) -> Result<Constant> {
    let x = input(inputs, 0)?;
    let values = match &x.values {
        Values::Int(values) => Values::Int(values.iter().map(|&v| int(v)).collect()),
        Values::Float(values) => Values::Float(values.iter().map(|&v| float(v)).collect()),
    };
    Ok(Constant { dims: x.dims.clone(), values })
}

fn cast(node: &NodeProto, inputs: &[Option<&Constant>], _opset: i64) -> Result<Constant> {
    let x = input(inputs, 0)?;
    let values = match (node.int("to"), &x.values) {
        // Floating point of 16, 32 and 64 bits.
        (Some(1 | 10 | 11 | 16), _) => Values::Float(x.floats()),
        (Some(9), _) => Values::Int(x.floats().iter().map(|&v| i64::from(v != 0.0)).collect()),
        (_, Values::Float(values)) => Values::Int(values.iter().map(|&v| v as i64).collect()),
        (_, Values::Int(values)) => Values::Int(values.clone()),
    };
    Ok(Constant { dims: x.dims.clone(), values })
}

fn constant_of_shape(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    _opset: i64,
) -> Result<Constant> {
    let dims = shape(input(inputs, 0)?.integers()?)?;
    let len = check_len(dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
    let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
    let values = match tensor.map(|tensor| super::constant::read(tensor, None)).transpose()? {
        Some(Constant { values: Values::Int(value), .. }) if value.len() == 1 => {
            Values::Int(vec![value[0]; len])
        }
        Some(Constant { values: Values::Float(value), .. }) if value.len() == 1 => {
            Values::Float(vec![value[0]; len])
        }
        None => Values::Float(vec![0.0; len]),
        Some(_) => return Err(error!(Weights, "expected one value")),
    };
    Ok(Constant { dims, values })
}

/// Converts integers to dimensions.
pub(super) fn shape(integers: &[i64]) -> Result<Vec<usize>> {
    let dims = integers.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>();
    dims.map_err(|_| error!(Weights, "negative dimensions {integers:?}"))
}

fn product(inputs: &[Option<&Constant>]) -> Result<Constant> {
    let values = input(inputs, 0)?.integers()?;
    let product = values.iter().try_fold(1i64, |product, &v| product.checked_mul(v));
    let product = product.ok_or_else(|| error!(Weights, "integer overflow"))?;
    Ok(Constant { dims: Vec::new(), values: Values::Int(vec![product]) })
}
