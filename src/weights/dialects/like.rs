//! Networks as a code base builds them, and which code bases can express a network.

use super::{DIALECTS, Dialect, KernelLayout, StoredWeights, Tensors, expected};
use crate::error::{Result, error};
use crate::models::{Aspp, Backbone, Config, ConvKind, Decoder, Head, LowLevel, PlusDecoder};

/// Returns the DeepLab of a code base on a backbone: DeepLabv3+, or DeepLabv3 if `plus` is false.
/// Dilation, padding, rates, eps, corner alignment, preprocessing and the structure of the head are
/// those that [`Dialect::infer`] states for the names and dimensions of such a network. `separable`
/// chooses the variant with separable convolutions in the ASPP, if the code base has both.
///
/// # Errors
/// Returns an error if this dialect has no such network; it names those that do.
pub fn like(
    dialect: &dyn Dialect,
    backbone: &Backbone,
    plus: bool,
    separable: bool,
    classes: usize,
) -> Result<Config> {
    find(dialect, backbone, plus, separable, classes).ok_or_else(|| {
        let name = if plus { "DeepLabv3+" } else { "DeepLabv3" };
        let others: Vec<&str> = DIALECTS
            .iter()
            .filter(|other| find(**other, backbone, plus, separable, classes).is_some())
            .map(|other| other.name())
            .collect();
        let error = error!(
            Config,
            "the code base of dialect `{dialect}` has no {name} with {}",
            backbone.title()
        );
        if others.is_empty() {
            error.advice("leave out the code base: `atrous` has every combination")
        } else {
            error.advice(format!("these have one: {}", others.join(", ")))
        }
    })
}

fn find(
    dialect: &dyn Dialect,
    backbone: &Backbone,
    plus: bool,
    separable: bool,
    classes: usize,
) -> Option<Config> {
    let layout = dialect.layout(&Tensors::default());
    if layout == KernelLayout::Native {
        return None;
    }
    let encoder = dialect.encoder(Config::bare(backbone.clone()))?;
    let inside_unit = backbone.family().low_level_inside_unit;
    let separable = separable && dialect.has_separable_aspp();
    heads(plus, inside_unit, separable, classes).find_map(|head| {
        let draft = Config { head: Some(head), output_stride: 16, ..encoder.clone() };
        let names = names(dialect, &draft, layout)?;
        let tensors = names.into_iter().map(|(name, dims)| (name, dims, Vec::new()));
        let stored = StoredWeights { tensors: tensors.collect(), ..StoredWeights::default() };
        let tensors = Tensors::of(&stored);
        if !dialect.detect(&tensors) {
            return None;
        }
        let config = dialect.infer(&tensors).ok()?;
        // The structure must be that of the draft: the same tensors, no more and no less.
        let is_same = config.backbone.title() == backbone.title()
            && names_of(&stored) == self::names(dialect, &config, layout)?;
        is_same.then_some(config)
    })
}

/// The structures of heads among which each code base has one, those of the preferred kind first.
fn heads(
    plus: bool,
    inside_unit: bool,
    separable: bool,
    classes: usize,
) -> impl Iterator<Item = Head> {
    let mut kinds = [ConvKind::Plain, ConvKind::Separable, ConvKind::SeparableNorm];
    if separable {
        kinds.rotate_left(1);
    }
    let decoders = move |kind| {
        if !plus {
            return vec![Decoder::Conv, Decoder::None];
        }
        let mut decoders = Vec::new();
        for low_level in
            [LowLevel::Stage, LowLevel::InsideUnit].into_iter().take(1 + usize::from(inside_unit))
        {
            for convolutions in [1, 2] {
                let dropouts = vec![0.0; convolutions];
                let plus = PlusDecoder { low_level, kind, dropouts, ..PlusDecoder::default() };
                decoders.push(Decoder::Plus(plus));
            }
        }
        decoders
    };
    let mut heads = Vec::new();
    for aspp_kind in kinds {
        for decoder in kinds.into_iter().flat_map(decoders) {
            for separable_after in [false, true] {
                let aspp = Aspp { kind: aspp_kind, separable_after, ..Aspp::default() };
                heads.push(Head::new(classes, aspp, decoder.clone(), false));
            }
        }
    }
    heads.into_iter()
}

/// Names and dimensions of a network's tensors in a dialect, `None` if it lacks a layer.
fn names(
    dialect: &dyn Dialect,
    config: &Config,
    layout: KernelLayout,
) -> Option<Vec<(String, Vec<usize>)>> {
    let expected = expected(dialect, config, layout).ok()?;
    let mut names: Vec<_> = expected.into_iter().map(|t| (t.name, t.dims)).collect();
    // The order of branches is a convention, not a structure.
    names.sort();
    Some(names)
}

fn names_of(stored: &StoredWeights) -> Vec<(String, Vec<usize>)> {
    stored.tensors.iter().map(|(name, dims, _)| (name.clone(), dims.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{find as named, store};
    use super::*;
    use crate::models::random_weights;

    #[test]
    fn networks_like_those_of_a_code_base_can_be_written_for_it() {
        for (dialect, backbone, plus) in [
            ("smp", "mobilenet_v2", true),
            ("smp", "resnet50", true),
            ("smp", "resnet18", false),
            ("torchvision", "resnet50", false),
            ("torchvision", "mobilenet_v3", false),
            ("vainf", "mobilenet_v2", true),
            ("vainf", "resnet101", false),
            ("jfzhang95", "resnet101", true),
            ("tensorflow", "xception65", true),
            ("tensorflow", "resnet50_beta", true),
        ] {
            let what = format!("{dialect} {backbone} {plus}");
            let dialect = named(dialect).unwrap();
            let backbone = Backbone::named(backbone).unwrap();
            let config =
                like(dialect, &backbone, plus, false, 6).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(config.classes(), Some(6), "{what}");
            let weights = random_weights(&config, 1).unwrap();
            store(&config, &weights, dialect).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }

    /// `--like smp` wrote the names of SMP's encoders from timm, for which the printed constructor
    /// was wrong; and MobileNetV2 with timm's names and SMP's last layer, which no encoder has.
    #[test]
    fn networks_like_smps_have_the_names_of_the_encoder_that_their_constructor_builds() {
        let smp = named("smp").unwrap();
        for (backbone, encoder, first) in [
            ("resnet18", "resnet18", "encoder.conv1.weight"),
            ("resnet50", "resnet50", "encoder.conv1.weight"),
            ("mobilenet_v2", "mobilenet_v2", "encoder.features.0.0.weight"),
            ("se_resnet50", "se_resnet50", "encoder.layer0.conv1.weight"),
            ("resnext50_32x4d", "resnext50_32x4d", "encoder.conv1.weight"),
            ("wide_resnet50_2", "tu-wide_resnet50_2", "encoder.model.conv1.weight"),
            ("seresnet50", "tu-seresnet50", "encoder.model.conv1.weight"),
            ("resnet50_v1c", "tu-resnet50c", "encoder.model.conv1.0.weight"),
            ("mobilenet_v2_0.5", "tu-mobilenetv2_050", "encoder.model.conv_stem.weight"),
            ("mobilenet_v3", "tu-mobilenetv3_large_100", "encoder.model.conv_stem.weight"),
        ] {
            let net = Backbone::named(backbone).unwrap();
            let config = like(smp, &net, true, true, 6).unwrap();
            let names = names(smp, &config, KernelLayout::Oihw).unwrap();
            assert!(names.iter().any(|(name, _)| name == first), "{backbone}");
            let code = smp.constructor(&config).unwrap();
            let expected = format!("smp.DeepLabV3Plus({encoder:?}, ");
            assert!(code.starts_with(&expected), "{backbone}: {code}");
            assert!(code.ends_with("decoder_aspp_separable=True)"), "{backbone}: {code}");
        }
        for unknown in ["mobilenet_v2_0.3", "resnet50_beta"] {
            assert!(like(smp, &Backbone::named(unknown).unwrap(), true, true, 6).is_err());
        }
    }

    #[test]
    fn a_code_base_without_the_network_names_those_that_have_it() {
        let backbone = Backbone::named("mobilenet_v2").unwrap();
        let torchvision = named("torchvision").unwrap();
        let error = like(torchvision, &backbone, true, false, 6).unwrap_err().to_string();
        assert!(error.contains("smp") && error.contains("vainf"), "{error}");
    }
}
