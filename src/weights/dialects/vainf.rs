//! VainF's DeepLabV3Plus-Pytorch: v3 and v3+ with ResNet or MobileNetV2.

use super::torch::{self, layer};
use super::{Dialect, Tensors, encoders};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::{Backbone, Config, Decoder, Head, PaddingRule, PlusDecoder};

/// The dialect of VainF.
pub struct VainF;

/// Returns the name of a feature module. Features 0 to 3 are in a separate module.
fn feature(number: usize) -> String {
    format!("backbone.{}_level_features.{number}", if number < 4 { "low" } else { "high" })
}

impl Dialect for VainF {
    fn name(&self) -> &'static str {
        "vainf"
    }

    fn description(&self) -> &'static str {
        "VainF's DeepLabV3Plus-Pytorch: v3 and v3+ with ResNet or MobileNetV2"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("backbone.")
            && (tensors.any("classifier.aspp.") || tensors.any("classifier.classifier."))
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let backbone = torch::infer_resnet_or_mobilenet_v2(tensors, "backbone.", feature)?;
        let (backbone, stem) = backbone.ok_or_else(|| {
            let error = error!(Weights, "unsupported backbone of dialect `vainf`");
            match encoders::recognize(tensors) {
                Some(found) => error.advice(encoders::looks_like(&found)),
                None => error.advice("ResNet and MobileNetV2 are supported"),
            }
        })?;
        let plus = tensors.any("classifier.aspp.");
        let aspp = torch::infer_aspp(
            tensors,
            if plus { "classifier.aspp." } else { "classifier.classifier.0." },
            [6, 12, 18],
            0.1,
        );
        let classifier = if plus { "classifier.classifier.3" } else { "classifier.classifier.4" };
        let decoder = PlusDecoder {
            low_level_channels: tensors.dim("classifier.project.0.weight", 0).unwrap_or(48),
            channels: aspp.channels,
            dropouts: vec![0.0],
            low_level_first: true,
            ..PlusDecoder::default()
        };
        Ok(Config {
            output_stride: 16,
            padding: if matches!(backbone, Backbone::MobileNetV2(_)) {
                PaddingRule::BeforeExpansion { stem: 0 }
            } else {
                PaddingRule::Symmetric
            },
            input_channels: tensors.dim(&stem, 1).unwrap_or(3),
            head: Some(Head::new(
                torch::classes(tensors, classifier),
                aspp,
                if plus { Decoder::Plus(decoder) } else { Decoder::Conv },
                false,
            )),
            ..Config::bare(backbone)
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let head = config.head.as_ref()?;
        let plus = matches!(head.decoder, Decoder::Plus(_));
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) => {
                torch::resnet_or_mobilenet_v2(&config.backbone, "backbone.", feature, inner)
            }
            Some(("aspp", inner)) => torch::aspp(
                if plus { "classifier.aspp." } else { "classifier.classifier.0." },
                head.aspp.rates.len(),
                inner,
            ),
            Some(("decoder", "low_level")) => Some(layer("classifier.project.", "0", "1")),
            Some(("decoder", "conv1")) => Some(layer("classifier.classifier.", "0", "1")),
            Some(("head", "conv")) => Some(layer("classifier.classifier.", "1", "2")),
            None if path == "logits" => {
                Some(layer("classifier.classifier.", if plus { "3" } else { "4" }, ""))
            }
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }
    fn wrap_key(&self) -> Option<&'static str> {
        Some("model_state")
    }
}
