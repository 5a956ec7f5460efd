//! jfzhang95's pytorch-deeplab-xception: v3+ with ResNet-101, Xception or MobileNetV2.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors, resnet};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::xception::{Xception, XceptionVariant};
use crate::models::{
    Aspp, Backbone, Config, Decoder, DilationRule, Head, PaddingRule, PlusDecoder, Preprocessing,
};

/// The dialect of jfzhang95.
pub struct Jfzhang95;

const MOBILENET_STEM: &str = "backbone.low_level_features.0.0.weight";
/// Prefix of the undivided MobileNetV2: files contain all of its tensors twice.
const WHOLE: &str = "backbone.features.";
/// Prefixes of the two halves of MobileNetV2.
const HALVES: [&str; 2] = ["backbone.low_level_features.", "backbone.high_level_features."];

impl Dialect for Jfzhang95 {
    fn name(&self) -> &'static str {
        "jfzhang95"
    }

    fn description(&self) -> &'static str {
        "jfzhang95's pytorch-deeplab-xception: v3+ with ResNet-101, Xception or MobileNetV2"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("aspp.aspp1.") || tensors.any("decoder.last_conv.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let mut config = Config {
            output_stride: 16,
            head: Some(head(tensors)),
            // The validation preset is FixScaleCrop(513), without its crop, which would omit part
            // of the image.
            preprocess: Preprocessing { short_side: Some(513), ..Preprocessing::IMAGENET },
            ..Config::bare(Backbone::Xception(Xception {
                depth: 65,
                variant: XceptionVariant::InPlace,
            }))
        };
        let mut stem = "backbone.conv1.weight";
        if tensors.any(HALVES[0]) {
            stem = MOBILENET_STEM;
            let kernel = |path: &str| {
                mobilenet_v2(path).map_or(String::new(), |layer| torch::name(layer, Part::Kernel))
            };
            let project = |block: usize| kernel(&format!("block{block}.project"));
            config.backbone = Backbone::MobileNetV2(torch::infer_mobilenet_v2(
                tensors,
                stem,
                project,
                &kernel("last"),
            )?);
            config.dilation = DilationRule::AfterGroup;
            config.padding = PaddingRule::BeforeExpansion { stem: 1 };
        } else if tensors.any("backbone.layer1.0.conv3.") {
            config.backbone = Backbone::ResNet(resnet::infer(tensors, "backbone.")?);
            config.dilation = DilationRule::WholeStage;
            config.multi_grid = vec![1, 2, 4];
        } else if !tensors.any("backbone.block20.") {
            return Err(error!(Weights, "unsupported backbone of dialect `jfzhang95`")
                .advice("ResNet-101, Xception and MobileNetV2 are supported; DRN is not"));
        }
        config.input_channels = tensors.dim(stem, 1).unwrap_or(3);
        Ok(config)
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) => match &config.backbone {
                Backbone::ResNet(net) => resnet::layer_name(net, "backbone.", inner),
                Backbone::MobileNetV2(_) => mobilenet_v2(inner),
                Backbone::Xception(net) if net.depth == 65 => xception(inner),
                _ => None,
            },
            Some(("aspp", inner)) => aspp(inner),
            Some(("decoder", "low_level")) => Some(layer("decoder.", "conv1", "bn1")),
            Some(("decoder", "conv1")) => Some(layer("decoder.last_conv.", "0", "1")),
            Some(("decoder", "conv2")) => Some(layer("decoder.last_conv.", "4", "5")),
            None if path == "logits" => Some(layer("decoder.last_conv.", "8", "")),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }

    fn ignores(&self, tensors: &Tensors, name: &str) -> bool {
        name.ends_with("num_batches_tracked") || (name.starts_with(WHOLE) && tensors.any(HALVES[0]))
    }

    fn wrap_key(&self) -> Option<&'static str> {
        Some("state_dict")
    }

    fn duplicate_name(&self, name: &str) -> Option<String> {
        HALVES.iter().find_map(|half| Some(format!("{WHOLE}{}", name.strip_prefix(half)?)))
    }
}

fn head(tensors: &Tensors) -> Head {
    let out_channels = |name: &str, default: usize| tensors.dim(name, 0).unwrap_or(default);
    let channels = out_channels("aspp.conv1.weight", 256);
    let aspp = Aspp { channels, dropout: 0.5, ..Aspp::default() };
    let decoder = Decoder::Plus(PlusDecoder {
        low_level_channels: out_channels("decoder.conv1.weight", 48),
        channels: out_channels("decoder.last_conv.0.weight", channels),
        dropouts: vec![0.5, 0.1],
        ..PlusDecoder::default()
    });
    Head::new(torch::classes(tensors, "decoder.last_conv.8"), aspp, decoder, true)
}

fn aspp(path: &str) -> Option<Layer> {
    match path {
        "conv1x1" => Some(layer("aspp.aspp1.", "atrous_conv", "bn")),
        "pool.conv" => Some(layer("aspp.global_avg_pool.", "1", "2")),
        "project" => Some(layer("aspp.", "conv1", "bn1")),
        _ => {
            let number: usize = path.strip_prefix("rate")?.parse().ok()?;
            Some(layer(&format!("aspp.aspp{}.", number + 1), "atrous_conv", "bn"))
        }
    }
}

/// Renames a layer of MobileNetV2. A block is one sequence of convolutions, norms and activations.
fn mobilenet_v2(path: &str) -> Option<Layer> {
    if path == "stem.conv1" {
        return Some(layer(HALVES[0], "0.0", "0.1"));
    }
    let (block, part) = path.strip_prefix("block")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let index = match (part, block) {
        ("expand", 1..) | ("depthwise", 0) => 0,
        ("depthwise", _) | ("project", 0) => 3,
        ("project", _) => 6,
        _ => return None,
    };
    let number = block + 1;
    let prefix = format!("{}{number}.conv.", HALVES[usize::from(number > 3)]);
    Some(layer(&prefix, &index.to_string(), &(index + 1).to_string()))
}

fn xception(path: &str) -> Option<Layer> {
    if let Some(number) = path.strip_prefix("stem.conv") {
        return Some(layer("backbone.", &format!("conv{number}"), &format!("bn{number}")));
    }
    let (unit, inner) = path.split_once('.')?;
    let number = |digits: &str| digits.parse::<usize>().ok();
    let (conv, kind) = match inner.split_once('.') {
        Some((conv, kind)) => (number(conv.strip_prefix("conv")?)?, kind),
        None => (0, inner),
    };
    if unit == "exit2" {
        // Not part of a block: `conv3` to `conv5`.
        let number = conv + 2;
        return separable(&format!("backbone.conv{number}"), &format!("backbone.bn{number}"), kind);
    }
    let block = match (unit.strip_prefix("entry"), unit.strip_prefix("middle")) {
        (Some(i), _) => number(i)?,
        (_, Some(i)) => number(i)? + 3,
        _ if unit == "exit1" => 20,
        _ => return None,
    };
    if kind == "shortcut" {
        return Some(layer(&format!("backbone.block{block}."), "skip", "skipbn"));
    }
    // The sequence repeats ReLU, separable convolution, norm; the first two blocks start without
    // the ReLU.
    let index = 3 * conv.checked_sub(1)? + usize::from(block > 2);
    separable(
        &format!("backbone.block{block}.rep.{index}"),
        &format!("backbone.block{block}.rep.{}", index + 1),
        kind,
    )
}

/// Renames a layer of a separable convolution. The module contains the norm after the depthwise
/// convolution, but not the one after the pointwise convolution.
fn separable(module: &str, norm: &str, kind: &str) -> Option<Layer> {
    match kind {
        "depthwise" => Some(layer(&format!("{module}."), "conv1", "bn")),
        "pointwise" => Some((format!("{module}.pointwise"), norm.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_names_of_the_code() {
        let pair =
            |conv: &str, norm: &str| Some((format!("backbone.{conv}"), format!("backbone.{norm}")));
        for (path, names) in [
            ("stem.conv2", pair("conv2", "bn2")),
            ("entry1.conv1.depthwise", pair("block1.rep.0.conv1", "block1.rep.0.bn")),
            ("entry3.conv1.pointwise", pair("block3.rep.1.pointwise", "block3.rep.2")),
            ("middle16.conv3.pointwise", pair("block19.rep.7.pointwise", "block19.rep.8")),
            ("exit1.shortcut", pair("block20.skip", "block20.skipbn")),
            ("exit2.conv1.depthwise", pair("conv3.conv1", "conv3.bn")),
            ("exit2.conv3.pointwise", pair("conv5.pointwise", "bn5")),
            ("exit2.conv3", None),
        ] {
            assert_eq!(xception(path), names, "{path}");
        }
        for (path, names) in [
            ("block0.project", pair("low_level_features.1.conv.3", "low_level_features.1.conv.4")),
            ("block2.expand", pair("low_level_features.3.conv.0", "low_level_features.3.conv.1")),
            (
                "block3.depthwise",
                pair("high_level_features.4.conv.3", "high_level_features.4.conv.4"),
            ),
            (
                "block16.project",
                pair("high_level_features.17.conv.6", "high_level_features.17.conv.7"),
            ),
        ] {
            assert_eq!(mobilenet_v2(path), names, "{path}");
        }
        let duplicate = Jfzhang95.duplicate_name("backbone.high_level_features.17.conv.6.weight");
        assert_eq!(duplicate.as_deref(), Some("backbone.features.17.conv.6.weight"));
        assert_eq!(Jfzhang95.duplicate_name("decoder.conv1.weight"), None);
    }
}
