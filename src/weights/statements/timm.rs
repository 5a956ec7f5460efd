//! The `config.json` of timm's backbones, and names of its networks.

use super::Statements;
use super::library::{Fields, Problem, Stated, contradiction, elsewhere, refused};
use crate::models::mobilenet_v2::MobileNetV2;
use crate::models::{Backbone, Config, PaddingRule};
use crate::text::excerpt;

const ADVICE: &str = "resnet18 to resnet152, resnext, wide_resnet, seresnet, mobilenetv2_050 to _140, mobilenetv3_large_100, tf_mobilenetv3_large_100, xception41, 65 and 71 are supported";

/// Arguments of a network that do not change what its features are.
const HARMLESS: [&str; 8] = [
    "in_chans",
    "num_classes",
    "global_pool",
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "output_stride",
    "zero_init_last",
];

/// Returns why a network that has the tensors of a familiar one computes something else.
pub(super) fn other_arithmetic(name: &str) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["resnetblur"]) {
        Some("it blurs features before it strides (BlurPool), which a ResNet does not")
    } else if starts(&["resnetaa"]) {
        Some("it averages features where a ResNet strides (anti-aliasing)")
    } else if starts(&["tf_mobilenetv3"]) {
        Some("its convolutions are padded as TensorFlow's")
    } else if name.ends_with("_gn") {
        Some("it has group norms")
    } else {
        None
    }
}

/// Returns the ResNet, ResNeXt, Wide-ResNet or SE-ResNet of a name, with the plain stem.
pub(super) fn resnet(name: &str) -> Option<Backbone> {
    let has_other_stem = ["_beta", "_v1c"].iter().any(|stem| name.ends_with(stem));
    let backbone = Backbone::named(name).ok().filter(|_| !has_other_stem)?;
    matches!(backbone, Backbone::ResNet(_)).then_some(backbone)
}

/// Returns the backbone of a name that other libraries use as an encoder.
pub(super) fn encoder(name: &str) -> Option<Backbone> {
    Known::named(name)?.backbone()
}

/// A network of timm that this crate computes.
enum Known {
    ResNet(Backbone),
    MobileNetV2(MobileNetV2),
    MobileNetV3 {
        /// Whether the weights are from TensorFlow: padding, and eps of the batch norms.
        tensorflow: bool,
    },
    Xception(usize),
}

impl Known {
    fn named(architecture: &str) -> Option<Self> {
        // The tag after the name identifies the weights, not the network.
        let name = architecture.split('.').next()?;
        let number = |digits: &str| digits.parse::<usize>().ok();
        if let Some(width) = name.strip_prefix("mobilenetv2_") {
            let width = number(width).filter(|w| [35, 50, 75, 100, 140].contains(w))?;
            return Some(Self::MobileNetV2(MobileNetV2::with_width(width as f64 / 100.0, 8)));
        }
        if let Some(depth) = name.strip_prefix("xception") {
            return number(depth).filter(|d| [41, 65, 71].contains(d)).map(Self::Xception);
        }
        let name = match name {
            "mobilenetv3_large_100" => return Some(Self::MobileNetV3 { tensorflow: false }),
            "tf_mobilenetv3_large_100" => return Some(Self::MobileNetV3 { tensorflow: true }),
            name => ["tv_", "gluon_", "ssl_", "swsl_"]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix))
                .unwrap_or(name),
        };
        let name = name.strip_suffix("_v1b").unwrap_or(name);
        // Its stem is three convolutions of 3x3.
        if let Some(plain) = name.strip_suffix('c').filter(|plain| resnet(plain).is_some()) {
            return Backbone::named(&format!("{plain}_v1c")).ok().map(Self::ResNet);
        }
        resnet(name).map(Self::ResNet)
    }

    fn backbone(self) -> Option<Backbone> {
        match self {
            Self::ResNet(backbone) => Some(backbone),
            Self::MobileNetV2(net) => Some(Backbone::MobileNetV2(net)),
            Self::MobileNetV3 { tensorflow: false } => Backbone::named("mobilenet_v3").ok(),
            Self::MobileNetV3 { tensorflow: true } | Self::Xception(_) => None,
        }
    }

    fn fits(&self, backbone: &Backbone) -> bool {
        match (self, backbone) {
            (Self::ResNet(known), Backbone::ResNet(_)) => known.title() == backbone.title(),
            (Self::MobileNetV2(known), Backbone::MobileNetV2(net)) => {
                net.channels == known.channels
            }
            (Self::MobileNetV3 { .. }, Backbone::MobileNetV3(_)) => true,
            (Self::Xception(depth), Backbone::Xception(net)) => net.depth == *depth,
            _ => false,
        }
    }
}

pub(super) fn check_supported(fields: Fields) -> Result<(), Problem> {
    let name = fields.text("architecture")?.unwrap_or_default();
    if Known::named(name).is_none() {
        let reason = other_arithmetic(name).map_or(String::new(), |reason| format!(": {reason}"));
        return Err(refused(
            format!("the network `{}` is not supported{reason}", excerpt(name)),
            elsewhere(ADVICE),
        ));
    }
    let arguments = fields.object("model_args")?;
    let other = arguments.and_then(|arguments| {
        arguments
            .0
            .iter()
            .find(|(key, value)| !HARMLESS.contains(&key.as_str()) && !value.is_null())
    });
    match other {
        Some((key, value)) => Err(refused(
            format!(
                "the network `{}` was built with `{}` {}, which may change what it computes",
                excerpt(name),
                excerpt(key),
                excerpt(&value.to_string())
            ),
            elsewhere("networks with timm's own arguments are supported"),
        )),
        None => Ok(()),
    }
}

pub(super) fn read(fields: Fields, inferred: &Config) -> Result<Stated, Problem> {
    let name = fields.text("architecture")?.unwrap_or_default();
    let known = Known::named(name).filter(|known| known.fits(&inferred.backbone));
    let Some(known) = known else {
        let actual = inferred.backbone.title();
        return Err(contradiction("`architecture`", name, actual).into());
    };
    // Configs of early versions have its fields at the top.
    let pretrained = fields.object("pretrained_cfg")?.unwrap_or(fields);
    let preprocess = match inferred.input_channels {
        3 => pretrained.normalization("mean", "std", 1.0)?,
        _ => None,
    };
    let mut stated = Stated {
        statements: Statements { preprocess, ..Statements::default() },
        ..Stated::default()
    };
    if let Known::MobileNetV3 { tensorflow: true } = known {
        stated.statements.padding = Some(PaddingRule::TfSame);
        stated.eps = Some(1e-3);
    }
    Ok(stated)
}
