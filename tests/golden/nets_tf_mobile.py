"""TensorFlow's DeepLabv3 for phones (MobileNetV2, head of image pooling and one 1x1 branch), written anew, under TensorFlow's names."""

import torch
import torch.nn.functional as F

# expansion, channels, repeats, stride
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def dilations(output_stride):
    """Stride and dilation of the 17 blocks: a block that loses its stride keeps the dilation so far, later ones double it."""
    at, dilation, plan = 2, 1, []
    for expansion, channels, repeats, stride in GROUPS:
        for i in range(repeats):
            step = stride if i == 0 else 1
            if at == output_stride:
                plan.append((expansion, channels, 1, dilation))
                dilation *= step
            else:
                plan.append((expansion, channels, step, 1))
                at *= step
    return plan


def network(classes, output_stride, width=1.0, folded=True):
    """The forward pass. `folded`: batch norms live in kernels and `Conv2D_bias`, `depthwise_bias`; else they stand apart."""

    def layer(net, name, x, out, activation, eps, k=1, stride=1, dilation=1, groups=1):
        if folded:
            bias = "depthwise_bias" if groups > 1 else "Conv2D_bias"
            x = net.conv(name, x, out, k, stride, dilation, groups, "tf", bias)
        else:
            x = net.conv(name, x, out, k, stride, dilation, groups, "tf")
            x = net.batch_norm(name + "/BatchNorm", x, eps)
        return activation(x) if activation else x

    def forward(net, image):
        x = layer(net, "MobilenetV2/Conv", image, int(32 * width), F.relu6, 1e-3, k=3, stride=2)
        net.keep("stem", x)
        for i, (expansion, channels, stride, dilation) in enumerate(dilations(output_stride)):
            name = "MobilenetV2/expanded_conv" + (f"_{i}" if i else "")
            out, y = int(channels * width), x
            if expansion > 1:
                y = layer(net, name + "/expand", y, y.shape[1] * expansion, F.relu6, 1e-3)
            y = layer(net, name + "/depthwise", y, y.shape[1], F.relu6, 1e-3, 3, stride, dilation, y.shape[1])
            y = layer(net, name + "/project", y, out, None, 1e-3)
            x = net.keep(f"block{i}", x + y if stride == 1 and x.shape[1] == out else y)
        pool = layer(net, "image_pooling", x.mean(dim=(2, 3), keepdim=True), 256, F.relu, 1e-5)
        net.keep("aspp.pool", pool)
        branch = net.keep("aspp.conv1x1", layer(net, "aspp0", x, 256, F.relu, 1e-5))
        x = torch.cat([pool.expand(-1, -1, *x.shape[2:]), branch], dim=1)
        x = net.keep("aspp", layer(net, "concat_projection", x, 256, F.relu, 1e-5))
        bias = "Conv2D_bias" if folded else True
        logits = net.conv("logits/semantic", x, classes, bias=bias, classifier=True)
        return logits, F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)

    return forward
