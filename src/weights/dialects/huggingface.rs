//! Hugging Face's `MobileNetV2ForSemanticSegmentation`: TensorFlow's mobile network under other
//! names.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors};
use crate::error::Result;
use crate::graph::Part;
use crate::models::{
    Aspp, Backbone, Config, ConvKind, Decoder, Eps, Head, PaddingRule, Preprocessing,
};

/// The dialect of Hugging Face.
pub struct HuggingFace;

impl Dialect for HuggingFace {
    fn name(&self) -> &'static str {
        "huggingface"
    }

    fn title(&self) -> &'static str {
        "Hugging Face"
    }

    fn description(&self) -> &'static str {
        "Hugging Face's MobileNetV2ForSemanticSegmentation"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("mobilenet_v2.") && tensors.any("segmentation_head.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let kernel =
            |path: &str| mobilenet_v2(path).map_or(String::new(), |l| torch::name(l, Part::Kernel));
        let stem = kernel("stem.conv1");
        let net = torch::infer_mobilenet_v2(
            tensors,
            &stem,
            |i| kernel(&format!("block{i}.project")),
            &kernel("last"),
        )?;
        let aspp = Aspp {
            channels: tensors
                .dim("segmentation_head.conv_aspp.convolution.weight", 0)
                .unwrap_or(256),
            rates: Vec::new(),
            kind: ConvKind::SeparableNorm,
            pool_first: true,
            dropout: 0.8,
            ..Aspp::default()
        };
        Ok(Config {
            output_stride: 16,
            padding: PaddingRule::TfSame,
            input_channels: tensors.dim(&stem, 1).unwrap_or(3),
            eps: Eps { backbone: 1e-3, head: 1e-5 },
            // The library returns logits at the output stride; TensorFlow, which trained the
            // weights, upsamples them with aligned corners.
            head: Some(Head::new(
                torch::classes(tensors, "segmentation_head.classifier.convolution"),
                aspp,
                Decoder::None,
                true,
            )),
            preprocess: Preprocessing::SYMMETRIC_513,
            ..Config::bare(Backbone::MobileNetV2(net))
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) if matches!(config.backbone, Backbone::MobileNetV2(_)) => {
                mobilenet_v2(inner)
            }
            Some(("aspp", "pool.conv")) => Some(module("segmentation_head.conv_pool")),
            Some(("aspp", "conv1x1")) => Some(module("segmentation_head.conv_aspp")),
            Some(("aspp", "project")) => Some(module("segmentation_head.conv_projection")),
            None if path == "logits" => Some(module("segmentation_head.classifier")),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }
}

fn module(name: &str) -> Layer {
    layer(name, ".convolution", ".normalization")
}

fn mobilenet_v2(path: &str) -> Option<Layer> {
    let name = match path {
        "stem.conv1" => "conv_stem.first_conv".to_owned(),
        "last" => "conv_1x1".to_owned(),
        _ => {
            let (block, part) = path.strip_prefix("block")?.split_once('.')?;
            let part = match part {
                "expand" => "expand_1x1",
                "depthwise" => "conv_3x3",
                "project" => "reduce_1x1",
                _ => return None,
            };
            // The first block belongs to the stem.
            match block.parse::<usize>().ok()?.checked_sub(1) {
                None => format!("conv_stem.{part}"),
                Some(layer) => format!("layer.{layer}.{part}"),
            }
        }
    };
    Some(module(&format!("mobilenet_v2.{name}")))
}
