"""VainF/DeepLabV3Plus-Pytorch: v3 and v3+ with ResNet and MobileNetV2, written anew from its facts, under its names.

Its MobileNetV2 pads the input of a block, before the 1x1 expansion, by the reach of the 3x3 convolution that follows; the border that the
3x3 sees is therefore what expansion, batch norm and ReLU6 make of zeros. Its stem has no padding. The first block of a group that
loses its stride keeps the dilation of the group before.
"""

import torch
import torch.nn.functional as F

from blocks import MOBILENET, aspp, conv_bn, resnet

def mobilenet(net, x, output_stride):
    """Low-level features (24 channels, stride 4) and last features (320 channels)."""
    name = "backbone.low_level_features"
    x = net.keep("stem", conv_bn(net, f"{name}.0.0", f"{name}.0.1", x, 32, 3, F.relu6, stride=2, pad=0))
    index, at, dilation, low = 0, 2, 1, None
    for expansion, out, repeats, group_stride in MOBILENET:
        before = dilation
        stride = group_stride
        if at == output_stride:
            stride = 1
            dilation *= group_stride
        else:
            at *= group_stride
        for i in range(repeats):
            index += 1
            if index == 4:
                low, name = x, "backbone.high_level_features"
            x = inverted(net, f"{name}.{index}.conv", x, out, expansion, stride if i == 0 else 1, before if i == 0 else dilation)
            net.keep(f"block{index - 1}", x)
    return low, x


def inverted(net, name, x, out, expansion, stride, dilation):
    """An inverted residual; see the module's notes on padding."""
    y = F.pad(x, (dilation,) * 4)
    at = 0
    if expansion > 1:
        y = conv_bn(net, f"{name}.0.0", f"{name}.0.1", y, y.shape[1] * expansion, 1, F.relu6)
        at = 1
    c = y.shape[1]
    y = conv_bn(net, f"{name}.{at}.0", f"{name}.{at}.1", y, c, 3, F.relu6, stride=stride, dilation=dilation, groups=c, pad=0)
    y = conv_bn(net, f"{name}.{at + 1}", f"{name}.{at + 2}", y, out, activation=None)
    return x + y if stride == 1 and x.shape[1] == out else y


def resnet50(net, x, output_stride):
    """Low-level features (layer1) and last features, with torchvision's dilation rule."""
    third = [(2, 1)] + [(1, 1)] * 5 if output_stride == 16 else [(1, 1)] + [(1, 2)] * 5
    fourth = [(1, 1)] + [(1, 2)] * 2 if output_stride == 16 else [(1, 2)] + [(1, 4)] * 2
    outputs = resnet(net, "backbone", x, [[(1, 1)] * 3, [(2, 1)] + [(1, 1)] * 3, third, fourth])
    return outputs[0], outputs[3]


def network(head, backbone, classes, output_stride):
    """`head` is v3 or v3+, `backbone` resnet50 or mobilenet_v2."""
    rates = (6, 12, 18) if output_stride == 16 else (12, 24, 36)

    def forward(net, image):
        low, x = (mobilenet if backbone == "mobilenet_v2" else resnet50)(net, image, output_stride)
        name = "classifier.aspp" if head == "v3+" else "classifier.classifier.0"
        branch = lambda i: tuple(f"{name}.convs.{i}.{j + (i == 4)}" for j in (0, 1))
        x = torch.cat(aspp(net, branch, x, rates, align_corners=False), dim=1)
        x = net.keep("aspp", conv_bn(net, f"{name}.project.0", f"{name}.project.1", x, 256))
        if head == "v3+":
            low = net.keep("low_level", conv_bn(net, "classifier.project.0", "classifier.project.1", low, 48))
            up = F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=False)
            x = torch.cat([low, up], dim=1)
        first = 0 if head == "v3+" else 1
        x = conv_bn(net, f"classifier.classifier.{first}", f"classifier.classifier.{first + 1}", x, 256, 3)
        net.keep("decoder" if head == "v3+" else "head", x)
        logits = net.conv(f"classifier.classifier.{first + 3}", x, classes, bias=True, classifier=True)
        return logits, F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)

    return forward
