//! OpenMMLab's mmsegmentation: DeepLabV3 and V3+ with ResNet-v1c, ResNet (`r50b`) and ResNeXt.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors, encoders, resnet};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::resnet::{ResNet, Stem};
use crate::models::{Aspp, Aux, Backbone, Config, ConvKind, Decoder, Head, PlusDecoder};

/// The dialect of mmsegmentation.
pub struct MmSeg;

const V1C_STEM: &str = "backbone.stem.0.weight";

impl Dialect for MmSeg {
    fn name(&self) -> &'static str {
        "mmseg"
    }

    fn title(&self) -> &'static str {
        "mmsegmentation"
    }

    fn description(&self) -> &'static str {
        "mmsegmentation's DeepLabV3 and DeepLabV3+ with ResNet-v1c, ResNet or ResNeXt"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("backbone.") && tensors.any("decode_head.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        if !tensors.any("decode_head.aspp_modules.") {
            return Err(error!(Weights, "unsupported decode head of dialect `mmseg`").advice(
                "ASPPHead (DeepLabV3) and DepthwiseSeparableASPPHead (V3+) are supported",
            ));
        }
        let backbone = backbone(tensors)?;
        let stem = if backbone.stem == Stem::V1c { V1C_STEM } else { "backbone.conv1.weight" };
        Ok(Config {
            // The networks are named `-d8` after it. `-d16` has the same tensors.
            output_stride: 8,
            input_channels: tensors.dim(stem, 1).unwrap_or(3),
            head: Some(head(tensors)),
            ..Config::bare(Backbone::ResNet(backbone))
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let plus = matches!(config.head.as_ref()?.decoder, Decoder::Plus(_));
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) => match &config.backbone {
                Backbone::ResNet(net) => resnet_layer(net, inner),
                _ => None,
            },
            Some(("aspp", "conv1x1")) => Some(module("decode_head.aspp_modules.0")),
            Some(("aspp", "pool.conv")) => Some(module("decode_head.image_pool.1")),
            Some(("aspp", "project")) => Some(module("decode_head.bottleneck")),
            Some(("aspp", rate)) => {
                branch("decode_head.aspp_modules.", rate.strip_prefix("rate")?, 0)
            }
            Some(("decoder", "low_level")) if plus => Some(module("decode_head.c1_bottleneck")),
            Some(("decoder", conv)) if plus => {
                branch("decode_head.sep_bottleneck.", conv.strip_prefix("conv")?, 1)
            }
            Some(("aux", "conv")) => Some(module("auxiliary_head.convs.0")),
            Some(("aux", "logits")) => Some(layer("auxiliary_head.", "conv_seg", "")),
            None if path == "logits" => Some(layer("decode_head.", "conv_seg", "")),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }

    fn wrap_key(&self) -> Option<&'static str> {
        Some("state_dict")
    }
}

/// Returns the names in a `ConvModule`.
fn module(name: &str) -> Layer {
    layer(name, ".conv", ".bn")
}

/// Returns the names of the `path` `N` or `N.depthwise`, `N.pointwise`, whose list starts at
/// `first`.
fn branch(list: &str, path: &str, first: usize) -> Option<Layer> {
    let (number, part) = path.split_once('.').unwrap_or((path, ""));
    let index = number.parse::<usize>().ok()?.checked_sub(first)?;
    match part {
        "" => Some(module(&format!("{list}{index}"))),
        "depthwise" | "pointwise" => Some(module(&format!("{list}{index}.{part}_conv"))),
        _ => None,
    }
}

fn resnet_layer(net: &ResNet, path: &str) -> Option<Layer> {
    match (net.stem, path) {
        (Stem::V1c, "stem.conv1") => Some(layer("backbone.stem.", "0", "1")),
        (Stem::V1c, "stem.conv2") => Some(layer("backbone.stem.", "3", "4")),
        (Stem::V1c, "stem.conv3") => Some(layer("backbone.stem.", "6", "7")),
        _ if net.squeeze_excite => None,
        _ => resnet::layer_name(net, "backbone.", path),
    }
}

fn backbone(tensors: &Tensors) -> Result<ResNet> {
    // Without either, the average pooling of v1d comes first in its shortcuts.
    if tensors.has("backbone.layer1.0.downsample.1.weight")
        && tensors.dims("backbone.layer1.0.downsample.1.weight").is_some_and(|d| d.len() == 4)
    {
        return Err(unsupported("ResNet-v1d, whose shortcuts are average pooled"));
    }
    if !tensors.any("backbone.layer1.0.bn1.") {
        let found = encoders::recognize(tensors);
        return Err(unsupported(found.as_deref().unwrap_or("none of its ResNets")));
    }
    let net = resnet::units(tensors, "backbone.")?;
    let stem = if tensors.any("backbone.stem.") { Stem::V1c } else { Stem::Single };
    Ok(ResNet { stem, second_undilated: !net.bottleneck(), ..net })
}

fn unsupported(found: &str) -> crate::Error {
    error!(Weights, "unsupported backbone of dialect `mmseg`").advice(format!(
        "the backbone looks like {found}; ResNet-v1c, ResNet and ResNeXt are supported"
    ))
}

fn head(tensors: &Tensors) -> Head {
    let plus = tensors.any("decode_head.c1_bottleneck.");
    let out = |name: &str| tensors.dim(name, 0);
    let channels = out("decode_head.bottleneck.conv.weight").unwrap_or(512);
    let separable = tensors.any("decode_head.aspp_modules.1.depthwise_conv.");
    let kind = if separable { ConvKind::SeparableNorm } else { ConvKind::Plain };
    // The dropout precedes the classifier.
    const DROPOUT: f32 = 0.1;
    let aspp = Aspp {
        channels,
        rates: vec![12, 24, 36],
        kind,
        pool_first: true,
        dropout: if plus { 0.0 } else { DROPOUT },
        project_kernel: 3,
        ..Aspp::default()
    };
    let decoder = PlusDecoder {
        low_level_channels: out("decode_head.c1_bottleneck.conv.weight").unwrap_or(48),
        channels,
        kind: ConvKind::SeparableNorm,
        dropouts: vec![0.0, DROPOUT],
        ..PlusDecoder::default()
    };
    let decoder = if plus { Decoder::Plus(decoder) } else { Decoder::None };
    Head {
        aux: tensors.any("auxiliary_head.").then_some(Aux { dropout: DROPOUT }),
        ..Head::new(torch::classes(tensors, "decode_head.conv_seg"), aspp, decoder, false)
    }
}
