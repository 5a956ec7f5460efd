//! Names that PyTorch code bases share: torchvision's backbones, and the ASPP module that other
//! code bases copied from it.

use super::{Tensors, resnet};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::mobilenet_v2::MobileNetV2;
use crate::models::{Aspp, Backbone, ConvKind};

/// Names of a layer's convolution and batch norm.
pub(super) type Layer = (String, String);

/// Returns the names of a convolution and its batch norm, with a common prefix.
pub(super) fn layer(prefix: &str, conv: &str, norm: &str) -> Layer {
    (format!("{prefix}{conv}"), format!("{prefix}{norm}"))
}

/// Returns the name of a parameter of a layer.
pub(super) fn name((conv, norm): Layer, part: Part) -> String {
    match part {
        Part::Kernel => conv + ".weight",
        Part::Bias => conv + ".bias",
        Part::Gamma => norm + ".weight",
        Part::Beta => norm + ".bias",
        Part::RunningMean => norm + ".running_mean",
        Part::RunningVar => norm + ".running_var",
    }
}

/// Renames a layer of torchvision's ResNet or MobileNetV2, see [`resnet::layer_name`] and
/// [`mobilenet_v2`].
pub(super) fn resnet_or_mobilenet_v2(
    backbone: &Backbone,
    prefix: &str,
    feature: impl Fn(usize) -> String,
    path: &str,
) -> Option<Layer> {
    match backbone {
        Backbone::ResNet(net) => resnet::layer_name(net, prefix, path),
        Backbone::MobileNetV2(_) => mobilenet_v2(feature, path),
        _ => None,
    }
}

/// Infers a ResNet below `prefix`, or a MobileNetV2 with the modules named by `feature`. Returns it
/// with the name of its first kernel, or `None` for another backbone.
pub(super) fn infer_resnet_or_mobilenet_v2(
    tensors: &Tensors,
    prefix: &str,
    feature: impl Fn(usize) -> String,
) -> Result<Option<(Backbone, String)>> {
    let first = feature(0);
    if tensors.any(&format!("{first}.0.")) {
        let net = infer_mobilenet_v2_features(tensors, feature)?;
        return Ok(Some((Backbone::MobileNetV2(net), format!("{first}.0.weight"))));
    }
    if tensors.any(&format!("{prefix}layer1.0.")) {
        let net = resnet::infer(tensors, prefix)?;
        let stem = resnet::stem_kernel(&net, prefix);
        return Ok(Some((Backbone::ResNet(net), stem)));
    }
    Ok(None)
}

/// Renames a layer of torchvision's MobileNetV2. `feature` returns the name of `features.N`.
pub(super) fn mobilenet_v2(feature: impl Fn(usize) -> String, path: &str) -> Option<Layer> {
    let (number, conv, norm) = match path {
        "stem.conv1" => (0, "0", "1"),
        "last" => (18, "0", "1"),
        _ => {
            let (block, part) = path.strip_prefix("block")?.split_once('.')?;
            let block: usize = block.parse().ok()?;
            let (conv, norm) = match (part, block) {
                ("expand", 1..) | ("depthwise", 0) => ("conv.0.0", "conv.0.1"),
                ("depthwise", _) => ("conv.1.0", "conv.1.1"),
                ("project", 0) => ("conv.1", "conv.2"),
                ("project", _) => ("conv.2", "conv.3"),
                _ => return None,
            };
            (block + 1, conv, norm)
        }
    };
    Some(layer(&format!("{}.", feature(number)), conv, norm))
}

/// Infers the channels of a MobileNetV2 from the kernels of its stem, of the projections of its
/// blocks, and of its last layer.
pub(super) fn infer_mobilenet_v2(
    tensors: &Tensors,
    stem: &str,
    project: impl Fn(usize) -> String,
    last: &str,
) -> Result<MobileNetV2> {
    let out_channels = |name: &str| {
        tensors.dim(name, 0).ok_or_else(|| {
            error!(Weights, "tensor `{name}` is missing, which determines the width")
        })
    };
    let mut net = MobileNetV2::with_width(1.0, 8);
    net.stem = out_channels(stem)?;
    for (channels, block) in net.channels.iter_mut().zip(MobileNetV2::LAST_BLOCKS) {
        *channels = out_channels(&project(block))?;
    }
    net.last = tensors.dim(last, 0);
    Ok(net)
}

/// Infers the channels of torchvision's MobileNetV2, with the modules named by `feature`.
pub(super) fn infer_mobilenet_v2_features(
    tensors: &Tensors,
    feature: impl Fn(usize) -> String,
) -> Result<MobileNetV2> {
    let kernel = |path: &str| {
        mobilenet_v2(&feature, path).map_or(String::new(), |layer| name(layer, Part::Kernel))
    };
    let project = |block: usize| kernel(&format!("block{block}.project"));
    infer_mobilenet_v2(tensors, &kernel("stem.conv1"), project, &kernel("last"))
}

/// Renames a layer of the ASPP module at `prefix`. `path` is relative to the native ASPP.
pub(super) fn aspp(prefix: &str, branches: usize, path: &str) -> Option<Layer> {
    let convs =
        |i: usize, conv: &str, norm: &str| Some(layer(&format!("{prefix}convs.{i}."), conv, norm));
    match path {
        "conv1x1" => convs(0, "0", "1"),
        "pool.conv" => convs(branches + 1, "1", "2"),
        "project" => Some(layer(prefix, "project.0", "project.1")),
        _ => {
            let rate = path.strip_prefix("rate")?;
            let (number, part) = rate.split_once('.').unwrap_or((rate, ""));
            let number = number.parse().ok()?;
            match part {
                "" => convs(number, "0", "1"),
                "depthwise" => convs(number, "0.0", ""),
                "pointwise" => convs(number, "0.1", "1"),
                _ => None,
            }
        }
    }
}

/// Infers the ASPP module at `prefix`. Files do not contain the atrous rates: `rates` are the code
/// base's defaults.
pub(super) fn infer_aspp(tensors: &Tensors, prefix: &str, rates: [usize; 3], dropout: f32) -> Aspp {
    let separable = tensors.has(&format!("{prefix}convs.1.0.1.weight"));
    Aspp {
        channels: tensors.dim(&format!("{prefix}project.0.weight"), 0).unwrap_or(256),
        rates: rates.to_vec(),
        kind: if separable { ConvKind::Separable } else { ConvKind::Plain },
        dropout,
        ..Aspp::default()
    }
}

/// Returns the number of classes from a classifier's kernel or bias, by default 21.
pub(super) fn classes(tensors: &Tensors, classifier: &str) -> usize {
    let from_kernel = tensors.dim(&format!("{classifier}.weight"), 0);
    from_kernel.or_else(|| tensors.dim(&format!("{classifier}.bias"), 0)).unwrap_or(21)
}
