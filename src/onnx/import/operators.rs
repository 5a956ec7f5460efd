//! The operators of ONNX that become operations of this crate.

use super::super::proto::NodeProto;
use super::emit::Emitter;
use super::value::Value;
use super::{arithmetic, axes, evaluate, layers, pools, resize};
use crate::error::{Error, Result, error};
use crate::text::excerpt;
use std::collections::BTreeMap;

/// Adds a node to the graph, and returns its outputs.
pub(super) type Add =
    for<'n> fn(&mut Emitter<'n>, &'n NodeProto, &[Value<'n>]) -> Result<Vec<Value<'n>>>;

/// An operator.
pub(super) struct Operator {
    pub name: &'static str,
    pub add: Add,
}

const fn operator(name: &'static str, add: Add) -> Operator {
    Operator { name, add }
}

/// The operators on values that depend on the image.
const OPERATORS: &[Operator] = &[
    operator("Add", arithmetic::add),
    operator("ArgMax", arithmetic::argmax),
    operator("AveragePool", pools::average),
    operator("BatchNormalization", layers::batch_norm),
    operator("Cast", arithmetic::cast),
    operator("Clip", arithmetic::clip),
    operator("Concat", axes::concat),
    operator("Conv", layers::conv),
    operator("Div", arithmetic::div),
    operator("Dropout", arithmetic::identity),
    operator("Flatten", axes::flatten),
    operator("Gemm", layers::gemm),
    operator("GlobalAveragePool", pools::global_average),
    operator("HardSigmoid", arithmetic::hard_sigmoid),
    operator("HardSwish", arithmetic::hard_swish),
    operator("Identity", arithmetic::identity),
    operator("LeakyRelu", arithmetic::leaky_relu),
    operator("LogSoftmax", arithmetic::softmax),
    operator("MatMul", layers::matmul),
    operator("MaxPool", pools::max),
    operator("Mul", arithmetic::mul),
    operator("Neg", arithmetic::neg),
    operator("Pad", axes::pad),
    operator("ReduceMean", pools::reduce_mean),
    operator("Relu", arithmetic::relu),
    operator("Reshape", axes::reshape),
    operator("Resize", resize::resize),
    operator("Sigmoid", arithmetic::sigmoid),
    operator("Slice", axes::slice),
    operator("Softmax", arithmetic::softmax),
    operator("Split", axes::split),
    operator("Squeeze", axes::squeeze),
    operator("Sub", arithmetic::sub),
    operator("Transpose", axes::transpose),
    operator("Unsqueeze", axes::unsqueeze),
    operator("Upsample", resize::upsample),
];

/// Returns an operator by its name.
pub(super) fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|operator| operator.name == name)
}

/// Checks that all operators of nodes are supported, before one of them fails.
///
/// # Errors
/// Returns an error that lists those that are not, with their numbers.
pub(super) fn check<'n>(nodes: impl Iterator<Item = &'n NodeProto>) -> Result<()> {
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for NodeProto { op_type, domain, .. } in nodes {
        let is_standard = matches!(domain.as_str(), "" | "ai.onnx");
        let is_known = op_type == "Shape" || find(op_type).is_some() || evaluate::is_known(op_type);
        if !(is_standard && is_known) {
            let name = if is_standard { op_type.clone() } else { format!("{domain}.{op_type}") };
            *unknown.entry(excerpt(&name)).or_default() += 1;
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(unsupported(&unknown)) }
}

fn unsupported(unknown: &BTreeMap<String, usize>) -> Error {
    /// Maximum number of operators in the message.
    const MAX_LISTED: usize = 12;
    let total: usize = unknown.values().sum();
    let mut listed: Vec<String> =
        unknown.iter().take(MAX_LISTED).map(|(name, count)| format!("{name} ({count})")).collect();
    if unknown.len() > MAX_LISTED {
        listed.push(format!("and {} more", unknown.len() - MAX_LISTED));
    }
    let nodes = if total == 1 { "node has an operator" } else { "nodes have operators" };
    error!(Weights, "{total} {nodes} that are not supported: {}", listed.join(", "))
        .advice("export the network without them, or open the weights that it was exported from")
}
