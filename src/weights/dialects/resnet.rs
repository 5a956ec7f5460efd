//! Names of torchvision's ResNets and of their variants in timm and SMP.

use super::Tensors;
use super::encoders;
use super::torch::{Layer, layer};
use crate::error::{Result, error};
use crate::models::resnet::{ResNet, Stem, Strided};

/// Channels after the three convolutions of the v1c stem.
const V1C: [usize; 3] = [32, 32, 64];

/// Renames a layer of a ResNet below `prefix`. `path` is relative to the native backbone.
pub(super) fn layer_name(net: &ResNet, prefix: &str, path: &str) -> Option<Layer> {
    if net.strided != Strided::First {
        return None;
    }
    if let Some(conv) = path.strip_prefix("stem.") {
        return stem(net, prefix, conv);
    }
    let (unit, last) = path.rsplit_once('.')?;
    if let Some(unit) = unit.strip_suffix(".se") {
        let module = if net.unpadded_pool { "se_module" } else { "se" };
        return Some(layer(&format!("{prefix}{unit}.{module}."), last, ""));
    }
    let prefix = format!("{prefix}{unit}.");
    match last.strip_prefix("conv") {
        Some(number) => Some(layer(&prefix, last, &format!("bn{number}"))),
        None if last == "downsample" => Some(layer(&prefix, "downsample.0", "downsample.1")),
        None => None,
    }
}

fn stem(net: &ResNet, prefix: &str, conv: &str) -> Option<Layer> {
    match (net.stem, conv) {
        // SENet's own names.
        (Stem::Single, "conv1") if net.unpadded_pool => {
            Some(layer(&format!("{prefix}layer0."), "conv1", "bn1"))
        }
        (Stem::Single, "conv1") => Some(layer(prefix, "conv1", "bn1")),
        (Stem::V1c, "conv1") => Some(layer(prefix, "conv1.0", "conv1.1")),
        (Stem::V1c, "conv2") => Some(layer(prefix, "conv1.3", "conv1.4")),
        (Stem::V1c, "conv3") => Some(layer(prefix, "conv1.6", "bn1")),
        _ => None,
    }
}

/// Returns the name of the kernel of the first convolution.
pub(super) fn stem_kernel(net: &ResNet, prefix: &str) -> String {
    stem(net, prefix, "conv1").map_or(String::new(), |(conv, _)| conv + ".weight")
}

/// Infers the ResNet that is stored at `prefix`.
pub(super) fn infer(tensors: &Tensors, prefix: &str) -> Result<ResNet> {
    if let Some(found) = encoders::recognize_at(tensors, prefix) {
        return Err(unsupported(tensors, &found));
    }
    let shortcut = tensors.dims(&format!("{prefix}layer1.0.downsample.1.weight"));
    if shortcut.is_some_and(|dims| dims.len() == 4) {
        return Err(unsupported(tensors, "ResNet-D, whose shortcuts are average pooled"));
    }
    let net = units(tensors, prefix)?;
    let has = |name: &str| tensors.has(&format!("{prefix}{name}"));
    let stem_channels =
        |i: usize| tensors.dim(&format!("{prefix}conv1.{}.weight", 3 * i), 0).unwrap_or(V1C[i]);
    let three = has("conv1.0.weight");
    if three && [0, 1, 2].map(stem_channels) != V1C {
        return Err(unsupported(tensors, "a ResNet with another stem of three convolutions"));
    }
    let mut net = ResNet { stem: if three { Stem::V1c } else { Stem::Single }, ..net };
    net.squeeze_excite = has("layer1.0.se.fc1.weight");
    Ok(if has("layer1.0.se_module.fc1.weight") { net.with_caffe_squeeze_excite() } else { net })
}

/// Infers depth and width from the residual units below `prefix`.
pub(super) fn units(tensors: &Tensors, prefix: &str) -> Result<ResNet> {
    let units = [1, 2, 3, 4].map(|stage| tensors.count(&format!("{prefix}layer{stage}.")));
    let bottleneck = tensors.has(&format!("{prefix}layer1.0.conv3.weight"));
    let known = [18, 34, 50, 101, 152].into_iter().filter_map(|depth| ResNet::new(depth).ok());
    let net = known
        .into_iter()
        .find(|net| net.units() == units && net.bottleneck() == bottleneck)
        .ok_or_else(|| {
            unsupported(tensors, &format!("a ResNet with {units:?} units in its stages"))
        })?;
    let second = tensors.dims(&format!("{prefix}layer1.0.conv2.weight"));
    match second {
        Some(&[width, group_width, ..]) if bottleneck && group_width > 0 => {
            Ok(ResNet { groups: width / group_width, group_width, ..net })
        }
        _ => Ok(net),
    }
}

fn unsupported(tensors: &Tensors, found: &str) -> crate::Error {
    let found = encoders::recognize(tensors).unwrap_or_else(|| found.to_owned());
    error!(Weights, "unsupported encoder").advice(encoders::looks_like(&found))
}
