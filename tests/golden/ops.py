"""Makes the golden values of single operations: `python ops.py` writes ops/ops.safetensors."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders._utils import patch_first_conv

import golden
import seeded

LIMIT = 256 * 1024


class Cases:
    """Collects inputs, attributes and outputs under a case's name."""

    def __init__(self):
        self.tensors = {}
        self.stored = {}
        self.cases = []

    def values(self, name, shape, low=-2.0, high=2.0):
        """Seeded values in [low, high)."""
        u = seeded.uniform(name, int(np.prod(shape))).reshape(shape)
        return torch.from_numpy((np.float32(low) + np.float32(high - low) * u).astype(np.float32))

    def add(self, op, name, attributes, inputs, outputs):
        """Keeps a case. Equal tensors are stored once, under the name that came first."""
        case = f"{op}.{name}"
        assert case not in [c["case"] for c in self.cases], case
        record = {"case": case, "op": op, "inputs": {}, "outputs": {}, "attributes": attributes}
        for part, tensors in (("inputs", inputs), ("outputs", outputs)):
            for role, value in tensors.items():
                value = (value.to(torch.uint8) if value.dtype == torch.int64 else value).contiguous().numpy()
                key = (value.dtype.str, value.shape, value.tobytes())
                record[part][role] = self.stored.setdefault(key, f"{case}.{role}")
                self.tensors[record[part][role]] = value
        self.cases.append(record)


def conv2d(cases):
    """name, x shape, out, kernel, stride, dilation, groups, padding (top, bottom, left, right), bias"""
    for name, x, out, k, s, d, g, p, bias in (
        ("plain", (2, 5, 7, 9), 7, (3, 3), (1, 1), (1, 1), 1, (1, 1, 1, 1), False),
        ("unpadded", (1, 3, 6, 5), 4, (3, 3), (1, 1), (1, 1), 1, (0, 0, 0, 0), True),
        ("pointwise", (1, 6, 5, 4), 9, (1, 1), (1, 1), (1, 1), 1, (0, 0, 0, 0), True),
        ("pointwise_strided", (1, 4, 7, 6), 5, (1, 1), (2, 2), (1, 1), 1, (0, 0, 0, 0), False),
        ("strided_odd", (1, 3, 7, 5), 4, (3, 3), (2, 2), (1, 1), 1, (1, 1, 1, 1), False),
        ("strided_even", (1, 3, 8, 6), 4, (3, 3), (2, 2), (1, 1), 1, (1, 1, 1, 1), False),
        ("strided_even_at_the_end", (1, 3, 8, 6), 4, (3, 3), (2, 2), (1, 1), 1, (0, 1, 0, 1), True),
        ("dilated", (1, 4, 9, 7), 3, (3, 3), (1, 1), (2, 2), 1, (2, 2, 2, 2), True),
        ("dilated_past_the_map", (1, 4, 5, 5), 6, (3, 3), (1, 1), (6, 6), 1, (6, 6, 6, 6), False),
        ("dilated_and_strided", (1, 2, 11, 9), 3, (3, 3), (2, 2), (3, 3), 1, (3, 3, 3, 3), False),
        ("stem", (1, 3, 13, 11), 6, (7, 7), (2, 2), (1, 1), 1, (3, 3, 3, 3), False),
        ("one_pixel", (1, 5, 1, 1), 4, (3, 3), (1, 1), (1, 1), 1, (1, 1, 1, 1), True),
        ("uneven_everything", (2, 3, 8, 7), 5, (2, 3), (1, 2), (3, 1), 1, (1, 0, 2, 3), True),
        ("row_kernel", (1, 3, 4, 9), 4, (1, 5), (1, 1), (1, 1), 1, (0, 0, 2, 2), False),
        ("groups", (1, 6, 5, 6), 4, (3, 3), (1, 1), (1, 1), 2, (1, 1, 1, 1), True),
        ("depthwise", (2, 7, 6, 5), 7, (3, 3), (1, 1), (1, 1), 7, (1, 1, 1, 1), False),
        ("depthwise_strided", (1, 6, 9, 8), 6, (3, 3), (2, 2), (1, 1), 6, (1, 1, 1, 1), True),
        ("depthwise_strided_at_the_end", (1, 6, 8, 10), 6, (3, 3), (2, 2), (1, 1), 6, (0, 1, 0, 1), True),
        ("depthwise_dilated", (1, 5, 8, 7), 5, (3, 3), (1, 1), (4, 4), 5, (4, 4, 4, 4), True),
        ("depthwise_5x5_dilated", (1, 6, 9, 9), 6, (5, 5), (1, 1), (2, 2), 6, (4, 4, 4, 4), False),
        ("depthwise_multiplied", (1, 3, 5, 5), 6, (3, 3), (1, 1), (1, 1), 3, (1, 1, 1, 1), True),
    ):
        image = cases.values(f"conv2d.{name}.x", x)
        weight = cases.values(f"conv2d.{name}.weight", (out, x[1] // g, *k), -1.0, 1.0)
        inputs = {"x": image, "weight": weight}
        if bias:
            inputs["bias"] = cases.values(f"conv2d.{name}.bias", (out,), -1.0, 1.0)
        padded = F.pad(image, (p[2], p[3], p[0], p[1])).double()
        y = F.conv2d(padded, weight.double(), inputs["bias"].double() if bias else None, s, 0, d, g).float()
        attributes = {"kernel": k, "stride": s, "dilation": d, "groups": g, "padding": p}
        cases.add("conv2d", name, attributes, inputs, {"y": y})


def batch_norm(cases):
    """Running statistics, with variances down to 0."""
    for eps in (1e-3, 1e-5):
        name = f"eps_{eps:g}"
        x = cases.values(f"batch_norm.{name}.x", (2, 7, 3, 5))
        inputs = {role: cases.values(f"batch_norm.{name}.{role}", (7,)) for role in ("weight", "bias", "running_mean")}
        variance = cases.values(f"batch_norm.{name}.running_var", (7,), 0.1, 2.0)
        variance[0], variance[1] = 0.0, 1e-6
        inputs["running_var"] = variance
        y = F.batch_norm(x, inputs["running_mean"], variance, inputs["weight"], inputs["bias"], False, 0.0, eps)
        cases.add("batch_norm", name, {"eps": eps}, {"x": x} | inputs, {"y": y})


def resize(cases):
    """Bilinear, up and down, both conventions of corners; not antialiased."""
    for (h, w), (to_h, to_w) in (
        ((5, 7), (17, 23)),
        ((4, 6), (16, 24)),
        ((9, 8), (4, 5)),
        ((17, 13), (5, 3)),
        ((1, 1), (5, 3)),
        ((6, 5), (1, 1)),
        ((1, 6), (4, 6)),
        ((5, 1), (5, 9)),
        ((3, 3), (3, 3)),
        ((7, 2), (3, 9)),
        ((13, 13), (5, 25)),
    ):
        for align in (False, True):
            name = f"{h}x{w}_to_{to_h}x{to_w}" + ("_corners" if align else "")
            x = cases.values(f"resize.{name}.x", (1, 3, h, w) if h > 3 else (2, 3, h, w))
            y = F.interpolate(x.double(), size=(to_h, to_w), mode="bilinear", align_corners=align).float()
            cases.add("resize", name, {"size": (to_h, to_w), "align_corners": align}, {"x": x}, {"y": y})


def pools(cases):
    """Windows with padding, both roundings of sizes, and padding in or out of the mean."""
    shapes = ((2, 5, 7, 9), (1, 3, 8, 6), (1, 4, 5, 5))
    windows = (((3, 3), (2, 2), (1, 1)), ((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 0)), ((3, 3), (3, 3), (1, 1)))
    for shape in shapes:
        for kernel, stride, padding in windows:
            for ceil in (False, True):
                name = f"{shape[2]}x{shape[3]}_k{kernel[0]}{kernel[1]}_s{stride[0]}{stride[1]}_p{padding[0]}{padding[1]}"
                name += "_ceil" if ceil else ""
                attributes = {"kernel": kernel, "stride": stride, "ceil_mode": ceil}
                attributes["padding"] = (padding[0], padding[0], padding[1], padding[1])
                x = cases.values(f"pool.{shape}.x", shape, -4.0, -1.0)
                y = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
                cases.add("max_pool", name, attributes | {"dilation": (1, 1)}, {"x": x}, {"y": y})
                for counted in (False, True):
                    y = F.avg_pool2d(x.double(), kernel, stride, padding, ceil, counted).float()
                    more = attributes | {"count_include_pad": counted}
                    cases.add("avg_pool", name + ("_counted" if counted else ""), more, {"x": x}, {"y": y})
    x = cases.values("max_pool.dilated.x", (1, 3, 9, 8), -4.0, -1.0)
    attributes = {"kernel": (3, 3), "stride": (2, 1), "padding": (1, 1, 1, 1), "dilation": (2, 2), "ceil_mode": False}
    cases.add("max_pool", "dilated", attributes, {"x": x}, {"y": F.max_pool2d(x, 3, (2, 1), 1, 2)})
    x = cases.values("max_pool.at_the_end.x", (1, 3, 8, 6), -4.0, -1.0)
    attributes = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 1, 0, 1), "dilation": (1, 1), "ceil_mode": False}
    y = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
    cases.add("max_pool", "at_the_end", attributes, {"x": x}, {"y": y})
    for shape in ((2, 5, 7, 9), (1, 3, 1, 1), (1, 4, 41, 37)):
        x = cases.values(f"global_avg_pool.{shape[2]}x{shape[3]}.x", shape)
        y = F.adaptive_avg_pool2d(x.double(), 1).float()
        cases.add("global_avg_pool", f"{shape[2]}x{shape[3]}", {}, {"x": x}, {"y": y})


def pointwise(cases):
    """Activations with their breaking points, additions and products that broadcast."""
    x = cases.values("activations.x", (1, 5, 6, 7), -8.0, 8.0)
    x.view(-1)[:8] = torch.tensor([-3.0, 3.0, 0.0, -0.0, 6.0, 1e-30, -1e30, 1e30])
    for name in ("relu", "relu6", "hardswish", "hardsigmoid"):
        cases.add(name, "breaking_points", {}, {"x": x}, {"y": getattr(F, name)(x)})
    a = cases.values("add.same.a", (2, 5, 3, 4))
    for name, shape in (("same", (2, 5, 3, 4)), ("per_image", (2, 5, 1, 1)), ("per_channel", (1, 5, 1, 1))):
        b = cases.values(f"add.{name}.b", shape)
        cases.add("add", name, {}, {"a": a, "b": b}, {"y": a + b})
        cases.add("mul", name, {}, {"a": a, "b": b}, {"y": a * b})
    parts = {role: cases.values(f"concat.uneven.{role}", (2, c, 3, 4)) for role, c in (("a", 5), ("b", 3), ("c", 6))}
    cases.add("concat", "uneven", {}, parts, {"y": torch.cat(list(parts.values()), dim=1)})


def classes(cases):
    """Softmax, largest class, and both after enlarging."""
    for name, shape, reach in (("small", (2, 7, 3, 5), 4.0), ("large", (1, 21, 4, 3), 90.0), ("one_class", (1, 1, 2, 2), 3.0)):
        x = cases.values(f"softmax.{name}.x", shape, -reach, reach)
        cases.add("softmax", name, {}, {"x": x}, {"y": x.double().softmax(dim=1).float()})
    x = cases.values("argmax.ties.x", (2, 6, 5, 4), -3.0, 3.0).round()
    first = torch.from_numpy(x.numpy().argmax(axis=1))
    assert first.equal(x.argmax(dim=1)) and (x == x.max(dim=1, keepdim=True).values).sum() > first.numel()
    cases.add("argmax", "ties", {}, {"x": x}, {"labels": first})
    for (h, w), (to_h, to_w), align in (
        ((5, 4), (17, 13), True),
        ((5, 4), (20, 16), False),
        ((9, 9), (4, 5), False),
        ((1, 1), (6, 3), True),
    ):
        name = f"{h}x{w}_to_{to_h}x{to_w}" + ("_corners" if align else "")
        x = cases.values(f"upsample_argmax.{name}.x", (2, 7, h, w), -4.0, 4.0)
        full = F.interpolate(x.double(), size=(to_h, to_w), mode="bilinear", align_corners=align)
        best = full.topk(2, dim=1).values
        assert (best[:, 0] - best[:, 1]).min() > 1e-4, f"{name}: a tie that rounding decides"
        outputs = {"labels": full.argmax(dim=1), "confidence": full.softmax(dim=1).max(dim=1).values.float()}
        cases.add("upsample_argmax", name, {"size": (to_h, to_w), "align_corners": align}, {"x": x}, outputs)


def inflate(cases):
    """A stem's kernel for another number of input channels than 3, by segmentation_models_pytorch's own function."""
    weight = cases.values("inflate.weight", (2, 3, 3, 3))
    for channels in (1, 2, 4, 7):
        stem = torch.nn.Conv2d(3, 2, 3, bias=False)
        stem.weight.data.copy_(weight)
        patch_first_conv(torch.nn.Sequential(stem), channels, pretrained=True)
        cases.add("inflate", f"to_{channels}", {"in_channels": channels}, {"weight": weight}, {"y": stem.weight.detach()})


def preprocess(cases):
    """Bytes to numbers, padded at the right and the bottom."""
    for name, mean, std, pad in (
        ("tf", (127.5,) * 3, (127.5,) * 3, (0.0,) * 3),
        ("imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (0.0, 0.5, -1.0)),
    ):
        x = torch.from_numpy((seeded.uniform(f"preprocess.{name}.x", 2 * 3 * 5 * 7) * 256).astype(np.uint8))
        x = x.reshape(2, 3, 5, 7)
        scale = [1 / s for s in std]
        shift = [-m / s for m, s in zip(mean, std)]
        y = torch.tensor(pad, dtype=torch.float64).reshape(1, 3, 1, 1).expand(2, 3, 8, 9).clone()
        per_channel = [torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (scale, shift)]
        y[:, :, :5, :7] = x.double() * per_channel[0] + per_channel[1]
        attributes = {"size": (8, 9), "scale": scale, "shift": shift, "pad_value": pad}
        cases.add("preprocess", name, attributes, {"x": x}, {"y": y.float()})


def main():
    torch.set_num_threads(1)
    cases = Cases()
    for family in (conv2d, batch_norm, resize, pools, pointwise, classes, inflate, preprocess):
        family(cases)
    path = Path(__file__).parent / "ops/ops.safetensors"
    golden.save(path, cases.tensors, {"cases": json.dumps(cases.cases)})
    size = path.stat().st_size
    assert size < LIMIT, f"{size} bytes"
    print(f"{len(cases.cases)} cases, {size} bytes")


if __name__ == "__main__":
    main()
