"""segmentation_models_pytorch: DeepLabV3 and DeepLabV3Plus, the library's own code."""

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from golden import ModuleNet

RESNET = {"stem": "encoder.relu", "layer1": "encoder.layer1", "layer2": "encoder.layer2", "layer3": "encoder.layer3"}
RESNET |= {"layer4": "encoder.layer4"}
MOBILENET = {"stem": "encoder.features.0"} | {f"block{i}": f"encoder.features.{i + 1}" for i in range(17)}
MOBILENET |= {"last": "encoder.features.18"}
LAYERS = [f"layer{i}" for i in range(1, 5)]
SENET = {"stem": "encoder.layer0"} | {layer: f"encoder.{layer}" for layer in LAYERS}
TIMM = {"stem": "encoder.model.act1"} | {layer: f"encoder.model.{layer}" for layer in LAYERS}
TIMM_BLOCKS = [(stage, block) for stage, blocks in enumerate((1, 2, 3, 4, 2, 3)) for block in range(blocks)]
TIMM_MOBILENET = {"stem": "encoder.model.act1", "last": "encoder.model.blocks.6.0"}
TIMM_MOBILENET |= {f"block{i}": f"encoder.model.blocks.{s}.{b}" for i, (s, b) in enumerate(TIMM_BLOCKS)}


def encoder_stages(encoder):
    """Stages of an encoder and their modules."""
    if encoder == "mobilenet_v2":
        return MOBILENET
    if encoder == "tu-mobilenetv3_large_100":
        return TIMM_MOBILENET
    if encoder.startswith("tu-"):
        return TIMM
    return SENET if encoder.startswith("se_") else RESNET


def build(arch, encoder, classes, **options):
    """A network with random weights; `arch` is DeepLabV3 or DeepLabV3Plus."""
    module = getattr(smp, arch)(encoder, encoder_weights=None, classes=classes, **options)
    stages = dict(encoder_stages(encoder))
    aspp = "decoder.aspp.0" if arch == "DeepLabV3Plus" else "decoder.aspp"
    for i, branch in enumerate(("aspp.conv1x1", "aspp.rate1", "aspp.rate2", "aspp.rate3")):
        stages[branch] = f"{aspp}.convs.{i}"
    stages["aspp.pool"] = f"{aspp}.convs.4.3"
    stages["aspp"] = f"{aspp}.project"
    if arch == "DeepLabV3Plus":
        stages |= {"aspp.separable": "decoder.aspp", "low_level": "decoder.block1", "decoder": "decoder.block2"}
    else:
        stages["head"] = "decoder.relu"
    return ModuleNet(module, stages, classifiers=("segmentation_head.0",))


def forward(module, x):
    """The library's forward pass, which takes sizes divisible by the output stride alone."""
    full = module(x)
    logits, same = forward_any_size(module, x)
    assert full.equal(same)
    return logits, full


def forward_any_size(module, x):
    """The same network at any size: features are enlarged to the size that is wanted instead of by a fixed factor."""
    features = module.encoder(x)
    decoder = module.decoder
    if hasattr(decoder, "up"):
        low = decoder.block1(features[2])
        up = F.interpolate(decoder.aspp(features[-1]), size=low.shape[2:], mode="bilinear", align_corners=True)
        logits = module.segmentation_head[0](decoder.block2(torch.cat([up, low], dim=1)))
    else:
        logits = module.segmentation_head[0](decoder(features))
    return logits, F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)
