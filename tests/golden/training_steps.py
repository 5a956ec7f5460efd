"""Twenty steps of training of the networks of training.py: `python training_steps.py` writes training/CASE.steps.safetensors.

The same four pictures of 65 x 65 in every step, no dropout, gradient descent with momentum 0.9, weight decay of the kernels alone, a rate that falls
to zero by DeepLab's polynomial; the backbone has 3e-4 of it, since gradients of random weights grow towards the input. Losses and running
statistics are those of double precision; beside them stands how far PyTorch's own single precision is from them after so many steps.

`python training_steps.py --look RATE ..` writes nothing and prints the losses at these rates, and how far rounding takes them.
"""

import json
import os
import sys

import numpy as np
import torch

import golden
import networks
import seeded
import training

STEPS = 20
# Small enough that rounding, which every ReLU near its corner makes larger, stays far below what is compared.
RATES = {"smp_v3plus_mobilenet_v2": 0.001, "smp_binary_v3plus_mobilenet_v2": 0.001, "vainf_v3plus_resnet50": 3e-4, "tf_v3plus_xception_41": 3e-4}
MOMENTUM = 0.9
DECAY = 5e-4
BACKBONE = 3e-4
POWER = 0.9


def labels(shape, classes):
    """The class of a block of 16 x 16 pixels follows from its first color; one pixel in sixteen is ignored."""
    n, c, h, w = shape
    rows, columns = -(-h // seeded.BLOCK), -(-w // seeded.BLOCK)
    blocks = seeded.uniform("input.blocks", n * c * rows * columns).reshape(n, c, rows, columns)[:, 0]
    chosen = np.floor(blocks * np.float32(classes)).astype(np.int64)
    chosen = chosen.repeat(seeded.BLOCK, axis=1)[:, :h].repeat(seeded.BLOCK, axis=2)[:, :, :w].copy()
    chosen.reshape(-1)[seeded.uniform("labels.ignored", n * h * w) < 1 / 16] = training.IGNORED
    return torch.from_numpy(chosen)


def train(net, function, x, y, base):
    """The loss of each step, and the statistics after the last by name."""
    subject, trained, state = training.prepare(net)
    groups = {}
    for name, value in trained.items():
        backbone = name.startswith(("encoder.", "backbone.", "xception_"))
        groups.setdefault((BACKBONE if backbone else 1.0, DECAY if value.dim() > 1 else 0.0), []).append(value)
    groups = [{"params": values, "factor": factor, "weight_decay": decay} for (factor, decay), values in groups.items()]
    assert len(groups) == 4
    optimizer = torch.optim.SGD(groups, lr=base, momentum=MOMENTUM)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = base * group["factor"] * (1 - step / STEPS) ** POWER
        optimizer.zero_grad()
        loss = training.criterion(function(subject, x)[1], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {n: v.detach() for n, v in state.items() if v.is_floating_point() and n not in trained}


def write(case, build, function, shape, config, base):
    """Writes the golden file of a case."""
    with torch.no_grad():
        nets = [build(), build()]
        for net in nets:
            net.run(function, seeded.picture(shape))
    if isinstance(nets[1], golden.FunctionNet):
        nets[1].state = {name: value.double() for name, value in nets[1].state.items()}
    else:
        nets[1].module.double()
    x, y = seeded.picture(training.SHAPE), labels(training.SHAPE, max(config["classes"], 2))
    single, exact = train(nets[0], function, x, y, base), train(nets[1], function, x.double(), y, base)
    names = sorted(exact[1], key=str.encode)
    off = max(abs(a - b) / b for a, b in zip(single[0], exact[0]))
    errors = [(single[1][n].double() - exact[1][n]).norm().item() for n in names]
    norms = [exact[1][n].norm().item() for n in names]
    worst = max(e / n for e, n in zip(errors, norms))
    print(f"{case}: rate {base}, loss {exact[0][0]:.4f} to {exact[0][-1]:.4f}, f32 off by {off:.1e}, statistics by {worst:.1e}", flush=True)
    print("   ", " ".join(f"{v:.3f}" for v in exact[0]), flush=True)
    if "--look" in sys.argv:
        print("   ", sum(e > 1e-4 * n for e, n in zip(errors, norms)), "of", len(norms), "statistics off by over 1e-4", flush=True)
        print("   ", " ".join(f"{abs(a - b) / b:.0e}" for a, b in zip(single[0], exact[0])), flush=True)
        return
    tensors = {
        "norms": np.array(norms, dtype=np.float32),
        # How far PyTorch's own single precision is from its double precision.
        "errors": np.array(errors, dtype=np.float32),
        "samples": np.stack([training.samples(exact[1][n].float()) for n in names]),
    }
    metadata = {
        "case": case,
        "input_shape": json.dumps(training.SHAPE),
        "losses": json.dumps(exact[0]),
        "losses_f32": json.dumps(single[0]),
        "recipe": json.dumps({"rate": base, "power": POWER, "momentum": MOMENTUM, "decay": DECAY, "backbone": BACKBONE}),
    }
    golden.save(training.DIRECTORY / f"{case}.steps.safetensors", tensors, metadata)


def main():
    torch.set_num_threads(int(os.environ.get("GOLDEN_THREADS", "1")))
    for family in networks.FAMILIES:
        for name, build, function, shape, config in family():
            case = name + "_" + (f"n{shape[0]}x" if shape[0] > 1 else "") + f"{shape[2]}x{shape[3]}"
            if case in training.CASES:
                start = case.split("_os")[0]
                for base in [float(a) for a in sys.argv[1:] if not a.startswith("-")] or [RATES[start]]:
                    write(case, build, function, shape, config, base)


if __name__ == "__main__":
    main()
