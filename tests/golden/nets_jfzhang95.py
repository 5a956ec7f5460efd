"""jfzhang95/pytorch-deeplab-xception: v3+ with ResNet-101, Xception and MobileNetV2, written anew from its facts, under its names.

Where it differs from the others:
* Its ReLUs work in place, so a Xception block that starts with a ReLU changes its own input, and the skip connection (convolution
  or identity) reads max(x, 0). The first two blocks start without one; low-level features are ReLU(block1), 128 channels.
* The strided or last separable convolution of a Xception block has dilation 1 whatever the block's is.
* MobileNetV2 gives all blocks of a group one dilation: OS 16 has 1 in the group that lost its stride and 2 in the last block alone. It
  pads a block's input before the expansion, and its stem by one pixel. Its file holds every MobileNet tensor twice, under
  `backbone.features.N` too; the golden names leave that copy out.
* ResNet: layer4 has the multi-grid (1, 2, 4) times 2 or 4; layer3 at OS 8 has dilation 2 from its first unit on.
"""

import torch
import torch.nn.functional as F

from blocks import MOBILENET, aspp, conv_bn, resnet


def separable(net, name, x, out, stride=1, dilation=1):
    """Depthwise, batch norm, pointwise; the batch norm after it belongs to the caller."""
    c = x.shape[1]
    x = conv_bn(net, f"{name}.conv1", f"{name}.bn", x, c, 3, None, stride=stride, dilation=dilation, groups=c)
    return net.conv(f"{name}.pointwise", x, out)


def xception_block(net, name, x, widths, stride=1, dilation=1, relu_first=True, last=False):
    """`widths`: channels of the separable convolutions before the strided or last one, whose width is the last of them."""
    x = F.relu(x) if relu_first else x
    steps = [(width, 1, dilation) for width in widths]
    if stride > 1 or last:
        steps.append((widths[-1], stride, 1))
    y, at = x, 1 if relu_first else 0
    for i, (width, s, d) in enumerate(steps):
        y = F.relu(y) if i else y
        y = net.batch_norm(f"{name}.rep.{at + 1}", separable(net, f"{name}.rep.{at}", y, width, s, d))
        at += 3
    if stride > 1 or x.shape[1] != widths[-1]:
        x = conv_bn(net, f"{name}.skip", f"{name}.skipbn", x, widths[-1], activation=None, stride=stride)
    return x + y


def xception(net, x, output_stride):
    """Low-level features (128 channels, stride 4) and last features (2048)."""
    stride3, middle, exits = (2, 1, (1, 2)) if output_stride == 16 else (1, 2, (2, 4))
    b = "backbone"
    x = conv_bn(net, f"{b}.conv1", f"{b}.bn1", x, 32, 3, stride=2)
    x = net.keep("stem", conv_bn(net, f"{b}.conv2", f"{b}.bn2", x, 64, 3))
    x = net.keep("entry1", F.relu(xception_block(net, f"{b}.block1", x, (128, 128), 2, relu_first=False)))
    low = x
    x = net.keep("entry2", xception_block(net, f"{b}.block2", x, (256, 256), 2, relu_first=False))
    x = net.keep("entry3", xception_block(net, f"{b}.block3", x, (728, 728), stride3, last=True))
    for i in range(4, 20):
        x = net.keep(f"middle{i - 3}", xception_block(net, f"{b}.block{i}", x, (728,) * 3, dilation=middle))
    x = net.keep("exit1", xception_block(net, f"{b}.block20", x, (728, 1024), dilation=exits[0], last=True))
    x = F.relu(x)
    for i, width in ((3, 1536), (4, 1536), (5, 2048)):
        x = F.relu(net.batch_norm(f"{b}.bn{i}", separable(net, f"{b}.conv{i}", x, width, dilation=exits[1])))
    return low, net.keep("exit2", x)


def mobilenet(net, x, output_stride):
    """Low-level features (24 channels, stride 4) and last features (320)."""
    name = "backbone.low_level_features"
    x = net.keep("stem", conv_bn(net, f"{name}.0.0", f"{name}.0.1", x, 32, 3, F.relu6, stride=2))
    index, at, rate, low = 0, 2, 1, None
    for expansion, out, repeats, stride in MOBILENET:
        dilation = 1
        if at == output_stride:
            dilation, rate, stride = rate, rate * stride, 1
        else:
            at *= stride
        for i in range(repeats):
            index += 1
            if index == 4:
                low, name = x, "backbone.high_level_features"
            x = inverted(net, f"{name}.{index}.conv", x, out, expansion, stride if i == 0 else 1, dilation)
            net.keep(f"block{index - 1}", x)
    return low, x


def inverted(net, name, x, out, expansion, stride, dilation):
    """An inverted residual that pads before the expansion."""
    y, at = F.pad(x, (dilation,) * 4), 0
    if expansion > 1:
        y = conv_bn(net, f"{name}.0", f"{name}.1", y, y.shape[1] * expansion, 1, F.relu6)
        at = 3
    c = y.shape[1]
    y = conv_bn(net, f"{name}.{at}", f"{name}.{at + 1}", y, c, 3, F.relu6, stride=stride, dilation=dilation, groups=c, pad=0)
    y = conv_bn(net, f"{name}.{at + 3}", f"{name}.{at + 4}", y, out, activation=None)
    return x + y if stride == 1 and x.shape[1] == out else y


def resnet101(net, x, output_stride):
    """Low-level features (layer1) and last features."""
    third, base = ([(2, 1)] + [(1, 1)] * 22, 2) if output_stride == 16 else ([(1, 2)] * 23, 4)
    fourth = [(1, base * grid) for grid in (1, 2, 4)]
    outputs = resnet(net, "backbone", x, [[(1, 1)] * 3, [(2, 1)] + [(1, 1)] * 3, third, fourth])
    return outputs[0], outputs[3]


def network(backbone, classes, output_stride):
    """`backbone` is resnet101, xception or mobilenet_v2."""
    rates = (6, 12, 18) if output_stride == 16 else (12, 24, 36)
    features = {"resnet101": resnet101, "xception": xception, "mobilenet_v2": mobilenet}[backbone]

    def names(branch):
        if branch == 4:
            return "aspp.global_avg_pool.1", "aspp.global_avg_pool.2"
        return f"aspp.aspp{branch + 1}.atrous_conv", f"aspp.aspp{branch + 1}.bn"

    def forward(net, image):
        low, x = features(net, image, output_stride)
        x = torch.cat(aspp(net, names, x, rates, align_corners=True), dim=1)
        x = net.keep("aspp", conv_bn(net, "aspp.conv1", "aspp.bn1", x, 256))
        low = net.keep("low_level", conv_bn(net, "decoder.conv1", "decoder.bn1", low, 48))
        x = torch.cat([F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=True), low], dim=1)
        x = conv_bn(net, "decoder.last_conv.0", "decoder.last_conv.1", x, 256, 3)
        x = net.keep("decoder", conv_bn(net, "decoder.last_conv.4", "decoder.last_conv.5", x, 256, 3))
        logits = net.conv("decoder.last_conv.8", x, classes, bias=True, classifier=True)
        return logits, F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)

    return forward
