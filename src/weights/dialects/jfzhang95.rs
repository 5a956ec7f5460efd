//! jfzhang95's pytorch-deeplab-xception: v3+ with ResNet-101, Xception or MobileNetV2.

use super::torch::{self, Layer, layer};
use super::{Dialect, ParameterPart, Tensors};
use crate::error::{Result, error};
use crate::models::xception::{Xception, XceptionVariant};
use crate::models::{
    Aspp, Backbone, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm,
    PaddingRule, PlusDecoder, Pooling, Preprocessing,
};

/// jfzhang95's dialect.
pub struct Jfzhang95;

const MOBILENET_STEM: &str = "backbone.low_level_features.0.0.weight";
/// All of MobileNetV2, before it is divided: files hold every tensor of it twice.
const WHOLE: &str = "backbone.features.";
const PARTS: [&str; 2] = ["backbone.low_level_features.", "backbone.high_level_features."];

impl Dialect for Jfzhang95 {
    fn name(&self) -> &'static str {
        "jfzhang95"
    }

    fn about(&self) -> &'static str {
        "jfzhang95's pytorch-deeplab-xception: v3+ with ResNet-101, Xception or MobileNetV2"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("aspp.aspp1.") || tensors.any("decoder.last_conv.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let mut config = Config {
            backbone: Backbone::Xception(Xception { depth: 65, variant: XceptionVariant::InPlace }),
            output_stride: 16,
            dilation: DilationRule::AfterStride,
            multi_grid: Vec::new(),
            padding: PaddingRule::Symmetric,
            input_channels: 3,
            norm: Norm::Separate,
            eps: Eps { backbone: 1e-5, head: 1e-5 },
            head: Some(head(tensors)),
            // What it validates on: FixScaleCrop(513), of which the crop would leave a part of the
            // image out.
            preprocess: Preprocessing { short_side: Some(513), ..Preprocessing::IMAGENET },
        };
        let mut stem = "backbone.conv1.weight";
        if tensors.any(PARTS[0]) {
            stem = MOBILENET_STEM;
            let kernel = |path: &str| {
                mobilenet_v2(path)
                    .map_or(String::new(), |layer| torch::name(layer, ParameterPart::Kernel))
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
            config.backbone = Backbone::ResNet(torch::infer_resnet(tensors, "backbone.")?);
            config.dilation = DilationRule::WholeStage;
            config.multi_grid = vec![1, 2, 4];
        } else if !tensors.any("backbone.block20.") {
            return Err(error!(Weights, "this backbone of jfzhang95's is not known")
                .advice("ResNet-101, Xception and MobileNetV2 are; DRN is not"));
        }
        config.input_channels = tensors.dim(stem, 1).unwrap_or(3);
        Ok(config)
    }

    fn rename(&self, config: &Config, path: &str, part: ParameterPart) -> Option<String> {
        let found = match path.split_once('.') {
            Some(("backbone", inner)) => match &config.backbone {
                Backbone::ResNet(_) => torch::resnet("backbone.", inner),
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
        found.map(|layer| torch::name(layer, part))
    }

    fn ignores(&self, tensors: &Tensors, name: &str) -> bool {
        name.ends_with("num_batches_tracked") || (name.starts_with(WHOLE) && tensors.any(PARTS[0]))
    }

    fn copy_of(&self, name: &str) -> Option<String> {
        PARTS.iter().find_map(|part| Some(format!("{WHOLE}{}", name.strip_prefix(part)?)))
    }
}

fn head(tensors: &Tensors) -> Head {
    let out = |name: &str, usual: usize| tensors.dim(name, 0).unwrap_or(usual);
    let channels = out("aspp.conv1.weight", 256);
    Head {
        classes: torch::classes(tensors, "decoder.last_conv.8"),
        class_names: Vec::new(),
        class_colors: Vec::new(),
        aspp: Aspp {
            channels,
            rates: vec![6, 12, 18],
            kind: ConvKind::Plain,
            pooling: Pooling::Global,
            pool_first: false,
            dropout: 0.5,
            separable_after: false,
        },
        decoder: Decoder::Plus(PlusDecoder {
            low_level: LowLevel::Stage,
            low_level_channels: out("decoder.conv1.weight", 48),
            channels: out("decoder.last_conv.0.weight", channels),
            kind: ConvKind::Plain,
            dropouts: vec![0.5, 0.1],
            low_level_first: false,
        }),
        aux: None,
        align_corners: true,
    }
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

/// Convolution, norm and activation of a block's layers stand in one sequence.
fn mobilenet_v2(path: &str) -> Option<Layer> {
    if path == "stem.conv1" {
        return Some(layer(PARTS[0], "0.0", "0.1"));
    }
    let (block, part) = path.strip_prefix("block")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let at = match (part, block) {
        ("expand", 1..) | ("depthwise", 0) => 0,
        ("depthwise", _) | ("project", 0) => 3,
        ("project", _) => 6,
        _ => return None,
    };
    let number = block + 1;
    let prefix = format!("{}{number}.conv.", PARTS[usize::from(number > 3)]);
    Some(layer(&prefix, &at.to_string(), &(at + 1).to_string()))
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
        // Outside of any block: `conv3` to `conv5`.
        let at = conv + 2;
        return separable(&format!("backbone.conv{at}"), &format!("backbone.bn{at}"), kind);
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
    // ReLU, separable convolution, norm: but the first two blocks begin without the ReLU.
    let at = 3 * conv.checked_sub(1)? + usize::from(block > 2);
    separable(
        &format!("backbone.block{block}.rep.{at}"),
        &format!("backbone.block{block}.rep.{}", at + 1),
        kind,
    )
}

/// The norm after the depthwise convolution is inside, the one after the pointwise convolution
/// beside.
fn separable(inside: &str, norm: &str, kind: &str) -> Option<Layer> {
    match kind {
        "depthwise" => Some(layer(&format!("{inside}."), "conv1", "bn")),
        "pointwise" => Some((format!("{inside}.pointwise"), norm.to_owned())),
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
        let copy = Jfzhang95.copy_of("backbone.high_level_features.17.conv.6.weight");
        assert_eq!(copy.as_deref(), Some("backbone.features.17.conv.6.weight"));
        assert_eq!(Jfzhang95.copy_of("decoder.conv1.weight"), None);
    }
}
