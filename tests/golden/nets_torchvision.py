"""torchvision: DeepLabV3 with ResNet and MobileNetV3, the library's own code, with the auxiliary head."""

import torch.nn.functional as F
from torchvision.models import segmentation

from golden import ModuleNet


def build(backbone, classes):
    """`backbone` is resnet50, resnet101 or mobilenet_v3_large."""
    module = getattr(segmentation, f"deeplabv3_{backbone}")(
        weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
    )
    if backbone == "mobilenet_v3_large":
        stages = {"stem": "backbone.0", "last": "backbone.16"} | {f"block{i}": f"backbone.{i + 1}" for i in range(15)}
    else:
        stages = {"stem": "backbone.relu"} | {f"layer{i}": f"backbone.layer{i}" for i in range(1, 5)}
    for i, branch in enumerate(("aspp.conv1x1", "aspp.rate1", "aspp.rate2", "aspp.rate3")):
        stages[branch] = f"classifier.0.convs.{i}"
    stages |= {"aspp.pool": "classifier.0.convs.4.3", "aspp": "classifier.0.project", "head": "classifier.3"}
    stages |= {"aux_logits": "aux_classifier.4"}
    return ModuleNet(module, stages, classifiers=("classifier.4", "aux_classifier.4"))


def forward(module, x):
    """Logits before and after the last upsampling."""
    logits = module.classifier(module.backbone(x)["out"])
    full = module(x)["out"]
    same = F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)
    assert full.equal(same)
    return logits, full
