//! The config of a network from its layers. What is read here is a proposal: [`matching`] compares
//! every layer with those that the config builds.
//!
//! [`matching`]: super::matching

use super::graph::Graph;
use super::layers::{Conv, Kind, Layer};
use super::walk::Layers;
use crate::error::{Result, error};
use crate::models::mobilenet_v2::MobileNetV2;
use crate::models::resnet::{ResNet, Stem, Strided};
use crate::models::xception::Xception;
use crate::models::{
    Aspp, Backbone, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm,
    PaddingRule, PlusDecoder, Pooling, Preprocessing,
};

/// Access to the layers of a network and to what consumes them.
pub(super) struct Structure<'a> {
    pub layers: &'a [Layer],
    logits: usize,
    consumers: Vec<Vec<usize>>,
}

/// What the head is built on.
struct Parts {
    /// Convolutions of the ASPP: the 1x1 branch, then the others in the order of their rates.
    aspp: Aspp,
    /// The layer with the last features of the backbone.
    features: usize,
    decoder: Decoder,
}

/// Eps that TensorFlow's DeepLab uses where a graph has none, because its norms are folded.
const DEFAULT_EPS: Eps = Eps { backbone: 1e-3, head: 1.001e-5 };

/// Returns the config of a network.
pub(super) fn config(graph: &Graph, layers: &Layers) -> Result<Config> {
    let structure = Structure::new(&layers.layers, layers.logits);
    structure.config(layers.final_align_corners).map_err(|e| {
        let convs = layers.layers.iter().filter(|layer| matches!(layer.kind, Kind::Conv(_)));
        let first = graph.nodes.get(layers.layers[0].node).map_or("", |node| &node.name);
        e.at(format!(
            "network of {} convolutions from `{}`",
            convs.count(),
            crate::text::excerpt(first)
        ))
        .advice("only TensorFlow's DeepLab networks are supported")
    })
}

impl<'a> Structure<'a> {
    pub fn new(layers: &'a [Layer], logits: usize) -> Self {
        let mut consumers = vec![Vec::new(); layers.len()];
        for (i, layer) in layers.iter().enumerate() {
            for &input in &layer.inputs {
                consumers[input].push(i);
            }
        }
        Self { layers, logits, consumers }
    }

    /// Returns the layers that read a layer.
    pub fn consumers(&self, layer: usize) -> &[usize] {
        &self.consumers[layer]
    }

    fn config(&self, final_align_corners: Option<bool>) -> Result<Config> {
        let parts = self.parts()?;
        let backbone_layers = self.ancestors(parts.features);
        let backbone = self.backbone(&backbone_layers)?;
        let image = self.layers[0].shape;
        let features = self.layers[parts.features].shape;
        let output_stride = [8, 16, 32]
            .into_iter()
            .find(|&stride| features.size() == image.size().map(|n| n.div_ceil(stride)))
            .ok_or_else(|| {
                error!(Weights, "features of {} for an image of {}", features.size(), image.size())
            })?;
        let in_network = self.layers.iter().find_map(|layer| match layer.kind {
            Kind::Resize { align_corners } => align_corners,
            _ => None,
        });
        let align_corners = in_network.or(final_align_corners).unwrap_or(true);
        if final_align_corners.is_some_and(|last| last != align_corners) {
            return Err(error!(
                Weights,
                "the logits and other values are resized by different rules"
            ));
        }
        let separate = self.layers.iter().any(|layer| matches!(layer.kind, Kind::Norm { .. }));
        let classes = self.layers[self.logits].shape.c;
        let mut head = Head::new(classes, parts.aspp, parts.decoder, align_corners);
        if let Pooling::Window { crop, .. } = &mut head.aspp.pooling {
            *crop = crop.map(|n| (n - 1) * output_stride + 1);
        }
        Ok(Config {
            multi_grid: self.multi_grid(&backbone, &backbone_layers, output_stride),
            padding: self.padding(&backbone, &backbone_layers),
            backbone,
            output_stride,
            dilation: DilationRule::AfterStride,
            input_channels: image.c,
            norm: if separate { Norm::Separate } else { Norm::Folded },
            eps: self.eps(&backbone_layers),
            head: Some(head),
            preprocess: Preprocessing::SYMMETRIC_513,
        })
    }

    /// Returns the sources of a layer up to the image, without the layer.
    fn ancestors(&self, layer: usize) -> Vec<bool> {
        let mut is_ancestor = vec![false; self.layers.len()];
        let mut stack = vec![layer];
        while let Some(at) = stack.pop() {
            if !std::mem::replace(&mut is_ancestor[at], true) {
                stack.extend(&self.layers[at].inputs);
            }
        }
        is_ancestor
    }

    fn conv(&self, layer: usize) -> Option<&Conv> {
        match &self.layers[layer].kind {
            Kind::Conv(conv) => Some(conv),
            _ => None,
        }
    }

    /// Returns the nearest convolution, concatenation or other layer above the bias, norm and
    /// activation that end at `layer`.
    fn source(&self, mut layer: usize) -> usize {
        while let Kind::Bias(_) | Kind::Norm { .. } | Kind::Activation(_) = self.layers[layer].kind
        {
            layer = self.layers[layer].inputs[0];
        }
        layer
    }

    /// Returns the source of a layer's first input.
    fn above(&self, layer: usize) -> Result<usize> {
        let input = self.layers[layer].inputs.first();
        input.map(|&input| self.source(input)).ok_or_else(|| error!(Weights, "no ASPP was found"))
    }

    /// Follows the network from the logits up to the features.
    fn parts(&self) -> Result<Parts> {
        let mut at = self.above(self.source(self.logits))?;
        let mut convs = Vec::new();
        while let Kind::Conv(conv) = self.layers[at].kind {
            convs.push((at, conv));
            at = self.above(at)?;
            if convs.len() > 64 {
                return Err(error!(Weights, "no ASPP was found above the logits"));
            }
        }
        if self.layers[at].kind != Kind::Concat {
            return self.without_concat(&convs);
        }
        let inputs = &self.layers[at].inputs;
        let sources: Vec<usize> = inputs.iter().map(|&input| self.source(input)).collect();
        if let Some((decoder, aspp_output)) = self.decoder(&sources, &convs)? {
            let projection = self.source(aspp_output);
            let concat = self.above(projection)?;
            if self.conv(projection).is_none() || self.layers[concat].kind != Kind::Concat {
                return Err(error!(Weights, "no ASPP was found above the decoder"));
            }
            let inputs = &self.layers[concat].inputs;
            let sources: Vec<usize> = inputs.iter().map(|&input| self.source(input)).collect();
            let (aspp, features) = self.aspp(&sources, projection)?;
            return Ok(Parts { aspp, features, decoder });
        }
        let [(projection, _)] = convs[..] else {
            let count = convs.len();
            return Err(error!(Weights, "expected one convolution after the ASPP, got {count}"));
        };
        let (aspp, features) = self.aspp(&sources, projection)?;
        Ok(Parts { aspp, features, decoder: Decoder::None })
    }

    /// An ASPP whose only branch is the 1x1 convolution has no concatenation.
    fn without_concat(&self, convs: &[(usize, Conv)]) -> Result<Parts> {
        let [(projection, _), (branch, _), ..] = convs[..] else {
            return Err(error!(Weights, "no ASPP was found above the logits"));
        };
        let (aspp, features) = self.aspp(&[branch], projection)?;
        Ok(Parts { aspp, features, decoder: Decoder::None })
    }

    /// Interprets the parts of a concatenation as those of a decoder: the ASPP's output and a 1x1
    /// convolution of low-level features. Returns the ASPP's output too. `None` if the
    /// concatenation is that of an ASPP.
    fn decoder(
        &self,
        sources: &[usize],
        convs: &[(usize, Conv)],
    ) -> Result<Option<(Decoder, usize)>> {
        let &[a, b] = sources else { return Ok(None) };
        let is_resized =
            |i: usize| matches!(self.layers[i].kind, Kind::Resize { align_corners: Some(_) });
        let (aspp, low, low_first) = match (is_resized(a), is_resized(b)) {
            (true, false) => (a, b, false),
            (false, true) => (b, a, true),
            _ => return Ok(None),
        };
        if self.conv(low).is_none() {
            return Err(error!(Weights, "no projection of low-level features was found"));
        }
        let separable = convs.iter().any(|(_, conv)| conv.depthwise);
        let count = if separable { convs.len() / 2 } else { convs.len() };
        let decoder = PlusDecoder {
            low_level: LowLevel::InsideUnit,
            low_level_channels: self.layers[low].shape.c,
            channels: convs.first().map_or(256, |&(conv, _)| self.layers[conv].shape.c),
            kind: if separable { ConvKind::SeparableNorm } else { ConvKind::Plain },
            dropouts: vec![0.0; count],
            low_level_first: low_first,
        };
        Ok(Some((Decoder::Plus(decoder), self.layers[aspp].inputs[0])))
    }

    /// Interprets convolutions as the branches of an ASPP. Returns the layer of the features too.
    fn aspp(&self, sources: &[usize], projection: usize) -> Result<(Aspp, usize)> {
        let mut aspp = Aspp {
            channels: self.layers[projection].shape.c,
            rates: Vec::new(),
            kind: ConvKind::SeparableNorm,
            pooling: Pooling::Off,
            ..Aspp::default()
        };
        let mut features = None;
        for (position, &source) in sources.iter().enumerate() {
            if matches!(self.layers[source].kind, Kind::Resize { .. }) {
                let pooled = self.above(self.above(source)?)?;
                aspp.pooling = self.pooling(pooled)?;
                aspp.pool_first = position == 0;
                continue;
            }
            let conv = self
                .conv(source)
                .ok_or_else(|| error!(Weights, "a branch of the ASPP is no convolution"))?;
            let above = self.above(source)?;
            match self.conv(above) {
                _ if conv.window.kernel.height > 1 => {
                    aspp.kind = ConvKind::Plain;
                    aspp.rates.push(conv.window.dilation);
                }
                Some(first) if first.depthwise && self.is_branch(above, source) => {
                    aspp.rates.push(first.window.dilation);
                }
                _ => features = self.layers[source].inputs.first().copied(),
            }
        }
        let features = features
            .ok_or_else(|| error!(Weights, "the ASPP has no branch of a 1x1 convolution"))?;
        aspp.pool_first |= aspp.pooling == Pooling::Off;
        Ok((aspp, features))
    }

    /// Returns whether a depthwise convolution is used by the branch of an ASPP alone. That of a
    /// backbone's last block ends in the features, which all branches use.
    fn is_branch(&self, depthwise: usize, conv: usize) -> bool {
        let input = self.layers[conv].inputs[0];
        let is_dilated = self.conv(depthwise).is_some_and(|conv| conv.window.kernel.height > 1);
        is_dilated && self.consumers(input) == [conv]
    }

    fn pooling(&self, pooled: usize) -> Result<Pooling> {
        let layer = &self.layers[pooled];
        match layer.kind {
            Kind::GlobalAvgPool => Ok(Pooling::Global),
            // The crop is in image pixels: it is scaled once the output stride is known.
            Kind::Pool { max: false, window } => {
                Ok(Pooling::Window { crop: window.kernel, stride: window.spacing() })
            }
            _ => Err(error!(Weights, "the pooled branch of the ASPP has no pooling")),
        }
    }

    fn backbone(&self, within: &[bool]) -> Result<Backbone> {
        let convs: Vec<(usize, &Conv)> = (0..self.layers.len())
            .filter(|&i| within[i])
            .filter_map(|i| Some((i, self.conv(i)?)))
            .collect();
        let depthwise = convs.iter().filter(|(_, conv)| conv.depthwise).count();
        let starts: Vec<(bool, usize)> = convs
            .iter()
            .take(3)
            .map(|(_, conv)| (conv.depthwise, conv.window.kernel.height))
            .collect();
        match (&starts[..], depthwise, convs.len()) {
            ([(false, 3), (true, 3), ..], 17, _) => self.mobilenet_v2(&convs),
            ([(false, 3), (false, 3), (..)], 39, _) => Ok(Backbone::Xception(Xception::new(41)?)),
            ([(false, 3), (false, 3), (..)], 63, _) => Ok(Backbone::Xception(Xception::new(65)?)),
            ([(false, 3), (false, 3), (..)], 69, _) => Ok(Backbone::Xception(Xception::new(71)?)),
            ([(false, first), ..], 0, count) => {
                let (stem, stem_convs) =
                    if *first == 7 { (Stem::Single, 1) } else { (Stem::Beta, 3) };
                let depth = [50, 101, 152].into_iter().find(|&depth| {
                    let units: usize = ResNet::new(depth).map_or(0, |net| net.units().iter().sum());
                    count == stem_convs + 3 * units + 4
                });
                let depth = depth.ok_or_else(|| {
                    error!(Weights, "a backbone of {count} convolutions, none of them depthwise")
                })?;
                Ok(Backbone::ResNet(ResNet { stem, strided: Strided::Last, ..ResNet::new(depth)? }))
            }
            _ => Err(error!(
                Weights,
                "a backbone of {} convolutions, {depthwise} of them depthwise",
                convs.len()
            )),
        }
    }

    fn mobilenet_v2(&self, convs: &[(usize, &Conv)]) -> Result<Backbone> {
        let mut net = MobileNetV2::with_width(1.0, 8);
        net.stem = self.layers[convs[0].0].shape.c;
        // A block is a depthwise convolution and the projection after it.
        let projections: Vec<usize> = convs
            .iter()
            .enumerate()
            .filter(|(_, (_, conv))| conv.depthwise)
            .filter_map(|(i, _)| convs.get(i + 1))
            .map(|&(layer, _)| self.layers[layer].shape.c)
            .collect();
        for (channels, last) in net.channels.iter_mut().zip(MobileNetV2::LAST_BLOCKS) {
            *channels = *projections
                .get(last)
                .ok_or_else(|| error!(Weights, "a MobileNetV2 of {} blocks", projections.len()))?;
        }
        if let Some((_, (layer, _))) = convs.iter().enumerate().find(|&(i, _)| i == 3) {
            net.expansion = (self.layers[*layer].shape.c / net.channels[0].max(1)).max(1);
        }
        Ok(Backbone::MobileNetV2(net))
    }

    /// Returns the factors of the last stage's dilations.
    fn multi_grid(&self, backbone: &Backbone, within: &[bool], output_stride: usize) -> Vec<usize> {
        if matches!(backbone, Backbone::MobileNetV2(_)) {
            return Vec::new();
        }
        let dilations: Vec<usize> = (0..self.layers.len())
            .filter(|&i| within[i])
            .filter_map(|i| self.conv(i))
            .filter(|conv| conv.window.kernel.height == 3)
            .map(|conv| conv.window.dilation)
            .collect();
        let base = 32 / output_stride;
        let last = &dilations[dilations.len().saturating_sub(3)..];
        let grid: Vec<usize> = last.iter().map(|dilation| dilation / base).collect();
        if grid.iter().all(|&factor| factor == 1) { Vec::new() } else { grid }
    }

    fn padding(&self, backbone: &Backbone, within: &[bool]) -> PaddingRule {
        let is_same = (0..self.layers.len()).any(|i| {
            within[i]
                && match &self.layers[i].kind {
                    Kind::Conv(Conv { window, .. }) | Kind::Pool { window, .. } => {
                        window.is_same && window.stride > 1 && window.kernel.height > 1
                    }
                    _ => false,
                }
        });
        match (backbone, is_same) {
            (_, true) => PaddingRule::TfSame,
            (_, false) => PaddingRule::Symmetric,
        }
    }

    fn eps(&self, within: &[bool]) -> Eps {
        let first = |in_backbone: bool| {
            let norms = (0..self.layers.len()).filter(|&i| within[i] == in_backbone);
            norms.into_iter().find_map(|i| match self.layers[i].kind {
                Kind::Norm { eps, .. } => Some(eps),
                _ => None,
            })
        };
        Eps {
            backbone: first(true).unwrap_or(DEFAULT_EPS.backbone),
            head: first(false).unwrap_or(DEFAULT_EPS.head),
        }
    }
}
