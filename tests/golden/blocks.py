"""Backbones and layers that several code bases share, under PyTorch's names; each caller gives its own strides and dilations."""

import torch.nn.functional as F

WIDTHS = (64, 128, 256, 512)
# expansion, channels, repeats, stride of MobileNetV2's groups of blocks
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def conv_bn(net, conv, bn, x, out, k=1, activation=F.relu, eps=1e-5, **options):
    """Convolution without bias, batch norm, activation (or none)."""
    x = net.batch_norm(bn, net.conv(conv, x, out, k, **options), eps)
    return activation(x) if activation else x


def bottleneck(net, name, x, planes, stride, dilation, project):
    """ResNet's bottleneck with the stride in its 3x3 convolution; `project`: its shortcut is a convolution."""
    y = conv_bn(net, f"{name}.conv1", f"{name}.bn1", x, planes)
    y = conv_bn(net, f"{name}.conv2", f"{name}.bn2", y, planes, 3, stride=stride, dilation=dilation)
    y = conv_bn(net, f"{name}.conv3", f"{name}.bn3", y, planes * 4, activation=None)
    if project:
        x = conv_bn(net, f"{name}.downsample.0", f"{name}.downsample.1", x, planes * 4, activation=None, stride=stride)
    return F.relu(x + y)


def resnet(net, name, x, layers):
    """ResNet with bottlenecks and the 7x7 stem; `layers`: four lists of (stride, dilation) of the units. Returns all four outputs."""
    x = net.keep("stem", conv_bn(net, f"{name}.conv1", f"{name}.bn1", x, 64, 7, stride=2))
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for i, (planes, units) in enumerate(zip(WIDTHS, layers), 1):
        for j, (stride, dilation) in enumerate(units):
            x = bottleneck(net, f"{name}.layer{i}.{j}", x, planes, stride, dilation, j == 0)
        outputs.append(net.keep(f"layer{i}", x))
    return outputs


def aspp(net, names, x, rates, align_corners):
    """ASPP in PyTorch's order of branches: 1x1, three rates, pooled. `names(branch)` gives (convolution, batch norm)."""
    branches = [net.keep("aspp.conv1x1", conv_bn(net, *names(0), x, 256))]
    for i, rate in enumerate(rates, 1):
        branches.append(net.keep(f"aspp.rate{i}", conv_bn(net, *names(i), x, 256, 3, dilation=rate)))
    pool = net.keep("aspp.pool", conv_bn(net, *names(4), x.mean(dim=(2, 3), keepdim=True), 256))
    branches.append(F.interpolate(pool, size=x.shape[2:], mode="bilinear", align_corners=align_corners))
    return branches
