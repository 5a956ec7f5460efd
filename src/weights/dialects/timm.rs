//! timm's ImageNet backbones with timm's own names. Its ResNets have torchvision's names.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::mobilenet_v3::{self, MobileNetV3};
use crate::models::xception::{Shortcut, Xception};
use crate::models::{Backbone, Config, Eps, Preprocessing};

/// The dialect of timm.
pub struct Timm;

/// Note about MobileNetV3-Large: TensorFlow's port differs in padding and eps alone.
pub(super) const MOBILENET_V3_DOUBT: &str = "read as timm's mobilenetv3_large_100; weights of \
     tf_mobilenetv3_large_100 have the same tensors, but are not supported";

/// Number of blocks in the stages of MobileNetV2.
const MOBILENET_V2: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];
/// Number of blocks in the stages of MobileNetV3-Large. The last stage is the layer after the
/// blocks.
const MOBILENET_V3: [usize; 7] = [1, 2, 3, 4, 2, 3, 1];

impl Dialect for Timm {
    fn name(&self) -> &'static str {
        "timm"
    }

    fn description(&self) -> &'static str {
        "timm's backbones for ImageNet: Xception-41, -65, -71, MobileNetV2, MobileNetV3-Large"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("blocks.0.stack.") || (tensors.any("conv_stem.") && tensors.any("blocks.0.0."))
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let xception = tensors.any("blocks.0.stack.");
        let (backbone, stem) = if xception {
            (Backbone::Xception(infer_xception(tensors)?), "stem.0.conv.weight")
        } else {
            (infer_mobilenet(tensors, "")?, "conv_stem.weight")
        };
        let preprocess = if xception {
            Preprocessing { mean: [0.5; 3], std: [0.5; 3], ..Preprocessing::IMAGENET }
        } else {
            Preprocessing::IMAGENET
        };
        Ok(Config {
            input_channels: tensors.dim(stem, 1).unwrap_or(3),
            eps: Eps { backbone: if xception { 1e-3 } else { 1e-5 }, head: 1e-5 },
            preprocess,
            ..Config::bare(backbone)
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let inner = path.strip_prefix("backbone.")?;
        let layer = match &config.backbone {
            Backbone::Xception(net) => xception(net, inner),
            Backbone::MobileNetV2(_) => mobilenet_v2("", inner),
            Backbone::MobileNetV3(_) => mobilenet_v3("", inner),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }

    fn doubt(&self, config: &Config) -> Option<&'static str> {
        matches!(config.backbone, Backbone::MobileNetV3(_)).then_some(MOBILENET_V3_DOUBT)
    }

    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        // MobileNetV3's `conv_head` follows the pooling and belongs to the classifier.
        let is_classifier =
            ["head.", "conv_head.", "classifier."].iter().any(|prefix| name.starts_with(prefix));
        is_classifier || name.ends_with("num_batches_tracked")
    }
}

/// Infers the Xception from the number of blocks.
fn infer_xception(tensors: &Tensors) -> Result<Xception> {
    let blocks = tensors.count("blocks.");
    let mut known = [41, 65, 71].into_iter().filter_map(|depth| Xception::new(depth).ok());
    known.find(|net| net.units().len() == blocks).ok_or_else(|| {
        error!(Weights, "unsupported Xception with {blocks} units")
            .advice("xception41, xception65 and xception71 are supported")
    })
}

/// Infers the mobile network below `prefix` from the number of blocks in its stages.
pub(super) fn infer_mobilenet(tensors: &Tensors, prefix: &str) -> Result<Backbone> {
    match std::array::from_fn(|i| tensors.count(&format!("{prefix}blocks.{i}."))) {
        MOBILENET_V2 => {
            let kernel = |path: &str| {
                mobilenet_v2(prefix, path)
                    .map_or(String::new(), |layer| torch::name(layer, Part::Kernel))
            };
            let project = |block: usize| kernel(&format!("block{block}.project"));
            let mut net = torch::infer_mobilenet_v2(
                tensors,
                &kernel("stem.conv1"),
                project,
                &kernel("last"),
            )?;
            net.last_is_features = net.last.is_some();
            Ok(Backbone::MobileNetV2(net))
        }
        MOBILENET_V3 => Ok(Backbone::MobileNetV3(MobileNetV3 {})),
        other => {
            Err(error!(Weights, "unsupported timm network with {other:?} blocks in its stages")
                .advice("mobilenetv2_050, _100, _140 and mobilenetv3_large_100 are supported"))
        }
    }
}

/// Renames a layer of Xception: `entry2.conv1.depthwise` -> `blocks.1.stack.conv1.conv_dw`,
/// `bn_dw`.
fn xception(net: &Xception, path: &str) -> Option<Layer> {
    if let Some(number) = path.strip_prefix("stem.conv") {
        let number: usize = number.parse().ok()?;
        return Some(layer(&format!("stem.{}.", number.checked_sub(1)?), "conv", "bn"));
    }
    let (unit, inner) = path.split_once('.')?;
    let (block, unit) =
        net.units().into_iter().enumerate().find(|(_, known)| known.name == unit)?;
    let prefix = format!("blocks.{block}.");
    match inner.split_once('.') {
        Some((conv, "depthwise")) => {
            Some(layer(&format!("{prefix}stack.{conv}."), "conv_dw", "bn_dw"))
        }
        Some((conv, "pointwise")) => {
            Some(layer(&format!("{prefix}stack.{conv}."), "conv_pw", "bn_pw"))
        }
        None if unit.shortcut == Shortcut::Conv => {
            Some(layer(&format!("{prefix}shortcut."), "conv", "bn"))
        }
        _ => None,
    }
}

/// Splits a native path `blockN.LAYER` into timm's prefix of the block, which counts blocks within
/// stages, the native block number, and the layer.
fn block<'p>(prefix: &str, stages: &[usize], path: &'p str) -> Option<(String, usize, &'p str)> {
    let (number, layer) = path.strip_prefix("block")?.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let mut index = number;
    for (stage, &blocks) in stages.iter().enumerate() {
        if index < blocks {
            return Some((format!("{prefix}blocks.{stage}.{index}."), number, layer));
        }
        index -= blocks;
    }
    None
}

/// Renames a layer of an inverted residual block. Its convolutions and norms are numbered in order.
fn inverted_residual(prefix: &str, part: &str, has_expansion: bool) -> Option<Layer> {
    match (part, has_expansion) {
        ("expand", true) => Some(layer(prefix, "conv_pw", "bn1")),
        ("depthwise", true) => Some(layer(prefix, "conv_dw", "bn2")),
        ("project", true) => Some(layer(prefix, "conv_pwl", "bn3")),
        ("depthwise", false) => Some(layer(prefix, "conv_dw", "bn1")),
        ("project", false) => Some(layer(prefix, "conv_pw", "bn2")),
        ("se.fc1", _) => Some(layer(prefix, "se.conv_reduce", "")),
        ("se.fc2", _) => Some(layer(prefix, "se.conv_expand", "")),
        _ => None,
    }
}

/// Renames a layer of MobileNetV2 below `prefix`.
pub(super) fn mobilenet_v2(prefix: &str, path: &str) -> Option<Layer> {
    match path {
        "stem.conv1" => Some(layer(prefix, "conv_stem", "bn1")),
        "last" => Some(layer(prefix, "conv_head", "bn2")),
        _ => {
            let (prefix, number, part) = block(prefix, &MOBILENET_V2, path)?;
            inverted_residual(&prefix, part, number > 0)
        }
    }
}

/// Renames a layer of MobileNetV3-Large below `prefix`.
pub(super) fn mobilenet_v3(prefix: &str, path: &str) -> Option<Layer> {
    match path {
        "stem.conv1" => Some(layer(prefix, "conv_stem", "bn1")),
        "last" => Some(layer(&format!("{prefix}blocks.6.0."), "conv", "bn1")),
        _ => {
            let (prefix, number, part) = block(prefix, &MOBILENET_V3[..6], path)?;
            inverted_residual(&prefix, part, mobilenet_v3::block_layers(number)?.expansion)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_within_their_stages() {
        let conv = |layer: Option<Layer>| layer.map(|(conv, _)| conv);
        assert_eq!(
            conv(mobilenet_v2("", "block16.project")).as_deref(),
            Some("blocks.6.0.conv_pwl")
        );
        assert_eq!(conv(mobilenet_v2("", "block0.project")).as_deref(), Some("blocks.0.0.conv_pw"));
        assert_eq!(conv(mobilenet_v2("", "block17.project")), None);
        assert_eq!(
            conv(mobilenet_v3("", "block14.se.fc2")).as_deref(),
            Some("blocks.5.2.se.conv_expand")
        );
        assert_eq!(conv(mobilenet_v3("", "block15.project")), None);
        let net = Xception::new(71).unwrap();
        assert_eq!(
            conv(xception(&net, "exit2.conv3.pointwise")).as_deref(),
            Some("blocks.22.stack.conv3.conv_pw")
        );
        assert_eq!(conv(xception(&net, "middle1.shortcut")), None);
    }
}
