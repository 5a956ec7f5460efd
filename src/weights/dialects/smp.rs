//! segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus with ResNet or MobileNetV2.

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::{Backbone, Config, ConvKind, Decoder, DilationRule, Head, PlusDecoder};

/// The dialect of SMP.
pub struct Smp;

fn feature(number: usize) -> String {
    format!("encoder.features.{number}")
}

impl Dialect for Smp {
    fn name(&self) -> &'static str {
        "smp"
    }

    fn description(&self) -> &'static str {
        "segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus with ResNet or MobileNetV2"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("encoder.")
            && (tensors.any("segmentation_head.0.") || tensors.any("decoder.aspp."))
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let backbone = torch::infer_resnet_or_mobilenet_v2(tensors, "encoder.", feature)?;
        let (mut backbone, stem) = backbone.ok_or_else(|| {
            error!(Weights, "unsupported encoder of dialect `smp`")
                .advice("ResNet-18 to -152 and MobileNetV2 are supported")
        })?;
        if let Backbone::MobileNetV2(net) = &mut backbone {
            if net.last.is_none() {
                return Err(error!(
                    Weights,
                    "the encoder lacks its last layer, `encoder.features.18`"
                ));
            }
            net.last_is_features = true;
        }
        let plus = tensors.any("decoder.block1.")
            || tensors.any("decoder.block2.")
            || tensors.any("decoder.aspp.0.");
        let prefix = if plus { "decoder.aspp.0." } else { aspp_prefix(tensors) };
        let mut aspp = torch::infer_aspp(tensors, prefix, [12, 24, 36], 0.5);
        aspp.separable_after = plus;
        let decoder = PlusDecoder {
            low_level_channels: tensors.dim("decoder.block1.0.weight", 0).unwrap_or(48),
            channels: aspp.channels,
            kind: ConvKind::Separable,
            dropouts: vec![0.0],
            ..PlusDecoder::default()
        };
        Ok(Config {
            output_stride: if plus { 16 } else { 8 },
            dilation: DilationRule::WholeStage,
            input_channels: tensors.dim(&stem, 1).unwrap_or(3),
            head: Some(Head::new(
                torch::classes(tensors, "segmentation_head.0"),
                aspp,
                if plus { Decoder::Plus(decoder) } else { Decoder::Conv },
                true,
            )),
            ..Config::bare(backbone)
        })
    }

    fn rates_follow_stride(&self) -> bool {
        false
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let head = config.head.as_ref()?;
        let plus = matches!(head.decoder, Decoder::Plus(_));
        let layer = match path.split_once('.') {
            Some(("backbone", inner)) => {
                torch::resnet_or_mobilenet_v2(&config.backbone, "encoder.", feature, inner)
            }
            Some(("aspp", "separable.depthwise")) => Some(layer("decoder.aspp.", "1.0", "")),
            Some(("aspp", "separable.pointwise")) => Some(layer("decoder.aspp.", "1.1", "2")),
            Some(("aspp", inner)) => torch::aspp(
                if plus { "decoder.aspp.0." } else { "decoder.aspp." },
                head.aspp.rates.len(),
                inner,
            ),
            Some(("head", "conv")) => Some(layer("decoder.", "conv", "bn")),
            Some(("decoder", inner)) => decoder(inner),
            None if path == "logits" => Some(layer("segmentation_head.", "0", "")),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }

    fn stored_name(&self, tensors: &Tensors, name: String) -> String {
        // In older versions, DeepLabV3's decoder is a sequence: ASPP, convolution, batch norm.
        const OLD: [(&str, &str); 3] = [
            ("decoder.aspp.", "decoder.0."),
            ("decoder.conv.", "decoder.1."),
            ("decoder.bn.", "decoder.2."),
        ];
        let old =
            OLD.iter().find_map(|(new, old)| Some(format!("{old}{}", name.strip_prefix(new)?)));
        old.filter(|old| !tensors.has(&name) && tensors.has(old)).unwrap_or(name)
    }

    fn complete(&self, backbone: &mut Backbone) {
        if let Backbone::MobileNetV2(net) = backbone {
            net.last.get_or_insert(1280);
            net.last_is_features = true;
        }
    }

    fn constructor(&self, config: &Config) -> Option<String> {
        let head = config.head.as_ref()?;
        let encoder = match &config.backbone {
            Backbone::MobileNetV2(_) => "mobilenet_v2".to_owned(),
            other => other.title().to_lowercase().replace('-', ""),
        };
        let arch =
            if matches!(head.decoder, Decoder::Plus(_)) { "DeepLabV3Plus" } else { "DeepLabV3" };
        let rates: Vec<String> = head.aspp.rates.iter().map(usize::to_string).collect();
        let separable = if head.aspp.kind == ConvKind::Separable { "True" } else { "False" };
        Some(format!(
            "smp.{arch}({encoder:?}, encoder_weights=None, in_channels={}, classes={}, encoder_output_stride={}, decoder_atrous_rates=({}), decoder_aspp_separable={separable})",
            config.input_channels,
            head.channels(),
            config.output_stride,
            rates.join(", ")
        ))
    }

    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        // SMP can train an additional classifier of whole images.
        name.ends_with("num_batches_tracked") || name.starts_with("classification_head.")
    }
}

/// Returns the prefix of DeepLabV3's ASPP in the old or the new version.
fn aspp_prefix(tensors: &Tensors) -> &'static str {
    if tensors.any("decoder.0.") { "decoder.0." } else { "decoder.aspp." }
}

fn decoder(path: &str) -> Option<Layer> {
    match path {
        "low_level" => Some(layer("decoder.block1.", "0", "1")),
        "conv1.depthwise" => Some(layer("decoder.block2.", "0.0", "")),
        "conv1.pointwise" => Some(layer("decoder.block2.", "0.1", "1")),
        _ => None,
    }
}
