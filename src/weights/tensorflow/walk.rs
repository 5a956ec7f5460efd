//! From a graph to the layers of its network at one image size.
//!
//! All nodes that the logits depend on are visited in order, with an explicit stack, so that depth
//! and cycles are harmless. What is not supported makes a value unknown, with the reason; only if
//! the logits become unknown, that is an error.

use super::graph::{Graph, Op, address};
use super::layers::{Kind, Layer, image_shape};
use super::numbers::Numbers;
use super::outline::Outline;
use crate::error::{Error, Result, error};
use crate::geometry::{Padding, Size};
use crate::tensor::Shape;
use crate::text::excerpt;

/// Maximum number of layers. The largest supported networks have about 600.
const MAX_LAYERS: usize = 1 << 12;

/// A value of the graph.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A constant with this position.
    Constant(usize),
    /// A few known numbers.
    Numbers(Numbers),
    /// The output of a layer.
    Layer(View),
    /// Something with the size of the image.
    Sized,
    /// Not supported, with the position of the reason.
    Unknown(usize),
}

/// The output of a layer, with what the next nodes still have to combine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    pub layer: usize,
    pub pending: Pending,
}

/// Steps of TensorFlow that are part of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pending {
    None,
    /// Zeros around the value, for the next convolution.
    Pad(Padding),
    /// The value is split into `block` x `block` images after padding. `conv` is the convolution on
    /// them, once there is one.
    Batch {
        block: usize,
        padding: Padding,
        conv: Option<usize>,
    },
}

/// The layers of a network.
#[derive(Debug)]
pub(super) struct Layers {
    pub layers: Vec<Layer>,
    /// Position of the layer with the logits.
    pub logits: usize,
    /// The setting of the resizing of the logits, if there is one that changes the size.
    pub final_align_corners: Option<bool>,
}

pub(super) struct Walk<'g> {
    pub graph: &'g Graph,
    pub outline: &'g Outline,
    /// Shape of the image. `None` to evaluate only what does not depend on it.
    pub shape: Option<Shape>,
    pub layers: Vec<Layer>,
    values: Vec<Option<Value>>,
    reasons: Vec<Error>,
}

impl<'g> Walk<'g> {
    fn new(graph: &'g Graph, outline: &'g Outline, shape: Option<Shape>) -> Self {
        let (layers, reasons) = (Vec::new(), Vec::new());
        Self { graph, outline, shape, layers, values: vec![None; graph.nodes.len()], reasons }
    }

    /// Visits everything that `targets` depend on.
    fn visit(&mut self, targets: impl IntoIterator<Item = usize>) {
        let mut is_open = vec![false; self.graph.nodes.len()];
        let mut stack: Vec<usize> = targets.into_iter().collect();
        while let Some(&at) = stack.last() {
            let inputs: &[usize] =
                if at == self.outline.image { &[] } else { &self.graph.nodes[at].inputs };
            if self.values[at].is_some() {
                stack.pop();
            } else if std::mem::replace(&mut is_open[at], true) {
                stack.pop();
                let value = self.evaluate(at);
                self.values[at] = Some(value);
            } else {
                // An input that is open already is part of a cycle: it stays without a value.
                let next = inputs.iter().filter(|&&i| self.values[i].is_none() && !is_open[i]);
                stack.extend(next);
            }
        }
    }

    fn evaluate(&mut self, at: usize) -> Value {
        if at == self.outline.image {
            return self.image(at);
        }
        let inputs: Vec<Value> = self.graph.nodes[at]
            .inputs
            .iter()
            .map(|&i| self.values[i].clone())
            .collect::<Option<_>>()
            .unwrap_or_default();
        if inputs.len() != self.graph.nodes[at].inputs.len() {
            let reason = error!(Weights, "the graph has a cycle");
            return self.unknown(reason, at);
        }
        // The first unknown input is the reason. Resizing and reshaping do not need theirs.
        if let Some(Value::Unknown(reason)) = inputs.first() {
            return Value::Unknown(*reason);
        }
        let node = &self.graph.nodes[at];
        match super::values::evaluate(self, at, &node.op, &inputs) {
            Ok(value) => value,
            Err(reason) => match inputs.iter().find(|value| matches!(value, Value::Unknown(_))) {
                Some(unknown) => unknown.clone(),
                None => self.unknown(reason, at),
            },
        }
    }

    fn unknown(&mut self, reason: Error, at: usize) -> Value {
        self.reasons.push(reason.at(address(&self.graph.nodes[at])));
        Value::Unknown(self.reasons.len() - 1)
    }

    fn image(&mut self, at: usize) -> Value {
        match self.shape {
            Some(shape) => match self.push(at, Kind::Image, Vec::new(), shape) {
                Ok(view) => Value::Layer(view),
                Err(reason) => self.unknown(reason, at),
            },
            None => {
                let reason = error!(Weights, "the size of the image is not known");
                self.unknown(reason, at)
            }
        }
    }

    /// Adds a layer, or finds an equal one: exporters repeat activations. Convolutions are never
    /// shared, since their padding can still change.
    pub fn push(
        &mut self,
        node: usize,
        kind: Kind,
        inputs: Vec<usize>,
        shape: Shape,
    ) -> Result<View> {
        let equal = |layer: &Layer| {
            layer.kind == kind && layer.inputs == inputs && !matches!(kind, Kind::Conv(_))
        };
        let layer = match self.layers.iter().position(equal) {
            Some(layer) => layer,
            None if self.layers.len() == MAX_LAYERS => {
                return Err(error!(Weights, "more than {MAX_LAYERS} layers are not supported"));
            }
            None => {
                self.layers.push(Layer { node, kind, inputs, shape });
                self.layers.len() - 1
            }
        };
        Ok(View { layer, pending: Pending::None })
    }

    /// Returns a value as a few numbers. `None` if it is something else.
    pub fn numbers(&self, value: &Value) -> Option<Numbers> {
        match value {
            Value::Numbers(numbers) => Some(numbers.clone()),
            Value::Constant(id) => Numbers::of(&self.graph.constants[*id]),
            _ => None,
        }
    }

    /// Returns a value as non-negative integers.
    pub fn integers(&self, value: Option<&Value>, what: &str) -> Result<Vec<usize>> {
        let numbers = value.and_then(|value| self.numbers(value));
        let integers = numbers.and_then(|numbers| {
            let integer =
                |n: f64| ((0.0..=1e6).contains(&n) && n.fract() == 0.0).then_some(n as usize);
            numbers.values.into_iter().map(integer).collect::<Option<Vec<_>>>()
        });
        integers.ok_or_else(|| error!(Weights, "its {what} could not be determined"))
    }
}

/// Returns the layers of a network for an image of `size`.
pub(super) fn layers(
    graph: &Graph,
    outline: &Outline,
    size: Size,
    channels: usize,
) -> Result<Layers> {
    let shape = image_shape(size, channels)?;
    let mut walk = Walk::new(graph, outline, Some(shape));
    walk.visit([outline.logits]);
    let logits_node = biased(graph, outline);
    walk.visit([logits_node]);
    let logits = match &walk.values[logits_node] {
        Some(Value::Layer(View { layer, pending: Pending::None })) => *layer,
        Some(Value::Unknown(reason)) => return Err(walk.reasons.swap_remove(*reason)),
        _ => {
            return Err(error!(Weights, "the logits could not be determined")
                .at(address(&graph.nodes[logits_node])));
        }
    };
    walk.visit(outline.tail.iter().copied().filter(|&i| is_resize(&graph.nodes[i].op)));
    let mut finals = Vec::new();
    for &i in outline.tail.iter().filter(|&&i| is_resize(&graph.nodes[i].op)) {
        let first = graph.nodes[i].inputs.first().and_then(|&x| walk.values[x].as_ref());
        match (first, &walk.values[i]) {
            (_, Some(Value::Layer(view))) => {
                if let Kind::Resize { align_corners } = walk.layers[view.layer].kind {
                    finals.extend(align_corners);
                }
            }
            // The size can depend on the file that is segmented. The setting is fixed.
            (Some(Value::Layer(_)), _) => {
                let setting = super::values::resize_setting(&graph.nodes[i].op);
                finals.push(setting.map_err(|e| e.at(address(&graph.nodes[i])))?);
            }
            // A resizing of labels or probabilities does not concern the network.
            _ => {}
        }
    }
    if finals.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(error!(Weights, "the logits are resized with and without aligned corners"));
    }
    let final_align_corners = finals.first().copied();
    Ok(Layers { layers: walk.layers, logits, final_align_corners })
}

fn is_resize(op: &Op) -> bool {
    matches!(op, Op::Resize { .. })
}

/// Returns the node that adds the bias to the logits, or their convolution if there is none.
fn biased(graph: &Graph, outline: &Outline) -> usize {
    let adds_bias = |&&i: &&usize| {
        let node = &graph.nodes[i];
        matches!(node.op, Op::Bias | Op::Arithmetic(super::graph::Arithmetic::Add))
            && node.inputs.contains(&outline.logits)
    };
    outline.tail.iter().find(adds_bias).copied().unwrap_or(outline.logits)
}

/// Returns the constant sizes that values are resized to: of the logits, the last first, then inside
/// the network.
pub(super) fn constant_sizes(graph: &Graph, outline: &Outline) -> (Vec<Size>, Vec<Size>) {
    /// Maximum number of sizes of each kind.
    const MAX_SIZES: usize = 8;
    let mut walk = Walk::new(graph, outline, None);
    let sizes_of = |i: usize| graph.nodes[i].inputs.get(1).copied();
    let resizes: Vec<usize> =
        (0..graph.nodes.len()).filter(|&i| is_resize(&graph.nodes[i].op)).collect();
    walk.visit(resizes.iter().filter_map(|&i| sizes_of(i)));
    let (mut tail, mut inner) = (Vec::new(), Vec::new());
    for &i in &resizes {
        let value = sizes_of(i).and_then(|size| walk.values[size].as_ref());
        let Ok(size) = walk.integers(value, "size") else { continue };
        let [height, width] = size[..] else { continue };
        let is_tail = outline.tail.binary_search(&i).is_ok();
        let sizes = if is_tail { &mut tail } else { &mut inner };
        if sizes.len() < MAX_SIZES {
            sizes.push(Size::new(width, height));
        }
    }
    tail.reverse();
    (tail, inner)
}

/// Returns the error for an operation that networks do not have.
pub(super) fn unsupported(name: &str) -> Error {
    let error = error!(Weights, "`{}` is not supported in a network", excerpt(name));
    if name.starts_with("Fake") || name.contains("uantiz") {
        return error.advice("export the network without quantization, or convert it to .tflite");
    }
    if ["VarHandleOp", "VariableV2", "Variable", "ReadVariableOp"].contains(&name) {
        return error.advice("the graph is not frozen: name its checkpoint instead, or freeze it");
    }
    error
}
