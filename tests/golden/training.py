"""One step of training of some networks: `python training.py` writes training/CASE.safetensors.

Weights are the seeded ones of the case of the same name in networks/; four pictures of 65 x 65, no dropout, cross entropy of the scores at the
pictures' size, batch norms with the batch's statistics and momentum 0.1.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import golden
import networks
import seeded

DIRECTORY = Path(__file__).parent / "training"
CASES = ("smp_v3plus_mobilenet_v2_os16_65x65", "smp_binary_v3plus_mobilenet_v2_os16_65x65", "vainf_v3plus_resnet50_os16_97x61", "tf_v3plus_xception_41_os16_n2x80x48")
SHAPE = (4, 3, 65, 65)
SAMPLES = 8
IGNORED = 255


def labels(shape, classes):
    """Seeded classes [N, H, W]; one pixel in sixteen is ignored."""
    count = int(np.prod(shape))
    chosen = np.floor(seeded.uniform("labels", count) * np.float32(classes)).astype(np.int64)
    chosen[seeded.uniform("labels.ignored", count) < 1 / 16] = IGNORED
    return torch.from_numpy(chosen.reshape(shape))


def prepare(net):
    """The function's first argument, the trained parameters by name, and all values by name, ready to train."""
    if isinstance(net, golden.FunctionNet):
        net.training = True
        net.state = {name: value.clone() for name, value in net.state.items()}
        trained = {n: v for n, v in net.state.items() if seeded.kind(n, v.shape) not in ("mean", "variance")}
        for value in trained.values():
            value.requires_grad_()
        return net, trained, net.state
    net.module.train()
    for part in net.module.modules():
        if isinstance(part, (nn.Dropout, nn.Dropout2d)):
            part.p = 0.0
    return net.module, dict(net.module.named_parameters()), net.module.state_dict()


def criterion(full, y):
    """Cross entropy, binary where there is one output."""
    if full.shape[1] > 1:
        return F.cross_entropy(full, y, ignore_index=IGNORED)
    counted = y != IGNORED
    return F.binary_cross_entropy_with_logits(full[:, 0][counted], y[counted].to(full.dtype))


def step(net, function, x, y):
    """Loss, gradients by name, and the statistics after the step by name."""
    subject, trained, state = prepare(net)
    _, full = function(subject, x)
    loss = criterion(full, y)
    loss.backward()
    gradients = {name: value.grad.detach().clone() for name, value in trained.items()}
    statistics = {n: v.detach() for n, v in state.items() if v.is_floating_point() and n not in trained}
    return loss.item(), gradients, statistics


def write(case, build, function, shape, config):
    """Writes the golden file of a case."""
    with torch.no_grad():
        net, exact = build(), build()
        for each in (net, exact):
            each.run(function, seeded.picture(shape))
    x, y = seeded.picture(SHAPE), labels((SHAPE[0], *SHAPE[2:]), max(config["classes"], 2))
    loss, gradients, statistics = step(net, function, x, y)
    if isinstance(exact, golden.FunctionNet):
        exact.state = {name: value.double() for name, value in exact.state.items()}
    else:
        exact.module.double()
    exact_loss, exact_gradients, _ = step(exact, function, x.double(), y)
    names = sorted(gradients, key=str.encode)
    errors = [(gradients[n].double() - exact_gradients[n]).norm().item() for n in names]
    norms = [exact_gradients[n].norm().item() for n in names]
    tensors = {
        "loss": np.array([loss], dtype=np.float32),
        "norms": np.array(norms, dtype=np.float32),
        # How far PyTorch's own single precision is from its double precision.
        "errors": np.array(errors, dtype=np.float32),
        "samples": np.stack([samples(exact_gradients[n].float()) for n in names]),
        "statistics": np.stack([samples(statistics[n]) for n in sorted(statistics, key=str.encode)]),
    }
    metadata = {
        "case": case,
        "input_shape": json.dumps(SHAPE),
        "loss": repr(exact_loss),
        "gradients": str(len(names)),
    }
    golden.save(DIRECTORY / f"{case}.safetensors", tensors, metadata)
    size = (DIRECTORY / f"{case}.safetensors").stat().st_size
    over = sum(error > 1e-3 * norm for error, norm in zip(errors, norms))
    print(f"{case}: loss {loss:.6f} ({exact_loss:.6f}), {len(names)} gradients, {over} of them off by over 1e-3 in f32, {size} B", flush=True)


def samples(x):
    """As `golden.sample`, of tensors that may have fewer elements."""
    flat = x.detach().contiguous().reshape(-1).numpy()
    return flat[(np.arange(SAMPLES, dtype=np.int64) * golden.SAMPLE_STEP) % flat.size]


def main():
    torch.set_num_threads(int(os.environ.get("GOLDEN_THREADS", "1")))
    for family in networks.FAMILIES:
        for name, build, function, shape, config in family():
            name += "_" + (f"n{shape[0]}x" if shape[0] > 1 else "") + f"{shape[2]}x{shape[3]}"
            if name in CASES:
                write(name, build, function, shape, config)


if __name__ == "__main__":
    main()
