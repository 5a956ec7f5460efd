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

/// Maximum number of wrong choices among layers that look the same.
const MAX_TRIES: usize = 256;

/// The elements of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Elements {
    /// A constant with this position.
    Constant(usize),
    /// The same number for each channel: the norm of a layer whose own was folded.
    Fill(f32),
}

/// A parameter of a network, and its elements in the graph.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub info: ParamInfo,
    pub shape: Shape,
    pub elements: Elements,
}

/// Returns the elements of each parameter of the network that a config builds.
///
/// # Errors
/// Returns an error that names the first layer that differs.
pub(super) fn parameters(graph: &Graph, layers: &Layers, config: &Config) -> Result<Vec<Matched>> {
    let image = layers.layers[0].shape;
    let network = build_network(config, image, &Outputs::default())?;
    let input = network.graph.inputs().next().expect("invariant: a network has an input").1;
    let mut matching = Matching {
        graph,
        network: &network.graph,
        structure: Structure::new(&layers.layers, layers.logits),
        layers: HashMap::from([(input, 0)]),
        owners: vec![None; layers.layers.len()],
        windows: HashMap::new(),
        parameters: Vec::new(),
    };
    matching.solve(layers.logits)?;
    matching.check_padding(config, image)?;
    Ok(matching.parameters)
}

pub(super) struct Matching<'a> {
    pub graph: &'a Graph,
    pub network: &'a Network,
    pub structure: Structure<'a>,
    /// Layers of the graph by the values of the network.
    layers: HashMap<ValueId, usize>,
    /// Position of the node that a convolution of the graph was matched to.
    owners: Vec<Option<usize>>,
    /// Windows of the graph by the names of the network's nodes.
    windows: HashMap<&'a str, Window>,
    parameters: Vec<Matched>,
}

/// A node for which several layers fit.
struct Choice {
    node: usize,
    others: Vec<usize>,
    /// Number of parameters that were matched before.
    parameters: usize,
}

impl<'a> Matching<'a> {
    /// Matches all nodes, in order. Where several layers fit, the first is taken, and the next one if
    /// a later node has no counterpart then.
    fn solve(&mut self, logits: usize) -> Result<()> {
        let mut choices: Vec<Choice> = Vec::new();
        let mut furthest: Option<(usize, Error)> = None;
        let (mut at, mut next) = (0, None);
        for _ in 0..MAX_TRIES {
            let Err((failed, error)) = self.advance(at, next, &mut choices, logits) else {
                return Ok(());
            };
            if furthest.as_ref().is_none_or(|&(node, _)| failed > node) {
                furthest = Some((failed, error));
            }
            let Some(choice) = choices.last_mut() else { break };
            (at, next) = (choice.node, choice.others.pop());
            self.parameters.truncate(choice.parameters);
            for owner in &mut self.owners {
                *owner = owner.filter(|&owner| owner < choice.node);
            }
            if choice.others.is_empty() {
                choices.pop();
            }
        }
        Err(furthest.map_or_else(|| error!(Weights, "the layers could not be matched"), |(_, e)| e))
    }

    /// Matches the nodes from `at` on, the first one to the layer `next` if there is one. The error
    /// has the position of the node without a counterpart.
    fn advance(
        &mut self,
        at: usize,
        mut next: Option<usize>,
        choices: &mut Vec<Choice>,
        logits: usize,
    ) -> Result<(), (usize, Error)> {
        let nodes = self.network.nodes();
        for (at, node) in nodes.iter().enumerate().skip(at) {
            let failed = |e: Error| (at, e);
            let layer = match next.take() {
                Some(layer) => layer,
                None => {
                    let mut others = self.candidates(node).map_err(failed)?;
                    let layer = others.remove(0);
                    if !others.is_empty() {
                        let parameters = self.parameters.len();
                        choices.push(Choice { node: at, others, parameters });
                    }
                    layer
                }
            };
            let layer = self.accept(at, node, layer).map_err(failed)?;
            self.layers.insert(node.outputs[0], layer);
        }
        self.check_logits(logits).map_err(|e| (nodes.len(), e))
    }

    fn check_logits(&self, logits: usize) -> Result<()> {
        let output = self.network.outputs()[0].1;
        if self.layers.get(&output) == Some(&logits) {
            return Ok(());
        }
        let layer = &self.structure.layers[logits];
        Err(error!(Weights, "the logits are not those of the network")
            .at(address(&self.graph.nodes[layer.node])))
    }

    fn inputs(&self, node: &Node) -> Vec<usize> {
        node.inputs.iter().filter_map(|value| self.layers.get(value).copied()).collect()
    }

    /// Returns the layers that a node can be, at least one.
    fn candidates(&self, node: &Node) -> Result<Vec<usize>> {
        let inputs = self.inputs(node);
        let Some(&x) = inputs.first() else {
            return Err(error!(Weights, "no input").at(format!("layer `{}`", node.name)));
        };
        if node.op.is::<Dropout>() {
            return Ok(vec![x]);
        }
        let found: Vec<usize> = self
            .structure
            .consumers(x)
            .iter()
            .copied()
            .filter(|&layer| self.owners[layer].is_none())
            .filter(|&layer| self.fits(node, &inputs, &self.structure.layers[layer]))
            .collect();
        if found.is_empty() { Err(self.difference(node, x, None)) } else { Ok(found) }
    }

    /// Matches a node to a layer. Returns the layer that computes the node's output.
    fn accept(&mut self, at: usize, node: &'a Node, layer: usize) -> Result<usize> {
        if node.op.is::<Dropout>() {
            return Ok(layer);
        }
        let elements: Vec<Elements> = match &self.structure.layers[layer].kind {
            Kind::Conv(conv) => {
                self.owners[layer] = Some(at);
                self.windows.insert(&node.name, conv.window);
                let bias = self.bias(node, layer)?;
                let layer = bias.map_or(layer, |(layer, _)| layer);
                let constants = std::iter::once(conv.kernel).chain(bias.map(|(_, bias)| bias));
                self.bind(node, constants.map(Elements::Constant).collect());
                return Ok(layer);
            }
            Kind::Pool { window, .. } => {
                self.windows.insert(&node.name, *window);
                Vec::new()
            }
            Kind::Norm { constants, .. } => constants.map(Elements::Constant).to_vec(),
            Kind::Bias(bias) => {
                // A norm that was folded: all but its shift leave the values as they are.
                let eps = node.op.downcast_ref::<BatchNorm>().map_or(0.0, |norm| norm.eps);
                let [gamma, mean, variance] = [1.0, 0.0, 1.0 - eps].map(Elements::Fill);
                vec![gamma, Elements::Constant(*bias), mean, variance]
            }
            _ => Vec::new(),
        };
        self.bind(node, elements);
        Ok(layer)
    }

    /// Records the elements of a node's parameters.
    fn bind(&mut self, node: &Node, elements: Vec<Elements>) {
        let infos = node.inputs.iter().filter_map(|&value| {
            Some((self.network.param_info(value)?, self.network.shape(value)))
        });
        let matched = infos.zip(elements).map(|((info, shape), elements)| Matched {
            info: info.clone(),
            shape,
            elements,
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
                align_corners.is_none_or(|align_corners| op.alignment == align_corners.into())
            }),
            Kind::Pool { max, window } => is_pool(node, *max, window),
            Kind::GlobalAvgPool => {
                let x = self.network.shape(node.inputs[0]).size();
                let whole = |pool: &AvgPool| pool.kernel == x && pool.padding == Padding::default();
                node.op.is::<GlobalAvgPool>()
                    || node.op.downcast_ref::<AvgPool>().is_some_and(whole)
            }
            Kind::Bias(_) => node.op.is::<BatchNorm>(),
            Kind::Image => false,
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
