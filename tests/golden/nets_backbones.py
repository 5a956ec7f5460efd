"""Networks of libraries that are not DeepLab's usual homes: Hugging Face's MobileNetV2 for segmentation, and ImageNet backbones."""

import timm
import torch.nn.functional as F
import torchvision
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

from golden import ModuleNet

RESNET = {"stem": "relu"} | {f"layer{i}": f"layer{i}" for i in range(1, 5)}
STAGES = {
    "resnet50": RESNET,
    "resnext50_32x4d": RESNET,
    "wide_resnet50_2": RESNET,
    "seresnet50": RESNET,
    "resnet50c": RESNET,
    "legacy_seresnet50": RESNET | {"stem": "layer0.relu1"},
    "mobilenet_v2": {"stem": "features.0", "last": "features.18"} | {f"block{i}": f"features.{i + 1}" for i in range(17)},
}


def hugging_face(classes, output_stride, width):
    """MobileNetV2ForSemanticSegmentation with TensorFlow's padding (the library's default) and random weights."""
    config = MobileNetV2Config(
        num_labels=classes, output_stride=output_stride, depth_multiplier=width, tf_padding=True, finegrained_output=True
    )
    module = MobileNetV2ForSemanticSegmentation(config)
    stages = {"stem": "mobilenet_v2.conv_stem.first_conv", "block0": "mobilenet_v2.conv_stem"}
    stages |= {f"block{i + 1}": f"mobilenet_v2.layer.{i}" for i in range(16)}
    stages |= {"aspp.pool": "segmentation_head.conv_pool", "aspp.conv1x1": "segmentation_head.conv_aspp"}
    stages |= {"aspp": "segmentation_head.conv_projection"}
    return ModuleNet(module, stages, classifiers=("segmentation_head.classifier.convolution",))


def hugging_face_forward(module, x):
    """The library returns logits at the output stride; DeepLab enlarges them with corners aligned."""
    logits = module(x).logits
    return logits, F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)


def imagenet(library, name, weights=None):
    """A classification network; its classifier stays unused."""
    if library == "torchvision":
        return ModuleNet(getattr(torchvision.models, name)(weights=None), STAGES[name], weights=weights)
    module = timm.create_model(name, pretrained=False)
    if name in STAGES:
        return ModuleNet(module, {stage: "act1" if path == "relu" else path for stage, path in STAGES[name].items()})
    blocks = [f"blocks.{i}" for i in range(len(module.blocks))]
    entry, middle = 3, len(blocks) - 5
    stages = {"stem": "stem.1"} | {f"entry{i + 1}": blocks[i] for i in range(entry)}
    stages |= {f"middle{i + 1}": blocks[entry + i] for i in range(middle)}
    return ModuleNet(module, stages | {"exit1": blocks[-2], "exit2": blocks[-1]})


def imagenet_forward(module, x):
    """Features alone: there are no logits to compare."""
    features = getattr(module, "forward_features", None) or getattr(module, "features", None)
    if features is not None:
        features(x)
    else:
        module(x)
    return None, None
