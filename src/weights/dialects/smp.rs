//! segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus with ResNet and its variants,
//! MobileNetV2, or an encoder of timm (`tu-`).

use super::torch::{self, Layer, layer};
use super::{Dialect, Tensors, encoders, resnet, timm};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::mobilenet_v2::MobileNetV2;
use crate::models::{Backbone, Config, ConvKind, Decoder, DilationRule, Head, PlusDecoder};

/// The dialect of SMP.
pub struct Smp;

/// Prefix of the encoders that SMP takes from timm. They dilate by timm's rule.
const TIMM: &str = "encoder.model.";

/// SMP's own ResNets and their variants.
const OWN_RESNETS: [&str; 16] = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_32x16d",
    "resnext101_32x32d",
    "resnext101_32x48d",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
];

/// timm's ResNets and their variants, as far as their names are those of this crate.
const TIMM_RESNETS: [&str; 19] = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_32x16d",
    "resnext101_32x32d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "seresnet18",
    "seresnet34",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "seresnext50_32x4d",
];

/// timm's MobileNetV2, by width.
const TIMM_MOBILENET_V2: [(f64, &str); 5] = [
    (0.35, "mobilenetv2_035"),
    (0.5, "mobilenetv2_050"),
    (0.75, "mobilenetv2_075"),
    (1.0, "mobilenetv2_100"),
    (1.4, "mobilenetv2_140"),
];

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

    fn encoder(&self, mut bare: Config) -> Option<Config> {
        if let Backbone::MobileNetV2(net) = &bare.backbone
            && *net == MobileNetV2::with_width(1.0, 8)
        {
            bare.backbone = Backbone::MobileNetV2(own_mobilenet_v2());
        }
        // SMP's own encoders first, which are those of the plain names.
        bare.dilation = DilationRule::WholeStage;
        if encoder_name(&bare).is_none() {
            bare.dilation = DilationRule::AfterStride;
        }
        encoder_name(&bare).is_some().then_some(bare)
    }

    fn has_separable_aspp(&self) -> bool {
        true
    }

    fn constructor(&self, config: &Config) -> Option<String> {
        let head = config.head.as_ref()?;
        let encoder = encoder_name(config)?;
        let channels = head.aspp.channels;
        let arch = match &head.decoder {
            Decoder::Plus(plus) if (plus.low_level_channels, plus.channels) == (48, channels) => {
                "DeepLabV3Plus"
            }
            Decoder::Conv => "DeepLabV3",
            _ => return None,
        };
        if !matches!(config.output_stride, 8 | 16) {
            return None;
        }
        let rates: Vec<String> = head.aspp.rates.iter().map(usize::to_string).collect();
        let separable = if head.aspp.kind == ConvKind::Separable { "True" } else { "False" };
        let width = match channels {
            256 => String::new(),
            channels => format!("decoder_channels={channels}, "),
        };
        Some(format!(
            "smp.{arch}({encoder:?}, encoder_weights=None, in_channels={}, classes={}, {width}encoder_output_stride={}, decoder_atrous_rates=({}), decoder_aspp_separable={separable})",
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

/// SMP's own MobileNetV2, whose features are the output of the last 1x1 layer.
fn own_mobilenet_v2() -> MobileNetV2 {
    let net = MobileNetV2::with_width(1.0, 8);
    MobileNetV2 { last: Some(1280), last_is_features: true, ..net }
}

/// Returns SMP's name of the encoder of a network. `None` if SMP has none like it.
fn encoder_name(config: &Config) -> Option<String> {
    let is = |name: &str| Backbone::named(name).is_ok_and(|known| known == config.backbone);
    if config.dilation == DilationRule::WholeStage {
        return match &config.backbone {
            Backbone::MobileNetV2(net) => {
                (*net == own_mobilenet_v2()).then(|| "mobilenet_v2".to_owned())
            }
            _ => OWN_RESNETS.into_iter().find(|name| is(name)).map(str::to_owned),
        };
    }
    if config.dilation != DilationRule::AfterStride {
        return None;
    }
    let name = match &config.backbone {
        Backbone::MobileNetV2(net) => TIMM_MOBILENET_V2
            .into_iter()
            .find(|(width, _)| *net == MobileNetV2::with_width(*width, 8))
            .map(|(_, name)| name),
        Backbone::MobileNetV3(_) => Some("mobilenetv3_large_100"),
        _ => TIMM_RESNETS.into_iter().find(|name| is(name)).or_else(|| {
            let deep = ["resnet50c", "resnet101c", "resnet152c"];
            deep.into_iter().find(|name| is(&name.replace('c', "_v1c")))
        }),
    };
    name.map(|name| format!("tu-{name}"))
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
