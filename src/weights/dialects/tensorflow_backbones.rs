//! Xception and ResNet in TensorFlow checkpoints: detection, and the names of their layers.

use super::Tensors;
use crate::models::resnet::{ResNet, Stem, Strided};
use crate::models::xception::Xception;
use crate::models::{Backbone, PaddingRule};

/// Detects the backbone by its scope.
pub(super) fn find(tensors: &Tensors) -> Option<Backbone> {
    let xception = [41, 65, 71].into_iter().find_map(|depth| {
        let net = Xception::new(depth).ok()?;
        tensors.any(&format!("{}/", xception_scope(&net))).then_some(Backbone::Xception(net))
    });
    xception.or_else(|| {
        [50, 101, 152].into_iter().find_map(|depth| {
            let net = ResNet { strided: Strided::Last, ..ResNet::new(depth).ok()? };
            let scope = resnet_scope(&net);
            let stem =
                if tensors.any(&format!("{scope}/conv1/")) { Stem::Single } else { Stem::Beta };
            tensors.any(&format!("{scope}/")).then_some(Backbone::ResNet(ResNet { stem, ..net }))
        })
    })
}

/// Returns the scope of the first convolution.
pub(super) fn stem(backbone: &Backbone) -> Option<String> {
    layer(backbone, "stem.conv1")
}

/// Returns the padding rule. Both backbones pad strided 3x3 convolutions by the same amount on all
/// sides; ResNet's pooling uses `SAME`.
pub(super) fn padding(backbone: &Backbone) -> PaddingRule {
    if matches!(backbone, Backbone::Xception(_)) {
        PaddingRule::Symmetric
    } else {
        PaddingRule::TfSame
    }
}

/// Returns the batch norm eps. `min_eps` is the minimum of TensorFlow's fused batch norm.
pub(super) fn eps(backbone: &Backbone, min_eps: f32) -> f32 {
    if matches!(backbone, Backbone::ResNet(_)) { min_eps } else { 1e-3 }
}

/// Returns whether a tensor belongs to the backbone's ImageNet classifier.
pub(super) fn is_classifier(name: &str) -> bool {
    let inner = name
        .split_once('/')
        .filter(|(scope, _)| scope.starts_with("xception_") || scope.starts_with("resnet_v1_"));
    inner.is_some_and(|(_, rest)| rest.starts_with("logits/"))
}

/// Returns the scope of the layer with the native name `backbone.PATH`.
pub(super) fn layer(backbone: &Backbone, path: &str) -> Option<String> {
    match backbone {
        Backbone::Xception(net) => {
            Some(format!("{}/{}", xception_scope(net), xception_layer(path)?))
        }
        Backbone::ResNet(net) if net.bottleneck() => {
            Some(format!("{}/{}", resnet_scope(net), resnet_layer(net, path)?))
        }
        _ => None,
    }
}

fn xception_scope(net: &Xception) -> String {
    format!("xception_{}", net.depth)
}

fn resnet_scope(net: &ResNet) -> String {
    format!("resnet_v1_{}", net.depth)
}

/// `entry2.conv1.depthwise` ->
/// `entry_flow/block2/unit_1/xception_module/separable_conv1_depthwise`.
fn xception_layer(path: &str) -> Option<String> {
    if let Some(number) = path.strip_prefix("stem.conv") {
        return Some(format!("entry_flow/conv1_{number}"));
    }
    let (unit, inner) = path.split_once('.')?;
    let block = match (
        unit.strip_prefix("entry"),
        unit.strip_prefix("middle"),
        unit.strip_prefix("exit"),
    ) {
        (Some(i), ..) => format!("entry_flow/block{i}/unit_1"),
        (_, Some(i), _) => format!("middle_flow/block1/unit_{i}"),
        (.., Some(i)) => format!("exit_flow/block{i}/unit_1"),
        _ => return None,
    };
    let inner = match inner.split_once('.') {
        Some((conv, kind)) => format!("separable_{conv}_{kind}"),
        None => inner.to_owned(),
    };
    Some(format!("{block}/xception_module/{inner}"))
}

/// `layer1.0.downsample` -> `block1/unit_1/bottleneck_v1/shortcut`.
fn resnet_layer(net: &ResNet, path: &str) -> Option<String> {
    if let Some(number) = path.strip_prefix("stem.conv") {
        return Some(if net.stem == Stem::Single {
            "conv1".to_owned()
        } else {
            format!("conv1_{number}")
        });
    }
    let (stage, rest) = path.strip_prefix("layer")?.split_once('.')?;
    let (unit, inner) = rest.split_once('.')?;
    let inner = if inner == "downsample" { "shortcut" } else { inner };
    Some(format!("block{stage}/unit_{}/bottleneck_v1/{inner}", unit.parse::<usize>().ok()? + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_names_of_the_checkpoints() {
        let xception = Backbone::Xception(Xception::new(65).unwrap());
        let beta = ResNet { stem: Stem::Beta, strided: Strided::Last, ..ResNet::new(101).unwrap() };
        let beta = Backbone::ResNet(beta);
        for (backbone, path, name) in [
            (&xception, "stem.conv2", "xception_65/entry_flow/conv1_2"),
            (
                &xception,
                "entry2.conv1.depthwise",
                "xception_65/entry_flow/block2/unit_1/xception_module/separable_conv1_depthwise",
            ),
            (
                &xception,
                "middle16.conv3.pointwise",
                "xception_65/middle_flow/block1/unit_16/xception_module/separable_conv3_pointwise",
            ),
            (
                &xception,
                "exit1.shortcut",
                "xception_65/exit_flow/block1/unit_1/xception_module/shortcut",
            ),
            (&beta, "stem.conv3", "resnet_v1_101/conv1_3"),
            (&beta, "layer3.22.conv2", "resnet_v1_101/block3/unit_23/bottleneck_v1/conv2"),
            (&beta, "layer1.0.downsample", "resnet_v1_101/block1/unit_1/bottleneck_v1/shortcut"),
        ] {
            assert_eq!(layer(backbone, path).as_deref(), Some(name));
        }
        assert_eq!(layer(&xception, "layer1.0.conv1"), None);
        assert_eq!(
            layer(&Backbone::resnet(18).unwrap(), "layer1.0.conv1"),
            None,
            "TensorFlow has no basic units"
        );
        assert!(
            is_classifier("xception_65/logits/weights")
                && !is_classifier("logits/semantic/weights")
        );
    }
}
