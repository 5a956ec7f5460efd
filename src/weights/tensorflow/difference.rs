//! Messages about layers of a graph that are not those of a network.

use super::layers::{Kind, Layer, Window};
use super::matching::Matching;
use crate::error::{Error, error};
use crate::graph::Node;

impl Matching<'_> {
    /// Returns the error for a node without a counterpart.
    pub(super) fn difference(&self, node: &Node, x: usize, reason: Option<&str>) -> Error {
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
