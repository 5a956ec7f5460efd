"""Fills a network with seeded values, runs it, and writes what came out. Every network goes through here.

Two ways to state a network: a module of a public library (`ModuleNet`), or a function over named operations (`FunctionNet`)
for the code bases that are not installable. Both choose the exponents of the seeded values while they run for the first time.
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import seeded

STAGE_SAMPLES = 256
LOGITS_SAMPLES = 512
LABEL_SAMPLES = 4096
SAMPLE_STEP = 1_000_003
# Bytes of logits and labels up to which both are stored completely.
COMPLETE = 46 * 1024
LIMIT = 64 * 1024
LOGITS_STD = 2.0


def centring_bias(x):
    """A classifier's bias that takes the mean over positions out of `x`, in sixteenths: without it one class wins everywhere."""
    return (-x.double().mean(dim=(0, 2, 3)) * 16).round().float() / 16


def spread_exponent(x, target=1.0):
    """The power of two by which `x` [N, C, H, W] must be divided so that its values spread by about `target`.

    The spread is over the positions, because a network whose positions all look alike tests little; a map of one pixel is
    measured from zero.
    """
    x = x.double()
    if x.shape[2] * x.shape[3] > 1:
        x = x - x.mean(dim=(0, 2, 3), keepdim=True)
    spread = x.square().mean().sqrt().item()
    return round(math.log2(spread / target)) if spread > 0 else 0


class FunctionNet:
    """Parameters that come into being where they are used, so that names and shapes fall out of the code."""

    def __init__(self, tf=False, weights=None):
        """`weights`: trained values in place of seeded ones."""
        self.tf = tf
        self.training = False
        self.weights = weights
        self.state = dict(weights or {})
        self.exponents = {}
        self.stored = {}
        self.stages = {}

    def keep(self, stage, x):
        """Records a stage's output."""
        self.stages[stage] = x.clone()
        return x

    def parameter(self, name, shape, exponent=0):
        """The seeded parameter `name`; `exponent` counts only when it is asked for the first time."""
        if name not in self.state:
            self.exponents[name] = exponent
            self.state[name] = seeded.parameter(name, shape, exponent)
        assert tuple(self.state[name].shape) == tuple(shape), name
        return self.state[name]

    def conv(self, name, x, out, k=1, stride=1, dilation=1, groups=1, pad="same", bias=False, classifier=False):
        """Convolution without normalization.

        `pad`: "same" is symmetric (what PyTorch code writes as dilation * (k - 1) / 2), "tf" is TensorFlow's SAME, a number
        is that many pixels on every side. `bias`: True, or the bias's own name; the kernel's exponent then makes the output spread
        by about 1, by LOGITS_STD where it is the `classifier`, whose bias is stored.
        """
        reach = dilation * (k - 1)
        if pad == "same":
            pads = (reach // 2, reach - reach // 2) * 2
        elif pad == "tf":
            pads = ()
            for extent in (x.shape[3], x.shape[2]):
                total = max((-(-extent // stride) - 1) * stride + reach + 1 - extent, 0)
                pads += (total // 2, total - total // 2)
        else:
            pads = (pad,) * 4
        x = F.pad(x, pads)
        depthwise = self.tf and groups > 1
        kernel = name + (("/depthwise_weights" if depthwise else "/weights") if self.tf else ".weight")
        shape = (out, x.shape[1] // groups, k, k)
        bias_name = {True: name + ("/biases" if self.tf else ".bias"), False: None}.get(bias, f"{name}/{bias}")
        if bias and kernel not in self.state:
            raw = F.conv2d(x, seeded.parameter(kernel, shape), None, stride, 0, dilation, groups)
            exponent = -spread_exponent(raw, LOGITS_STD if classifier else 1.0)
            self.parameter(kernel, shape, exponent)
            self.parameter(bias_name, (out,))
            if classifier and raw.shape[2] * raw.shape[3] > 1:
                self.state[bias_name] = self.stored[bias_name] = centring_bias(raw * 2.0**exponent)
        offset = self.parameter(bias_name, (out,)) if bias else None
        return F.conv2d(x, self.parameter(kernel, shape), offset, stride, 0, dilation, groups)

    def batch_norm(self, name, x, eps=1e-5):
        """Batch normalization; its mean and variance take their exponents from `x`. In training, those of the batch, and PyTorch's momentum."""
        names = ("/gamma", "/beta", "/moving_mean", "/moving_variance")
        if not self.tf:
            names = (".weight", ".bias", ".running_mean", ".running_var")
        exponent = spread_exponent(x) if name + names[3] not in self.state else 0
        gamma, beta, mean, variance = (
            self.parameter(name + suffix, (x.shape[1],), e) for suffix, e in zip(names, (0, 0, exponent, 2 * exponent))
        )
        return F.batch_norm(x, mean, variance, gamma, beta, self.training, 0.1, eps)

    def run(self, function, x):
        """Runs `function(net, x) -> (logits, logits_full)` twice: to find the exponents, and with them."""
        first = function(self, x)
        names = list(self.state)
        assert self.weights is None or len(names) == len(self.weights), "the file lacks some parameters"
        self.stages = {}
        second = function(self, x)
        assert names == list(self.state)
        assert same(first, second), "the second run differs"
        return second

    def run_f64(self, function, x):
        """The same in double precision, to see the rounding error of single precision."""
        self.state = {name: value.double() for name, value in self.state.items()}
        return function(self, x.double())

    def parameters(self):
        """Number of trained values (running statistics left out)."""
        return sum(v.numel() for k, v in self.state.items() if seeded.kind(k, v.shape) not in ("mean", "variance"))


class ModuleNet:
    """A module of a public library. `stages` maps a stage's name to the module whose output it is."""

    def __init__(self, module, stages, classifiers=(), weights=None):
        """`weights`: trained values in place of seeded ones."""
        self.module = module.eval()
        self.weights = weights
        self.classifiers = classifiers
        self.stages = {}
        self.exponents = {}
        self.stored = {}
        self.state = module.state_dict()
        self.tuned = set()
        for name, value in self.state.items():
            if value.is_floating_point():
                self.exponents[name] = 0
                value.copy_(seeded.parameter(name, value.shape) if weights is None else weights[name])
            else:
                assert name.endswith("num_batches_tracked"), name
        for stage, path in stages.items():
            module.get_submodule(path).register_forward_hook(
                lambda _m, _i, out, stage=stage: self.stages.__setitem__(stage, out.clone())
            )
        self.tuning = [
            part.register_forward_pre_hook(
                lambda m, inputs, path=path: self.tune(path, m, inputs[0])
            )
            for path, part in module.named_modules()
            if weights is None
            and (isinstance(part, nn.BatchNorm2d) or (isinstance(part, nn.Conv2d) and part.bias is not None))
        ]
        assert all(module.get_submodule(path).bias is not None for path in classifiers)

    def tune(self, path, part, x):
        """Sets the exponents of one layer just before it runs for the first time."""
        if path in self.tuned:
            return
        self.tuned.add(path)
        if isinstance(part, nn.BatchNorm2d):
            exponent = spread_exponent(x)
            chosen = {"running_mean": exponent, "running_var": 2 * exponent}
        else:
            raw = F.conv2d(x, part.weight, None, part.stride, part.padding, part.dilation, part.groups)
            classifier = path in self.classifiers
            exponent = -spread_exponent(raw, LOGITS_STD if classifier else 1.0)
            chosen = {"weight": exponent}
            if classifier and raw.shape[2] * raw.shape[3] > 1:
                self.stored[path + ".bias"] = centring_bias(raw * 2.0**exponent)
                part.bias.copy_(self.stored[path + ".bias"])
        for suffix, exponent in chosen.items():
            name = f"{path}.{suffix}"
            self.exponents[name] = exponent
            self.state[name].copy_(seeded.parameter(name, self.state[name].shape, exponent))

    def run(self, function, x):
        """As `FunctionNet.run`, with `function(module, x)`."""
        first = function(self.module, x)
        for hook in self.tuning:
            hook.remove()
        self.stages = {}
        second = function(self.module, x)
        assert same(first, second), "the second run differs"
        return second

    def run_f64(self, function, x):
        """As `FunctionNet.run_f64`."""
        return function(self.module.double(), x.double())

    def parameters(self):
        """Number of trained values."""
        return sum(p.numel() for p in self.module.parameters())


def same(first, second):
    """Whether two runs gave the same bits; a network without logits gives None."""
    return all(a is b is None or torch.equal(a, b) for a, b in zip(first, second))


def sample(x, count):
    """`count` elements of `x`, in its flat order: element (k * SAMPLE_STEP) mod len for k = 0, 1, ..."""
    flat = x.detach().contiguous().reshape(-1).numpy()
    positions = (np.arange(count, dtype=np.int64) * SAMPLE_STEP) % flat.size
    assert len(set(positions.tolist())) == min(count, flat.size), f"samples of {tuple(x.shape)} coincide"
    return flat[positions]


DTYPES = {"float32": "F32", "int32": "I32", "int8": "I8", "uint8": "U8"}


def save(path, tensors, metadata):
    """Writes a safetensors file whose bytes depend on its content alone (the library's order of metadata changes from run to run)."""
    header, offset, parts = {"__metadata__": dict(sorted(metadata.items()))}, 0, []
    # Wide types first keeps every tensor aligned.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        value = np.ascontiguousarray(value)
        end = offset + value.nbytes
        header[name] = {"dtype": DTYPES[str(value.dtype)], "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
        parts.append(value.astype(value.dtype.newbyteorder("<")).tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def write(path, net, function, shape, config, stage_samples=STAGE_SAMPLES):
    """Runs a network on the seeded input of `shape` and writes the golden file."""
    x = seeded.picture(shape)
    with torch.no_grad():
        logits, full = net.run(function, x)
        stages = dict(net.stages)
        exact = net.run_f64(function, x)
    named = seeded.float_names(net.state)
    tensors = {}
    if net.weights is None:
        tensors["exponents"] = np.array([net.exponents[name] for name, _ in named], dtype=np.int8)
    for name, value in net.stored.items():
        tensors[f"parameter.{name}"] = value.numpy()
    for stage, value in stages.items():
        assert value.isfinite().all(), stage
        tensors[f"stage.{stage}.samples"] = sample(value, stage_samples)
        tensors[f"stage.{stage}.shape"] = np.array(value.shape, dtype=np.int32)
    metadata = {
        "config": json.dumps(config),
        "input_shape": json.dumps(list(shape)),
        "stages": json.dumps(list(stages)),
        "names_fnv": f"{seeded.names_fnv(named):016x}",
        "tensors": str(len(named)),
        "parameters": str(net.parameters()),
        "sample_step": str(SAMPLE_STEP),
    }
    note = ""
    if logits is not None:
        assert logits.isfinite().all() and full.isfinite().all()
        error = (logits.double() - exact[0]).abs().max().item()
        metadata["f32_error"] = f"{error:.3e}"
        # One output is a sigmoid: the foreground where it is above 0.5.
        scores = full if full.shape[1] > 1 else torch.cat([torch.zeros_like(full), full], dim=1)
        labels = scores.argmax(dim=1)
        if logits.numel() * 4 + labels.numel() <= COMPLETE:
            tensors["logits"] = logits.contiguous().numpy()
            tensors["argmax"] = labels.numpy().astype(np.uint8)
        else:
            tensors["logits.samples"] = sample(logits, LOGITS_SAMPLES)
            tensors["argmax.samples"] = sample(labels, LABEL_SAMPLES).astype(np.uint8)
        tensors["logits_full.samples"] = sample(full, LOGITS_SAMPLES)
        tensors["logits_full.shape"] = np.array(full.shape, dtype=np.int32)
        shares = np.sort(np.bincount(labels.reshape(-1), minlength=scores.shape[1]) / labels.numel())[::-1]
        top = scores.topk(2, dim=1).values
        close = ((top[:, 0] - top[:, 1]) < 2e-3).double().mean().item()
        note = (
            f"std {full.std():.2f} max {full.abs().max():.1f} classes {int((shares > 0).sum())} "
            f"largest {shares[0]:.2f} second {shares[1]:.2f} close {close:.1e} "
            f"f32 error {error:.1e}"
        )
    save(path, tensors, metadata)
    size = path.stat().st_size
    assert size < LIMIT, f"{path.name}: {size} bytes"
    print(f"{path.stem:44} {size:6} B  {net.parameters():10} parameters  {note}", flush=True)
