//! Comparison of the layers of a graph with those that a config builds: every convolution, norm,
//! activation, pooling and resizing must be the same. The result is the constant for each parameter.

use super::graph::{Graph, address};
use super::layers::{Conv, Kind, Layer, Window};
use super::structure::Structure;
use super::walk::Layers;
use crate::error::{Error, Result, error};
use crate::geometry::{Padding, Size, Spacing};
use crate::graph::{Graph as Network, Node, ParamInfo, ValueId};
use crate::models::{Config, Outputs, build_network};
use crate::ops::{
    Activate, Add, AvgPool, BatchNorm, Concat, Conv2d, Dropout, GlobalAvgPool, MaxPool, Resize,
};
use crate::tensor::{KernelShape, Shape};
use std::collections::HashMap;

/// A parameter of a network, and the constant with its elements.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub info: ParamInfo,
    pub shape: Shape,
    pub constant: usize,
}

/// Returns the constant of each parameter of the network that a config builds.
///
/// # Errors
/// Returns an error that names the first layer that differs.
pub(super) fn parameters(graph: &Graph, layers: &Layers, config: &Config) -> Result<Vec<Matched>> {
    let image = layers.layers[0].shape;
    let network = build_network(config, image, &Outputs::default())?;
    let mut matching = Matching {
        graph,
        network: &network.graph,
        structure: Structure::new(&layers.layers, layers.logits),
        layers: HashMap::new(),
        windows: HashMap::new(),
        parameters: Vec::new(),
    };
    let input = network.graph.inputs().next().expect("invariant: a network has an input").1;
    matching.layers.insert(input, 0);
    for node in network.graph.nodes() {
        let layer = matching.find(node)?;
        matching.layers.insert(node.outputs[0], layer);
    }
    let logits = network.graph.outputs()[0].1;
    if matching.layers.get(&logits) != Some(&layers.logits) {
        return Err(error!(Weights, "the logits are not those of the network")
            .at(address(&graph.nodes[layers.layers[layers.logits].node])));
    }
    matching.check_padding(config, image)?;
    Ok(matching.parameters)
}

struct Matching<'a> {
    graph: &'a Graph,
    network: &'a Network,
    structure: Structure<'a>,
    /// Layers of the graph by the values of the network.
    layers: HashMap<ValueId, usize>,
    /// Windows of the graph by the names of the network's nodes.
    windows: HashMap<&'a str, Window>,
    parameters: Vec<Matched>,
}

impl<'a> Matching<'a> {
    /// Returns the layer that computes the output of a node.
    fn find(&mut self, node: &'a Node) -> Result<usize> {
        let inputs: Vec<usize> =
            node.inputs.iter().filter_map(|value| self.layers.get(value).copied()).collect();
        let Some(&x) = inputs.first() else {
            return Err(error!(Weights, "no input").at(format!("node `{}`", node.name)));
        };
        if node.op.is::<Dropout>() {
            return Ok(x);
        }
        let found: Vec<usize> = self
            .structure
            .consumers(x)
            .iter()
            .copied()
            .filter(|&layer| self.fits(node, &inputs, &self.structure.layers[layer]))
            .collect();
        let layer = match found[..] {
            [layer] => layer,
            [] => return Err(self.difference(node, x, None)),
            _ => return Err(self.difference(node, x, Some("several layers of the graph fit"))),
        };
        let constants: Vec<usize> = match &self.structure.layers[layer].kind {
            Kind::Conv(conv) => {
                self.windows.insert(&node.name, conv.window);
                let bias = self.bias(node, layer)?;
                let layer = bias.map_or(layer, |(layer, _)| layer);
                let constants = std::iter::once(conv.kernel).chain(bias.map(|(_, bias)| bias));
                self.bind(node, constants.collect());
                return Ok(layer);
            }
            Kind::Pool { window, .. } => {
                self.windows.insert(&node.name, *window);
                Vec::new()
            }
            Kind::Norm { constants, .. } => constants.to_vec(),
            _ => Vec::new(),
        };
        self.bind(node, constants);
        Ok(layer)
    }

    /// Records the constants of a node's parameters.
    fn bind(&mut self, node: &Node, constants: Vec<usize>) {
        let infos = node.inputs.iter().filter_map(|&value| {
            Some((self.network.param_info(value)?, self.network.shape(value)))
        });
        let matched = infos.zip(constants).map(|((info, shape), constant)| Matched {
            info: info.clone(),
            shape,
            constant,
        });
        self.parameters.extend(matched);
    }

    /// Returns the layer that adds the bias of a convolution, and its constant. `None` if the node
    /// has no bias.
    fn bias(&self, node: &Node, layer: usize) -> Result<Option<(usize, usize)>> {
        if !node.op.downcast_ref::<Conv2d>().is_some_and(|conv| conv.bias) {
            return Ok(None);
        }
        let bias = self.structure.consumers(layer).iter().find_map(|&consumer| {
            match self.structure.layers[consumer].kind {
                Kind::Bias(constant) => Some((consumer, constant)),
                _ => None,
            }
        });
        match bias {
            Some(bias) => Ok(Some(bias)),
            None => Err(self.difference(node, layer, Some("the graph has no bias there"))),
        }
    }

    /// Returns whether a layer of the graph is what a node computes.
    fn fits(&self, node: &Node, inputs: &[usize], layer: &Layer) -> bool {
        let shape = self.network.shape(node.outputs[0]);
        if layer.shape != shape {
            return false;
        }
        match &layer.kind {
            Kind::Conv(conv) => self.is_conv(node, conv),
            Kind::Norm { eps, .. } => {
                node.op.downcast_ref::<BatchNorm>().is_some_and(|norm| norm.eps == *eps)
            }
            Kind::Activation(activation) => {
                node.op.downcast_ref::<Activate>().is_some_and(|op| op.0 == *activation)
            }
            Kind::Add => {
                let reversed = inputs.iter().rev().copied();
                node.op.is::<Add>()
                    && (layer.inputs == inputs || layer.inputs.iter().copied().eq(reversed))
            }
            Kind::Concat => node.op.is::<Concat>() && layer.inputs == inputs,
            Kind::Resize { align_corners } => node.op.downcast_ref::<Resize>().is_some_and(|op| {
                align_corners.is_none_or(|align_corners| op.align_corners == align_corners)
            }),
            Kind::Pool { max, window } => is_pool(node, *max, window),
            Kind::GlobalAvgPool => {
                let x = self.network.shape(node.inputs[0]).size();
                let whole = |pool: &AvgPool| pool.kernel == x && pool.padding == Padding::default();
                node.op.is::<GlobalAvgPool>()
                    || node.op.downcast_ref::<AvgPool>().is_some_and(whole)
            }
            Kind::Image | Kind::Bias(_) => false,
        }
    }

    fn is_conv(&self, node: &Node, conv: &Conv) -> bool {
        let Some(op) = node.op.downcast_ref::<Conv2d>() else { return false };
        let x = self.network.shape(node.inputs[0]);
        let kernel = KernelShape::of(self.network.shape(node.inputs[1]));
        let Window { kernel: size, stride, dilation, padding, .. } = conv.window;
        let is_pixel = size == Size::square(1);
        op.is_depthwise(x, kernel) == conv.depthwise
            && size == Size::new(kernel.width, kernel.height)
            && op.stride == Spacing::square(stride)
            && (is_pixel || op.dilation == Spacing::square(dilation))
            && op.padding == padding
    }

    /// Checks that the padding agrees at other sizes than that of the graph too: `SAME` and explicit
    /// padding are equal at odd sizes and differ at even ones.
    fn check_padding(&self, config: &Config, image: Shape) -> Result<()> {
        let side = |n: usize| 32 * n.div_ceil(32).clamp(8, 64) + usize::from(n.is_multiple_of(2));
        let size = image.size().map(side);
        let other = build_network(config, Shape::images(1, size, image.c), &Outputs::default())?;
        for node in other.graph.nodes() {
            let Some(window) = self.windows.get(node.name.as_str()).filter(|w| w.stride > 1) else {
                continue;
            };
            let x = other.graph.shape(node.inputs[0]).size();
            let Window { kernel, stride, dilation, .. } = *window;
            let expected = if window.is_same {
                Padding::tf_same(x, kernel.height, stride, dilation)
            } else {
                window.padding
            };
            let conv = node.op.downcast_ref::<Conv2d>().map(|op| op.padding);
            let padding = conv.or(node.op.downcast_ref::<MaxPool>().map(|op| op.padding));
            if padding.is_some_and(|padding| padding != expected) {
                let (same, explicit) = ("SAME", "explicit padding");
                let (rule, other) =
                    if window.is_same { (same, explicit) } else { (explicit, same) };
                return Err(error!(Weights, "the graph pads by {rule}, the network by {other}")
                    .at(format!("layer `{}`", node.name)));
            }
        }
        Ok(())
    }

    /// Returns the error for a node without a counterpart.
    fn difference(&self, node: &Node, x: usize, reason: Option<&str>) -> Error {
        let expected = format!("{} {}", node.op.name(), node.op.attributes());
        let shape = self.network.shape(node.outputs[0]);
        let address = format!("layer `{}`", node.name);
        if let Some(reason) = reason {
            return error!(Weights, "expected {} to {shape}, {reason}", expected.trim())
                .at(address);
        }
        let found: Vec<String> = self
            .structure
            .consumers(x)
            .iter()
            .take(3)
            .map(|&layer| self.describe(&self.structure.layers[layer]))
            .collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        error!(Weights, "expected {} to {shape}, the graph has {found}", expected.trim())
            .at(address)
            .advice("the graph differs from TensorFlow's DeepLab networks")
    }

    fn describe(&self, layer: &Layer) -> String {
        let name = crate::text::excerpt(&self.graph.nodes[layer.node].name);
        let what = match &layer.kind {
            Kind::Image => "an image".to_owned(),
            Kind::Conv(conv) => {
                let kind = if conv.depthwise { "a depthwise" } else { "a" };
                format!("{kind} convolution, {}", describe_window(&conv.window))
            }
            Kind::Bias(_) => "a bias".to_owned(),
            Kind::Norm { eps, .. } => format!("a batch norm of eps {eps}"),
            Kind::Activation(activation) => activation.feature().to_owned(),
            Kind::Add => "a sum".to_owned(),
            Kind::Concat => format!("a concatenation of {}", layer.inputs.len()),
            Kind::Resize { align_corners } => match align_corners {
                Some(align_corners) => format!("a resizing with align_corners={align_corners}"),
                None => "a resizing".to_owned(),
            },
            Kind::Pool { max, window } => {
                let kind = if *max { "max" } else { "average" };
                format!("{kind} pooling, {}", describe_window(window))
            }
            Kind::GlobalAvgPool => "a global average".to_owned(),
        };
        format!("{what} to {} (`{name}`)", layer.shape)
    }
}

fn describe_window(window: &Window) -> String {
    let Window { kernel, stride, dilation, padding, .. } = window;
    format!("{kernel} stride {stride} dilation {dilation} padding {padding}")
}

fn is_pool(node: &Node, max: bool, window: &Window) -> bool {
    let fits = |kernel: Size, stride: Spacing, padding: Padding| {
        kernel == window.kernel && stride == window.spacing() && padding == window.padding
    };
    let max_pool = node.op.downcast_ref::<MaxPool>().filter(|_| max);
    let avg_pool = node.op.downcast_ref::<AvgPool>().filter(|_| !max);
    max_pool.is_some_and(|pool| fits(pool.kernel, pool.stride, pool.padding))
        || avg_pool.is_some_and(|pool| fits(pool.kernel, pool.stride, pool.padding))
}
