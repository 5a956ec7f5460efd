//! segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus with ResNet and its variants,
//! MobileNetV2, or an encoder of timm (`tu-`).

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors, encoders, resnet, timm};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::{Backbone, Config, ConvKind, Decoder, DilationRule, Head, PlusDecoder};

/// The dialect of SMP.
pub struct Smp;

/// Prefix of the encoders that SMP takes from timm. They dilate by timm's rule.
const TIMM: &str = "encoder.model.";

fn feature(number: usize) -> String {
    format!("encoder.features.{number}")
}

impl Dialect for Smp {
    fn name(&self) -> &'static str {
        "smp"
    }

    fn description(&self) -> &'static str {
        "segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus with ResNet, ResNeXt, SE-ResNet, MobileNetV2, or timm's ResNets and MobileNets"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("encoder.")
            && (tensors.any("segmentation_head.0.") || tensors.any("decoder.aspp."))
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let (backbone, stem, dilation) = encoder(tensors)?;
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
            dilation,
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
            Some(("backbone", inner)) => match (&config.backbone, config.dilation) {
                (Backbone::MobileNetV3(_), _) => timm::mobilenet_v3(TIMM, inner),
                (Backbone::MobileNetV2(_), DilationRule::AfterStride) => {
                    timm::mobilenet_v2(TIMM, inner)
                }
                (Backbone::ResNet(net), DilationRule::AfterStride) => {
                    resnet::layer_name(net, TIMM, inner)
                }
                _ => torch::resnet_or_mobilenet_v2(&config.backbone, "encoder.", feature, inner),
            },
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
            Backbone::ResNet(_) => config.backbone.title().to_lowercase().replace('-', ""),
            _ => return None,
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

    fn doubt(&self, config: &Config) -> Option<&'static str> {
        matches!(config.backbone, Backbone::MobileNetV3(_)).then_some(timm::MOBILENET_V3_DOUBT)
    }

    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        // SMP can train an additional classifier of whole images.
        name.ends_with("num_batches_tracked") || name.starts_with("classification_head.")
    }
}

/// Infers the encoder. Returns it with the name of its first kernel and its dilation rule.
fn encoder(tensors: &Tensors) -> Result<(Backbone, String, DilationRule)> {
    let unsupported = || {
        error!(Weights, "unsupported encoder of dialect `smp`").advice(encoders::advice(tensors))
    };
    if !tensors.any(TIMM) {
        let known = torch::infer_resnet_or_mobilenet_v2(tensors, "encoder.", feature);
        let (mut backbone, stem) = known?.ok_or_else(unsupported)?;
        if let Backbone::MobileNetV2(net) = &mut backbone {
            if net.last.is_none() {
                return Err(error!(
                    Weights,
                    "the encoder lacks its last layer, `encoder.features.18`"
                ));
            }
            net.last_is_features = true;
        }
        return Ok((backbone, stem, DilationRule::WholeStage));
    }
    if tensors.any(&format!("{TIMM}layer1.0.")) {
        let net = resnet::infer(tensors, TIMM)?;
        let stem = resnet::stem_kernel(&net, TIMM);
        return Ok((Backbone::ResNet(net), stem, DilationRule::AfterStride));
    }
    if !tensors.any(&format!("{TIMM}conv_stem.")) {
        return Err(unsupported());
    }
    let net = timm::infer_mobilenet(tensors, TIMM).map_err(|_| unsupported())?;
    Ok((net, format!("{TIMM}conv_stem.weight"), DilationRule::AfterStride))
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
