"""OpenMMLab's mmsegmentation: DeepLabV3 and V3+ with ResNet-v1c and ResNet, written anew from its facts, under its names.

* The stem of v1c is three 3x3 convolutions of 32, 32 and 64 channels. The stride of a bottleneck is in its 3x3 convolution.
* `contract_dilation`: the first unit of a dilated stage has half of the stage's dilation. The second convolution of a basic unit (ResNet-18
  and -34) is never dilated.
* ASPP concatenates the pooled branch first, and its projection is 3x3. V3+ has depthwise separable branches and decoder, with batch norm and
  ReLU after each of the two convolutions.
"""

import torch
import torch.nn.functional as F

from blocks import WIDTHS, bottleneck, conv_bn

UNITS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STRIDES, DILATIONS, RATES = (1, 2, 1, 1), (1, 1, 2, 4), (12, 24, 36)


def module(net, name, x, out, k=1, activation=F.relu, **options):
    """A `ConvModule`."""
    return conv_bn(net, f"{name}.conv", f"{name}.bn", x, out, k, activation, **options)


def separable(net, name, x, out, dilation=1):
    """A `DepthwiseSeparableConvModule`."""
    c = x.shape[1]
    x = module(net, f"{name}.depthwise_conv", x, c, 3, dilation=dilation, groups=c)
    return module(net, f"{name}.pointwise_conv", x, out)


def basic(net, name, x, planes, stride, dilation, project):
    """ResNet's basic unit."""
    y = conv_bn(net, f"{name}.conv1", f"{name}.bn1", x, planes, 3, stride=stride, dilation=dilation)
    y = conv_bn(net, f"{name}.conv2", f"{name}.bn2", y, planes, 3, activation=None)
    if project:
        x = conv_bn(net, f"{name}.downsample.0", f"{name}.downsample.1", x, planes, activation=None, stride=stride)
    return F.relu(x + y)


def stem(net, x, deep):
    """The stem of v1c or of torchvision."""
    if not deep:
        return conv_bn(net, "backbone.conv1", "backbone.bn1", x, 64, 7, stride=2)
    x = conv_bn(net, "backbone.stem.0", "backbone.stem.1", x, 32, 3, stride=2)
    x = conv_bn(net, "backbone.stem.3", "backbone.stem.4", x, 32, 3)
    return conv_bn(net, "backbone.stem.6", "backbone.stem.7", x, 64, 3)


def resnet(net, x, depth, deep):
    """Outputs of the four stages at output stride 8."""
    x = F.max_pool2d(net.keep("stem", stem(net, x, deep)), 3, 2, 1)
    outputs = []
    for i, (planes, units, stride, dilation) in enumerate(zip(WIDTHS, UNITS[depth], STRIDES, DILATIONS), 1):
        for j in range(units):
            first = j == 0
            project = first and (depth >= 50 or i > 1)
            unit = bottleneck if depth >= 50 else basic
            reach = max(dilation // 2, 1) if first else dilation
            x = unit(net, f"backbone.layer{i}.{j}", x, planes, stride if first else 1, reach, project)
        outputs.append(net.keep(f"layer{i}", x))
    return outputs


def network(head, depth, deep, classes, channels=512, low_channels=48):
    """`head` is v3 or v3+; `deep`: the stem of v1c."""

    def forward(net, image):
        low, _, third, x = resnet(net, image, depth, deep)
        pool = module(net, "decode_head.image_pool.1", x.mean(dim=(2, 3), keepdim=True), channels)
        net.keep("aspp.pool", pool)
        branches = [F.interpolate(pool, size=x.shape[2:], mode="bilinear", align_corners=False)]
        branches.append(net.keep("aspp.conv1x1", module(net, "decode_head.aspp_modules.0", x, channels)))
        for i, rate in enumerate(RATES, 1):
            name = f"decode_head.aspp_modules.{i}"
            if head == "v3+":
                y = separable(net, name, x, channels, rate)
            else:
                y = module(net, name, x, channels, 3, dilation=rate)
            branches.append(net.keep(f"aspp.rate{i}", y))
        x = net.keep("aspp", module(net, "decode_head.bottleneck", torch.cat(branches, dim=1), channels, 3))
        if head == "v3+":
            low = net.keep("low_level", module(net, "decode_head.c1_bottleneck", low, low_channels))
            up = F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=False)
            x = torch.cat([up, low], dim=1)
            for i in range(2):
                x = separable(net, f"decode_head.sep_bottleneck.{i}", x, channels)
            net.keep("decoder", x)
        logits = net.conv("decode_head.conv_seg", x, classes, bias=True, classifier=True)
        aux = module(net, "auxiliary_head.convs.0", third, third.shape[1] // 4, 3)
        net.keep("aux_logits", net.conv("auxiliary_head.conv_seg", aux, classes, bias=True, classifier=True))
        return logits, F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)

    return forward
