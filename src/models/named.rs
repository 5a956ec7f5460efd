//! Backbones by name, and the networks of the paper's tables on them.

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
    /// What [`Backbone::named`] takes.
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

    /// The backbone of a name: one of [`Backbone::NAMES`], or `mobilenet_v2_W` with a width
    /// multiplier such as `mobilenet_v2_0.5`.
    ///
    /// # Errors
    /// Where the name is not known, with those that are.
    pub fn named(name: &str) -> Result<Self> {
        let depth = |prefix: &str| name.strip_prefix(prefix).and_then(|d| d.parse().ok());
        let known = match name {
            "mobilenet_v2" => Some(Backbone::MobileNetV2(MobileNetV2::with_width(1.0, 8))),
            "mobilenet_v3" => Some(Backbone::MobileNetV3(MobileNetV3 {})),
            "resnet50_beta" | "resnet101_beta" => {
                let depth = if name.contains("101") { 101 } else { 50 };
                Some(Backbone::ResNet(ResNet { depth, stem: Stem::Beta, strided: Strided::Last }))
            }
            _ => None,
        };
        let width = || {
            name.strip_prefix("mobilenet_v2_")?.parse().ok().filter(|w| (0.05..=4.0).contains(w))
        };
        let mobile = || width().map(|w| Backbone::MobileNetV2(MobileNetV2::with_width(w, 8)));
        let resnet = || ResNet::new(depth("resnet")?).ok().map(Backbone::ResNet);
        let xception = || Xception::new(depth("xception")?).ok().map(Backbone::Xception);
        known.or_else(mobile).or_else(resnet).or_else(xception).ok_or_else(|| {
            error!(Usage, "no backbone is called `{name}`").advice(format!(
                "known are {}, and mobilenet_v2_W with a width W such as 0.5",
                Self::NAMES.join(", ")
            ))
        })
    }
}

/// The heads that the paper compares (arXiv 1802.02611, tables 3, 5 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperHead {
    /// DeepLabv3: ASPP, a classifier, one upsampling.
    NoDecoder,
    /// DeepLabv3+ with plain 3x3 convolutions.
    Decoder,
    /// DeepLabv3+ with separable convolutions in ASPP and decoder.
    Separable,
    /// Image features and one 1x1 convolution, for MobileNetV2 (section 4 of MobileNetV2's paper,
    /// and TensorFlow's code).
    Phone,
}

impl Config {
    /// A network of the paper with the conventions of the code that trained it, at output stride
    /// 16.
    ///
    /// # Errors
    /// Where the backbone cannot have the head.
    pub fn paper(backbone: Backbone, head: PaperHead, classes: usize) -> Result<Self> {
        let beta = matches!(&backbone, Backbone::ResNet(net) if net.stem == Stem::Beta);
        let tap = if matches!(backbone, Backbone::MobileNetV3(_)) {
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
        let parts = config.head.as_mut().expect("invariant: deeplab_v3plus has a head");
        parts.align_corners = true;
        parts.aspp.pool_first = true;
        parts.aspp.kind = kind;
        if head == PaperHead::Phone {
            parts.aspp.rates.clear();
        }
        parts.decoder = match head {
            PaperHead::NoDecoder | PaperHead::Phone => Decoder::None,
            PaperHead::Decoder | PaperHead::Separable => Decoder::Plus(PlusDecoder {
                low_level: tap,
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
