//! torchvision's DeepLabv3: ResNet-50 and -101, MobileNetV3-Large, with or without the auxiliary
//! classifier.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors, resnet};
use crate::error::Result;
use crate::graph::Part;
use crate::models::mobilenet_v3::{self, MobileNetV3};
use crate::models::{
    Aux, Backbone, Config, Decoder, DilationRule, Eps, Head, Norm, PaddingRule, Preprocessing,
};

/// The dialect of torchvision.
pub struct Torchvision;

const MOBILENET_STEM: &str = "backbone.0.0.weight";

impl Dialect for Torchvision {
    fn name(&self) -> &'static str {
        "torchvision"
    }

    fn description(&self) -> &'static str {
        "torchvision's DeepLabv3: ResNet, MobileNetV3-Large"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("classifier.0.convs.") && tensors.any("backbone.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let mobilenet = tensors.any("backbone.1.block.") || tensors.has(MOBILENET_STEM);
        let backbone = if mobilenet {
            Backbone::MobileNetV3(MobileNetV3 {})
        } else {
            Backbone::ResNet(resnet::infer(tensors, "backbone.")?)
        };
        let stem = if mobilenet { MOBILENET_STEM } else { "backbone.conv1.weight" };
        Ok(Config {
            backbone,
            output_stride: if mobilenet { 16 } else { 8 },
            dilation: if mobilenet { DilationRule::WholeStage } else { DilationRule::AfterStride },
            multi_grid: Vec::new(),
            padding: PaddingRule::Symmetric,
            input_channels: tensors.dim(stem, 1).unwrap_or(3),
            norm: Norm::Separate,
            eps: Eps { backbone: if mobilenet { 1e-3 } else { 1e-5 }, head: 1e-5 },
            head: Some(Head {
                aux: tensors.any("aux_classifier.").then_some(Aux { dropout: 0.1 }),
                ..Head::new(
                    torch::classes(tensors, "classifier.4"),
                    torch::infer_aspp(tensors, "classifier.0.", [12, 24, 36], 0.5),
                    Decoder::Conv,
                    false,
                )
            }),
            // The preset of all its weights: transforms.SemanticSegmentation(resize_size=520).
            preprocess: Preprocessing { short_side: Some(520), ..Preprocessing::IMAGENET },
        })
    }

    fn rates_follow_stride(&self) -> bool {
        false
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) => match &config.backbone {
                Backbone::ResNet(net) => resnet::layer_name(net, "backbone.", inner),
                Backbone::MobileNetV3(_) => mobilenet_v3("backbone.", inner),
                _ => None,
            },
            Some(("aspp", inner)) => {
                torch::aspp("classifier.0.", config.head.as_ref()?.aspp.rates.len(), inner)
            }
            Some(("head", "conv")) => Some(layer("classifier.", "1", "2")),
            Some(("aux", "conv")) => Some(layer("aux_classifier.", "0", "1")),
            Some(("aux", "logits")) => Some(layer("aux_classifier.", "4", "")),
            None if path == "logits" => Some(layer("classifier.", "4", "")),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }
}

/// Renames a layer of torchvision's MobileNetV3. The layer numbers in a block depend on its
/// optional layers.
pub(super) fn mobilenet_v3(prefix: &str, path: &str) -> Option<Layer> {
    match path {
        "stem.conv1" => return Some(layer(prefix, "0.0", "0.1")),
        "last" => return Some(layer(prefix, "16.0", "16.1")),
        _ => {}
    }
    let (block, part) = path.strip_prefix("block")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let layers = mobilenet_v3::block_layers(block)?;
    let depthwise = usize::from(layers.expansion);
    let index = match part {
        "expand" => 0,
        "depthwise" => depthwise,
        "se.fc1" | "se.fc2" => depthwise + 1,
        "project" => depthwise + 1 + usize::from(layers.squeeze_excite),
        _ => return None,
    };
    let prefix = format!("{prefix}{}.block.{index}.", block + 1);
    Some(match part.strip_prefix("se.") {
        Some(fc) => layer(&prefix, fc, ""),
        None => layer(&prefix, "0", "1"),
    })
}
