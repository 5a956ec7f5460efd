"""Writes tests/golden/pth/*.pth with PyTorch. Run from the repository's root: `python tests/golden/pth.py`.

Element i of every tensor, in row-major order, is ((i + seed) * 37 % 101 - 50) / 16: exact in every float type,
and computed again by tests/weights/golden_values.rs.
"""

import collections
import io
import pathlib
import zipfile

import numpy
import torch

OUT = pathlib.Path("tests/golden/pth")


def tensor(dims, seed, dtype=torch.float32):
    count = int(numpy.prod(dims, dtype=int))
    values = [((i + seed) * 37 % 101 - 50) / 16 for i in range(count)]
    return torch.tensor(values, dtype=dtype).reshape(dims)


def network(prefix="", dtype=torch.float32):
    return collections.OrderedDict(
        [
            (prefix + "conv.weight", tensor([4, 3, 3, 3], 1, dtype)),
            (prefix + "conv.bias", tensor([4], 2, dtype)),
            (prefix + "bn.num_batches_tracked", torch.tensor(7)),
        ]
    )


def module():
    """A state dict as modules make it: with `_metadata` on the dict."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = net.state_dict()
    for seed, (name, value) in enumerate(state.items()):
        if value.is_floating_point():
            value.copy_(tensor(list(value.shape), seed))
    return state


def strided():
    base = tensor([2, 3, 4], 5)
    # What is read must be tensor([..], seed) in the tensor's own order, so lay it out for the view.
    return collections.OrderedDict(
        [
            ("transposed", tensor([3, 5], 1).t().contiguous().t()),
            ("channels_last", tensor([2, 3, 4, 5], 2).to(memory_format=torch.channels_last)),
            ("expanded", torch.zeros(1, 3).expand(1000, 3)),
            ("whole", base),
            ("part", base[1, 1:]),
            ("step", torch.stack([tensor([6], 3), torch.full([6], float("nan"))], 1).reshape(12)[::2]),
            ("single", tensor([], 4)),
            ("empty", torch.zeros(0, 3)),
        ]
    )


def wrapped():
    tagged = torch.nn.Parameter(tensor([3], 3))
    tagged.note = "kept with the tensor"
    return {
        "parameter": torch.nn.Parameter(tensor([2, 2], 1)),
        "buffer": torch.nn.Buffer(tensor([2], 2)),
        "tagged": tagged,
        "grad": tensor([2], 4).requires_grad_(),
    }


def kinds():
    return collections.OrderedDict(
        [
            ("f64", tensor([3], 1, torch.float64)),
            ("f32", tensor([3], 2)),
            ("f16", tensor([3], 3, torch.float16)),
            ("bf16", tensor([3], 4, torch.bfloat16)),
            ("i64", torch.arange(3)),
            ("i32", torch.arange(3, dtype=torch.int32)),
            ("i16", torch.arange(3, dtype=torch.int16)),
            ("i8", torch.arange(3, dtype=torch.int8)),
            ("u64", torch.arange(3).to(torch.uint64)),
            ("u32", torch.arange(3).to(torch.uint32)),
            ("u16", torch.arange(3).to(torch.uint16)),
            ("u8", torch.arange(3, dtype=torch.uint8)),
            ("bool", torch.tensor([True, False])),
            ("complex", torch.zeros(2, dtype=torch.complex64)),
            ("f8", torch.zeros(2).to(torch.float8_e4m3fn)),
            ("quantised", torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)),
            ("sparse", torch.eye(2).to_sparse()),
            ("nothing", None),
            ("state", {"a": 1}),
            ("version", 3),
            ("name", "kinds"),
        ]
    )


def checkpoint():
    parameters = [torch.nn.Parameter(tensor([4], 9)) for _ in range(3)]
    optimizer = torch.optim.Adam(parameters, lr=0.007)
    for parameter in parameters:
        parameter.grad = torch.ones(4)
    optimizer.step()
    return {
        "epoch": 12,
        "best_score": 0.75,
        "arch": "deeplabv3plus",
        "numpy": numpy.float64(0.5),
        "optimizer": optimizer.state_dict(),
        "state_dict": network("module."),
        "done": True,
    }


class Tree(torch.nn.Module):
    """Modules in modules: a child that is absent, one with two names, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.zeros(2))
        self.register_buffer("scratch", torch.ones(7), persistent=False)
        self.block = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
        self.again = self.block
        self.downsample = None
        self.heads = torch.nn.ModuleList([torch.nn.Conv2d(4, 2, 1, bias=False)])


def tree():
    net = Tree()
    values = dict(zip(("scale", "block.0.weight", "block.0.bias", "block.1.weight", "block.1.bias"), range(5)))
    values |= {"block.1.running_mean": 5, "block.1.running_var": 6, "heads.0.weight": 8}
    state = net.state_dict()
    for name, seed in values.items():
        state[name].copy_(tensor(list(state[name].shape), seed))
    return net


def deflated():
    packed = io.BytesIO()
    torch.save(network(), packed)
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(OUT / "deflated.pth", "w") as target:
        for info in source.infolist():
            # A fixed time, so that the file is the same every time.
            entry = zipfile.ZipInfo(info.filename, (2000, 1, 1, 0, 0, 0))
            target.writestr(entry, source.read(info), zipfile.ZIP_DEFLATED, 9)


def main():
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)

    def save(name, value, **options):
        torch.save(value, OUT / f"{name}.pth", **options)

    old = {"_use_new_zipfile_serialization": False}
    save("module", module())
    save("half", network(dtype=torch.float16))
    save("strided", strided())
    save("wrapped", wrapped())
    save("kinds", kinds())
    save("checkpoint", checkpoint())
    save("unknown_name", {"generation": 4, "weights_of_the_net": network(), "one": {"x": tensor([2], 1)}})
    save("in_a_tuple", (network(), 3))
    save("protocol5", checkpoint(), pickle_protocol=5)
    save("whole_model", torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))
    save("modules", tree())
    save("modules_protocol4", tree(), pickle_protocol=4)
    save("legacy", network(), **old)
    save("legacy_strided", strided(), **old)
    save("legacy_checkpoint", checkpoint(), **old)
    save("legacy_protocol4", network("module.", torch.float16), pickle_protocol=4, **old)
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), OUT / "script.pth")
    deflated()


main()
