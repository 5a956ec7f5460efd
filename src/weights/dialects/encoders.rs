//! Names of well-known encoders that are not supported, recognized from their tensors, so that the
//! refusal of a file says what it has.

use super::Tensors;
use crate::text::excerpt;

/// The encoders that the dialects of PyTorch support.
const SUPPORTED: &str = "ResNet-18, -34, -50, -101, -152, ResNeXt, Wide-ResNet, SE-ResNet, \
     SE-ResNeXt, MobileNetV2 and MobileNetV3-Large";

/// A family of encoders.
struct Family {
    /// Part of a tensor name that only this family has, at the start of a component.
    marker: &'static str,
    /// Returns the name of the encoder whose names begin with a prefix.
    name: fn(&Tensors, &str) -> String,
}

/// Families with a name that does not depend on more tensors.
macro_rules! families {
    ($($marker:literal => $name:expr,)*) => {
        [$(Family { marker: $marker, name: $name },)*]
    };
}

/// In the order of recognition: a marker of an earlier family can contain one of a later.
static FAMILIES: [Family; 27] = families! {
    "_blocks.0._depthwise_conv." => efficientnet,
    "blocks.0.0.conv_pw." => timm_mobile,
    "blocks.0.0.conv_dw." => timm_mobile,
    "features.denseblock1.denselayer1." => densenet,
    "denseblock1.denselayer1." => densenet,
    "layers.0.blocks.0.attn.relative_position_bias_table" => |_, _| "Swin".to_owned(),
    "layers_0.blocks.0.attn.relative_position_bias_table" => |_, _| "Swin".to_owned(),
    "stages.0.blocks.0.attn.w_msa." => |_, _| "Swin".to_owned(),
    "patch_embed1.proj." => |_, _| "a Mix Transformer (SegFormer's mit)".to_owned(),
    "blocks.0.attn.qkv." => |_, _| "a vision transformer".to_owned(),
    "stages_0.blocks.0.conv_dw." => |_, _| "ConvNeXt".to_owned(),
    "stages.0.blocks.0.conv_dw." => |_, _| "ConvNeXt".to_owned(),
    "stages.0.0.dwconv." => |_, _| "ConvNeXt".to_owned(),
    "stage2.0.branches." => |_, _| "HRNet".to_owned(),
    "s1.b1.conv1." => |_, _| "RegNet".to_owned(),
    "layer1.0.convs.0." => |_, _| "Res2Net".to_owned(),
    "layer1.0.conv2.fc1." => |_, _| "ResNeSt".to_owned(),
    "layer1.0.conv1.paths." => |_, _| "SK-ResNet".to_owned(),
    "layer0.conv3." => |_, _| "senet154".to_owned(),
    "stages_0.0.conv1_kxk." => |_, _| "GERNet".to_owned(),
    "stage1.0.rbr_" => |_, _| "MobileOne".to_owned(),
    "block1.rep.0.conv1." => |_, _| "Xception".to_owned(),
    "mixed_5b.branch0." => |_, _| "Inception-ResNet-v2".to_owned(),
    "features.0.conv." => |_, _| "Inception-v4".to_owned(),
    "features.conv2_1." => |_, _| "a dual path network (dpn)".to_owned(),
    "layer1.1.attn." => |_, _| "a ResNet with attention".to_owned(),
    "features.0.weight" => vgg,
};

/// Returns the name of an encoder whose tensors a file has. `None` if no known one is among them.
pub(super) fn recognize(tensors: &Tensors) -> Option<String> {
    FAMILIES.iter().find_map(|family| {
        let prefix = tensors.iter().find_map(|(name, _)| {
            let start = name.find(family.marker)?;
            let prefix = &name[..start];
            (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
        })?;
        Some((family.name)(tensors, prefix))
    })
}

/// Returns the name of the encoder whose names begin with `prefix`, if it is one of those that are
/// not supported.
pub(super) fn recognize_at(tensors: &Tensors, prefix: &str) -> Option<String> {
    let family = FAMILIES.iter().find(|f| tensors.any(&format!("{prefix}{}", f.marker)))?;
    Some((family.name)(tensors, prefix))
}

/// Returns the advice for a file with an encoder that is not supported.
pub(super) fn advice(tensors: &Tensors) -> String {
    recognize(tensors)
        .map_or_else(|| format!("supported are {SUPPORTED}"), |name| looks_like(&name))
}

/// Returns the advice for a file with an unsupported encoder of this name.
pub(super) fn looks_like(found: &str) -> String {
    format!("the encoder looks like {}; supported are {SUPPORTED}", excerpt(found))
}

/// EfficientNet with its authors' names: its number of blocks and last channels determine the size.
fn efficientnet(tensors: &Tensors, prefix: &str) -> String {
    let blocks = tensors.count(&format!("{prefix}_blocks."));
    let last = format!("{prefix}_blocks.{}._project_conv.weight", blocks.saturating_sub(1));
    sized_efficientnet(blocks, tensors.dim(&last, 0).unwrap_or(0))
}

fn sized_efficientnet(blocks: usize, channels: usize) -> String {
    const SIZES: [(usize, usize); 8] =
        [(16, 320), (23, 320), (23, 352), (26, 384), (32, 448), (39, 512), (45, 576), (55, 640)];
    match SIZES.iter().position(|&size| size == (blocks, channels)) {
        Some(size) => format!("efficientnet-b{size}"),
        None => "an EfficientNet".to_owned(),
    }
}

/// The mobile networks of timm, which share their names.
fn timm_mobile(tensors: &Tensors, prefix: &str) -> String {
    let stages = tensors.count(&format!("{prefix}blocks."));
    let blocks = |stage: usize| tensors.count(&format!("{prefix}blocks.{stage}."));
    let total: usize = (0..stages.min(16)).map(blocks).sum();
    let last = stages.saturating_sub(1);
    let channels = |conv: &str| {
        let name =
            format!("{prefix}blocks.{last}.{}.{conv}.weight", blocks(last).saturating_sub(1));
        tensors.dim(&name, 0)
    };
    match channels("conv_pwl") {
        Some(channels) => sized_efficientnet(total, channels),
        None => "another mobile network of timm, such as mobilenetv3_small or lcnet".to_owned(),
    }
}

fn densenet(tensors: &Tensors, prefix: &str) -> String {
    // `count` reads numbers, and the names of the layers end in one.
    let layers = |block: usize| {
        let names =
            [format!("{prefix}features.denseblock{block}."), format!("{prefix}denseblock{block}.")];
        let is_layer = |name: &str| {
            names.iter().any(|p| name.starts_with(p.as_str())) && name.ends_with(".conv1.weight")
        };
        tensors.iter().filter(|(name, _)| is_layer(name)).count()
    };
    match [1, 2, 3, 4].map(layers) {
        [6, 12, 24, 16] => "densenet121".to_owned(),
        [6, 12, 32, 32] => "densenet169".to_owned(),
        [6, 12, 48, 32] => "densenet201".to_owned(),
        [6, 12, 36, 24] => "densenet161".to_owned(),
        _ => "a DenseNet".to_owned(),
    }
}

/// VGG: a sequence of convolutions with biases, the first from the image to 64 channels.
fn vgg(tensors: &Tensors, prefix: &str) -> String {
    let features = format!("{prefix}features.");
    let convolutions = tensors
        .iter()
        .filter(|(name, dims)| name.starts_with(&features) && dims.len() == 4)
        .count();
    let norm = if tensors.any(&format!("{features}1.running_mean")) { "_bn" } else { "" };
    match convolutions {
        8 => format!("vgg11{norm}"),
        10 => format!("vgg13{norm}"),
        13 => format!("vgg16{norm}"),
        16 => format!("vgg19{norm}"),
        _ => "a plain sequence of convolutions, such as VGG".to_owned(),
    }
}
