"""TensorFlow's DeepLabv3+ with Xception-41/65/71 and ResNet beta, written anew, under TensorFlow's names.

Both backbones put a block's stride into its last convolution or unit, and stop striding when the wanted stride is reached: the block
that loses its stride keeps the dilation so far, the ones after it double it. Strided 3x3 convolutions pad by one on each side.
"""

import torch
import torch.nn.functional as F

# Blocks of Xception: scope, channels of the three separable convolutions, skip, units, stride.
ENTRY_65 = (("entry_flow/block1", (128,) * 3, 2), ("entry_flow/block2", (256,) * 3, 2), ("entry_flow/block3", (728,) * 3, 2))
ENTRY_71 = (
    ("entry_flow/block1", (128,) * 3, 2),
    ("entry_flow/block2", (256,) * 3, 1),
    ("entry_flow/block3", (256,) * 3, 2),
    ("entry_flow/block4", (728,) * 3, 1),
    ("entry_flow/block5", (728,) * 3, 2),
)
MIDDLE_UNITS = {"xception_41": 8, "xception_65": 16, "xception_71": 16}
LOW_LEVEL = {"xception_41": "entry2", "xception_65": "entry2", "xception_71": "entry3"}


def conv_bn(net, name, x, out, k=1, activation=F.relu, eps=1e-5, **options):
    """Convolution, batch norm, activation (or none)."""
    x = net.batch_norm(name + "/BatchNorm", net.conv(name, x, out, k, **options), eps)
    return activation(x) if activation else x


def separable(net, name, x, out, activation, eps=1e-5, stride=1, dilation=1):
    """Depthwise 3x3 and pointwise, each with batch norm and `activation` (or none)."""
    c = x.shape[1]
    x = conv_bn(net, name + "_depthwise", x, c, 3, activation, eps, stride=stride, dilation=dilation, groups=c)
    return conv_bn(net, name + "_pointwise", x, out, 1, activation, eps)


class Strides:
    """Hands out (stride, dilation) to units until the wanted output stride is reached."""

    def __init__(self, at, output_stride):
        self.at, self.wanted, self.dilation = at, output_stride, 1

    def next(self, stride):
        if self.at < self.wanted:
            self.at *= stride
            return stride, 1
        dilation = self.dilation
        self.dilation *= stride
        return 1, dilation


def xception_unit(net, name, x, channels, skip, stride, rates):
    """Three separable convolutions and a skip. Returns the sum and what the second convolution gave.

    With a skip: ReLU before each convolution, none after, none between depthwise and pointwise. Without (the last block): ReLU after
    depthwise and after pointwise.
    """
    after = None if skip else F.relu
    y, tap = x, None
    for i, (out, rate) in enumerate(zip(channels, rates), 1):
        y = y if after else F.relu(y)
        y = separable(net, f"{name}/separable_conv{i}", y, out, after, 1e-3, stride if i == 3 else 1, rate)
        tap = y if i == 2 else tap
    if skip == "conv":
        y = y + conv_bn(net, f"{name}/shortcut", x, channels[2], 1, None, 1e-3, stride=stride)
    elif skip == "sum":
        y = y + x
    return y, tap


def xception(net, variant, x, output_stride, multi_grid):
    """Low-level features and last features."""
    x = conv_bn(net, f"{variant}/entry_flow/conv1_1", x, 32, 3, eps=1e-3, stride=2)
    x = net.keep("stem", conv_bn(net, f"{variant}/entry_flow/conv1_2", x, 64, 3, eps=1e-3))
    strides, low = Strides(2, output_stride), None

    def block(scope, x, channels, skip, stride, stage, unit=1, grid=(1, 1, 1)):
        stride, dilation = strides.next(stride)
        name = f"{variant}/{scope}/unit_{unit}/xception_module"
        x, tap = xception_unit(net, name, x, channels, skip, stride, [dilation * g for g in grid])
        return net.keep(stage, x), tap

    for i, (scope, channels, stride) in enumerate(ENTRY_71 if variant == "xception_71" else ENTRY_65, 1):
        x, tap = block(scope, x, channels, "conv", stride, f"entry{i}")
        low = tap if f"entry{i}" == LOW_LEVEL[variant] else low
    for i in range(1, MIDDLE_UNITS[variant] + 1):
        x, _ = block("middle_flow/block1", x, (728,) * 3, "sum", 1, f"middle{i}", unit=i)
    x, _ = block("exit_flow/block1", x, (728, 1024, 1024), "conv", 2, "exit1")
    x, _ = block("exit_flow/block2", x, (1536, 1536, 2048), None, 1, "exit2", grid=multi_grid)
    return low, x


def max_pool_same(x):
    """3x3 stride 2 in TensorFlow's SAME: an even extent is padded at its end alone."""
    pads = ()
    for extent in (x.shape[3], x.shape[2]):
        total = 2 if extent % 2 else 1
        pads += (total // 2, total - total // 2)
    return F.max_pool2d(F.pad(x, pads, value=float("-inf")), 3, 2)


def resnet_beta(net, variant, x, output_stride, multi_grid):
    """Low-level features (block1/unit_2's conv3, before the addition) and last features."""
    x = conv_bn(net, f"{variant}/conv1_1", x, 64, 3, stride=2)
    x = conv_bn(net, f"{variant}/conv1_2", x, 64, 3)
    x = net.keep("stem", conv_bn(net, f"{variant}/conv1_3", x, 128, 3))
    x = max_pool_same(x)
    strides, low = Strides(4, output_stride), None
    units = {"resnet_v1_50": (3, 4, 6, 3), "resnet_v1_101": (3, 4, 23, 3)}[variant]
    for b, (count, planes) in enumerate(zip(units, (64, 128, 256, 512)), 1):
        for u in range(1, count + 1):
            name = f"{variant}/block{b}/unit_{u}/bottleneck_v1"
            stride, dilation = strides.next(2 if u == count and b < 4 else 1)
            dilation *= multi_grid[u - 1] if b == 4 else 1
            if x.shape[1] == planes * 4:
                skip = x[:, :, ::stride, ::stride]
            else:
                skip = conv_bn(net, f"{name}/shortcut", x, planes * 4, 1, None, stride=stride)
            y = conv_bn(net, f"{name}/conv1", x, planes)
            y = conv_bn(net, f"{name}/conv2", y, planes, 3, stride=stride, dilation=dilation)
            y = conv_bn(net, f"{name}/conv3", y, planes * 4, 1, None)
            low = y if (b, u) == (1, 2) else low
            x = F.relu(skip + y)
        net.keep(f"layer{b}", x)
    return low, x


def network(backbone, classes, output_stride, rates, multi_grid=(1, 1, 1)):
    """DeepLabv3+ with separable ASPP and decoder; `backbone` is xception_41/65/71 or resnet_v1_50/101 (the beta stem)."""

    def forward(net, image):
        low, x = (xception if "xception" in backbone else resnet_beta)(net, backbone, image, output_stride, multi_grid)
        size = x.shape[2:]
        pool = net.keep("aspp.pool", conv_bn(net, "image_pooling", x.mean(dim=(2, 3), keepdim=True), 256))
        branches = [F.interpolate(pool, size=size, mode="bilinear", align_corners=True)]
        branches.append(net.keep("aspp.conv1x1", conv_bn(net, "aspp0", x, 256)))
        for i, rate in enumerate(rates, 1):
            branches.append(net.keep(f"aspp.rate{i}", separable(net, f"aspp{i}", x, 256, F.relu, dilation=rate)))
        x = net.keep("aspp", conv_bn(net, "concat_projection", torch.cat(branches, dim=1), 256))
        low = net.keep("low_level", conv_bn(net, "decoder/feature_projection0", low, 48))
        x = torch.cat([F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=True), low], dim=1)
        x = separable(net, "decoder/decoder_conv0", x, 256, F.relu)
        x = net.keep("decoder", separable(net, "decoder/decoder_conv1", x, 256, F.relu))
        logits = net.conv("logits/semantic", x, classes, bias=True, classifier=True)
        return logits, F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)

    return forward
