//! Backbones by name, and the networks in the tables of the paper.

use super::backbone::Backbone;
use super::config::{
    Config, ConvKind, Decoder, Eps, LowLevel, PaddingRule, PlusDecoder, Preprocessing,
};
use super::mobilenet_v2::MobileNetV2;
use super::mobilenet_v3::MobileNetV3;
use super::resnet::{ResNet, Stem, Strided};
use super::xception::Xception;
use crate::error::{Result, error};

impl Backbone {
    /// The names that [`Backbone::named`] accepts.
    pub const NAMES: [&'static str; 12] = [
        "mobilenet_v2",
        "mobilenet_v3",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnet50_beta",
        "resnet101_beta",
        "xception41",
        "xception65",
        "xception71",
    ];

    /// Returns the backbone of a name: one of [`Backbone::NAMES`], or `mobilenet_v2_W` with a width
    /// multiplier, such as `mobilenet_v2_0.5`.
    ///
    /// # Errors
    /// Returns an error that lists the known names if `name` is unknown.
    pub fn named(name: &str) -> Result<Self> {
        parse_name(name).ok_or_else(|| {
            error!(Usage, "unknown backbone `{name}`").advice(format!(
                "use one of {}, or mobilenet_v2_W with a width multiplier W such as 0.5",
                Self::NAMES.join(", ")
            ))
        })
    }
}

fn parse_name(name: &str) -> Option<Backbone> {
    match name {
        "mobilenet_v2" => {
            return Some(Backbone::MobileNetV2(MobileNetV2::with_width(1.0, 8)));
        }
        "mobilenet_v3" => return Some(Backbone::MobileNetV3(MobileNetV3 {})),
        "resnet50_beta" | "resnet101_beta" => {
            let depth = if name.contains("101") { 101 } else { 50 };
            let net = ResNet { depth, stem: Stem::Beta, strided: Strided::Last };
            return Some(Backbone::ResNet(net));
        }
        _ => {}
    }
    if let Some(width) = name.strip_prefix("mobilenet_v2_") {
        let width = width.parse().ok().filter(|w| (0.05..=4.0).contains(w))?;
        return Some(Backbone::MobileNetV2(MobileNetV2::with_width(width, 8)));
    }
    if let Some(depth) = name.strip_prefix("resnet") {
        return ResNet::new(depth.parse().ok()?).ok().map(Backbone::ResNet);
    }
    let depth = name.strip_prefix("xception")?.parse().ok()?;
    Xception::new(depth).ok().map(Backbone::Xception)
}

/// The heads compared in the paper (arXiv 1802.02611, tables 3, 5 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperHead {
    /// DeepLabv3: ASPP, classifier, upsampling.
    NoDecoder,
    /// DeepLabv3+ with plain 3x3 convolutions.
    Decoder,
    /// DeepLabv3+ with separable convolutions in ASPP and decoder.
    Separable,
    /// Image-level features and one 1x1 convolution, for mobile phones (MobileNetV2 paper, section
    /// 4, and TensorFlow's code).
    Phone,
}

impl Config {
    /// Creates a network of the paper with the conventions of its training code, at output stride
    /// 16.
    ///
    /// # Errors
    /// Returns an error if the backbone does not support the head.
    pub fn paper(backbone: Backbone, head: PaperHead, classes: usize) -> Result<Self> {
        let beta = matches!(&backbone, Backbone::ResNet(net) if net.stem == Stem::Beta);
        let low_level = if matches!(backbone, Backbone::MobileNetV3(_)) {
            LowLevel::Stage
        } else {
            LowLevel::TensorFlow
        };
        let mut config = Self::deeplab_v3plus(backbone, classes);
        config.padding = PaddingRule::TfSame;
        config.eps = Eps { backbone: 1e-3, head: 1e-5 };
        config.preprocess = Preprocessing::TENSORFLOW;
        if beta {
            config.multi_grid = vec![1, 2, 4];
        }
        let kind =
            if head == PaperHead::Separable { ConvKind::SeparableNorm } else { ConvKind::Plain };
        let head_config = config.head.as_mut().expect("invariant: deeplab_v3plus has a head");
        head_config.align_corners = true;
        head_config.aspp.pool_first = true;
        head_config.aspp.kind = kind;
        if head == PaperHead::Phone {
            head_config.aspp.rates.clear();
        }
        head_config.decoder = match head {
            PaperHead::NoDecoder | PaperHead::Phone => Decoder::None,
            PaperHead::Decoder | PaperHead::Separable => Decoder::Plus(PlusDecoder {
                low_level,
                low_level_channels: 48,
                channels: 256,
                kind,
                dropouts: vec![0.0; 2],
                low_level_first: false,
            }),
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::Backbone;

    #[test]
    fn every_name_is_a_backbone_and_others_are_refused_with_the_list() {
        for name in Backbone::NAMES {
            let title = Backbone::named(name).unwrap().title().to_lowercase().replace('-', "");
            let family = name.split('_').next().unwrap();
            assert!(title.starts_with(&family[..6]), "{name}: {title}");
        }
        assert_ne!(
            Backbone::named("mobilenet_v2_0.5").unwrap(),
            Backbone::named("mobilenet_v2").unwrap()
        );
        for name in
            ["", "resnet", "resnet51", "xception", "mobilenet_v2_0", "mobilenet_v2_nan", "vgg16"]
        {
            let error = Backbone::named(name).unwrap_err().to_string();
            assert!(error.contains("xception65"), "{name}: {error}");
        }
    }
}
