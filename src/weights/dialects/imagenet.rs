//! ImageNet classifiers with torchvision's names, which timm's ResNets share: bare backbones as
//! initial weights for training.

use super::torch;
use super::{Dialect, Tensors, resnet};
use crate::error::Result;
use crate::graph::Part;
use crate::models::mobilenet_v3::MobileNetV3;
use crate::models::{Backbone, Config, Eps};

/// The dialect of ImageNet classifiers.
pub struct ImageNet;

/// First kernels of ResNets: torchvision's, those with three convolutions, SENet's.
const RESNET_STEMS: [&str; 3] = ["conv1.weight", "conv1.0.weight", "layer0.conv1.weight"];
const MOBILENET_STEM: &str = "features.0.0.weight";

fn feature(number: usize) -> String {
    format!("features.{number}")
}

impl Dialect for ImageNet {
    fn name(&self) -> &'static str {
        "imagenet"
    }

    fn description(&self) -> &'static str {
        "ImageNet classifiers of torchvision and timm, without the classifier: ResNet, ResNeXt, Wide-ResNet, SE-ResNet, MobileNetV2, MobileNetV3-Large"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        RESNET_STEMS.iter().any(|stem| tensors.has(stem)) && tensors.any("layer1.0.")
            || tensors.any("features.1.")
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let v3 = tensors.any("features.1.block.");
        let (backbone, stem) = if v3 {
            (Backbone::MobileNetV3(MobileNetV3 {}), MOBILENET_STEM.to_owned())
        } else if tensors.any("features.") {
            let mut net = torch::infer_mobilenet_v2_features(tensors, feature)?;
            net.last_is_features = net.last.is_some();
            (Backbone::MobileNetV2(net), MOBILENET_STEM.to_owned())
        } else {
            let net = resnet::infer(tensors, "")?;
            (Backbone::ResNet(net), resnet::stem_kernel(&net, ""))
        };
        Ok(Config {
            input_channels: tensors.dim(&stem, 1).unwrap_or(3),
            eps: Eps { backbone: if v3 { 1e-3 } else { 1e-5 }, head: 1e-5 },
            ..Config::bare(backbone)
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let path = path.strip_prefix("backbone.")?;
        let layer = match &config.backbone {
            Backbone::ResNet(net) => resnet::layer_name(net, "", path),
            Backbone::MobileNetV2(_) => torch::mobilenet_v2(feature, path),
            Backbone::MobileNetV3(_) => super::torchvision::mobilenet_v3("features.", path),
            _ => None,
        };
        layer.map(|layer| torch::name(layer, part))
    }

    fn ignores(&self, _tensors: &Tensors, name: &str) -> bool {
        name.ends_with("num_batches_tracked")
            || name.starts_with("classifier.")
            || name.starts_with("fc.")
            || name.starts_with("last_linear.")
    }
}
