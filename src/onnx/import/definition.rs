//! The part of a file's graph between the image and the scores, without the weights.

use super::super::proto::{DimensionValue, NodeProto, UINT8, ValueInfoProto};
use super::constant::{self, Constant};
use super::operators;
use super::read::OnnxFile;
use super::value::{Axis, NCHW, NHWC};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::text::excerpt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Maximum number of elements of a constant that sizes are computed from. Others are weights.
const MAX_SMALL: usize = 4096;
/// The newest version of the operators whose changes are known.
const MAX_OPSET: i64 = 26;
/// Version 7 brought the rules of broadcasting.
const MIN_OPSET: i64 = 7;

/// A graph from one input to one output.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    /// Version of the operators.
    pub opset: i64,
    /// The nodes that the output depends on.
    pub nodes: Vec<NodeProto>,
    /// Unique names of the nodes.
    pub names: Vec<String>,
    /// Small constants.
    pub constants: HashMap<String, Arc<Constant>>,
    /// Dimensions of the other constants.
    pub weights: HashMap<String, Vec<usize>>,
    pub input: Input,
    /// Name of the output.
    pub output: String,
}

/// The image that a graph takes.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub name: String,
    pub axes: [Axis; 4],
    pub channels: usize,
    /// Size of the image, if the graph fixes it.
    pub size: Option<Size>,
    /// Whether the image is bytes.
    pub is_bytes: bool,
}

impl Definition {
    /// Finds the graph in a file.
    ///
    /// # Errors
    /// Returns an error if it does not have one image as its input, or if operators are not
    /// supported.
    pub fn new(file: &OnnxFile) -> Result<Self> {
        if !(MIN_OPSET..=MAX_OPSET).contains(&file.opset) {
            return Err(error!(
                Weights,
                "version {} of ONNX's operators; {MIN_OPSET} to {MAX_OPSET} are supported",
                file.opset
            )
            .advice("export the network with opset 17"));
        }
        let output = file.outputs[0].clone();
        let nodes = reachable(file, &output);
        operators::check(nodes.iter())?;
        let read: HashSet<&str> =
            nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let (mut constants, mut weights) = (HashMap::new(), HashMap::new());
        for (name, tensor) in &file.constants {
            if !read.contains(name.as_str()) {
                continue;
            }
            let address = |e: crate::Error| e.at(format!("constant `{}`", excerpt(name)));
            let (dims, count) = constant::dims(tensor).map_err(address)?;
            if count > MAX_SMALL {
                weights.insert(name.clone(), dims);
            } else {
                let constant =
                    constant::read(tensor, file.directory.as_deref()).map_err(address)?;
                constants.insert(name.clone(), Arc::new(constant));
            }
        }
        let input = input(file, &read)?;
        let names = names(&nodes);
        Ok(Self { opset: file.opset, nodes, names, constants, weights, input, output })
    }
}

/// Returns the nodes that an output depends on, in order.
fn reachable(file: &OnnxFile, output: &str) -> Vec<NodeProto> {
    let producers: HashMap<&str, usize> = file
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(i, node)| node.output.iter().map(move |name| (name.as_str(), i)))
        .collect();
    let mut is_used = vec![false; file.nodes.len()];
    let mut open = vec![output];
    while let Some(name) = open.pop() {
        if let Some(&index) = producers.get(name)
            && !is_used[index]
        {
            is_used[index] = true;
            open.extend(file.nodes[index].input.iter().map(String::as_str));
        }
    }
    let nodes = file.nodes.iter().zip(is_used).filter(|(_, used)| *used);
    nodes.map(|(node, _)| node.clone()).collect()
}

/// Returns unique names for nodes: their own, or those of what they compute.
fn names(nodes: &[NodeProto]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |node: &NodeProto| {
        let own = if node.name.is_empty() {
            node.output.first().map_or("node", String::as_str)
        } else {
            &node.name
        };
        let base = excerpt(own.trim_start_matches('/'));
        let mut name = base.clone();
        let mut number = 2;
        while name.is_empty() || !taken.insert(name.clone()) {
            name = format!("{base}#{number}");
            number += 1;
        }
        name
    };
    nodes.iter().map(name).collect()
}

/// Returns the image that the nodes read.
fn input(file: &OnnxFile, read: &HashSet<&str>) -> Result<Input> {
    let inputs: Vec<&ValueInfoProto> =
        file.inputs.iter().filter(|input| read.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        let names: Vec<String> = inputs.iter().map(|input| excerpt(&input.name)).collect();
        return Err(error!(
            Weights,
            "expected one input, an image; the output depends on {}: {}",
            names.len(),
            names.join(", ")
        ));
    };
    let ty = input.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let dims: Vec<Option<usize>> = ty
        .and_then(|ty| ty.shape.as_ref())
        .map(|shape| shape.dim.iter().map(|dim| fixed(dim.value.as_ref())).collect())
        .unwrap_or_default();
    let &[_, first, second, third] = &dims[..] else {
        return Err(error!(
            Weights,
            "expected an image with 4 axes as the input `{}`, got {}",
            excerpt(&input.name),
            dims.len()
        ));
    };
    // Images have few channels, so the axis of few values is theirs.
    let is_channels = |n: Option<usize>| n.is_some_and(|n| n <= 4);
    let is_nhwc = is_channels(third) && !is_channels(first);
    let (axes, channels, height, width) =
        if is_nhwc { (NHWC, third, first, second) } else { (NCHW, first, second, third) };
    let size = width.zip(height).map(|(width, height)| Size { width, height });
    if size.is_none() && (width.is_some() || height.is_some()) {
        return Err(error!(Weights, "the graph fixes one side of the image, and not the other"));
    }
    let channels = channels.unwrap_or(3);
    if channels == 0 || size.is_some_and(Size::is_empty) {
        return Err(error!(Weights, "the input `{}` is empty", excerpt(&input.name)));
    }
    let is_bytes = ty.is_some_and(|ty| ty.elem_type == UINT8);
    Ok(Input { name: input.name.clone(), axes, channels, size, is_bytes })
}

/// Returns a dimension that is known. Exporters write 0 or -1 for those that are not.
fn fixed(value: Option<&DimensionValue>) -> Option<usize> {
    match value {
        Some(&DimensionValue::Number(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    }
}
