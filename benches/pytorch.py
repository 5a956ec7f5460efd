"""Measures `atrous bench` and PyTorch alternately on this machine, for the tables of docs/benchmarks.md: the same networks (segmentation_models.pytorch's
DeepLabV3Plus, 21 classes, random weights, which `atrous` reads from a file), the same sizes, as many threads as there are cores.

    cargo build --release && python benches/pytorch.py [--train] [--rounds 5] [--device cpu] [--device vulkan:llvmpipe]

Every measurement is a separate process. PyTorch runs in several ways: with default settings, in the memory format that is faster on CPUs
(`channels_last`), and both with glibc configured to keep memory instead of returning it after each run. Ratios are computed per round, to
PyTorch with default settings and to its fastest way. Requires torch, segmentation_models_pytorch, safetensors, Linux, and an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = {"MobileNetV2": "mobilenet_v2", "ResNet-50": "resnet50"}
WAYS = ("default", "channels_last", "memory kept", "channels_last, memory kept")
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000:glibc.malloc.top_pad=268435456:glibc.malloc.hugetlb=1"
INFERENCE, TRAINING = (1, 512), (4, 256)


def network(encoder):
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(1)
    return smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=21)


def write_weights(directory):
    from safetensors.torch import save_file

    for encoder in NETWORKS.values():
        save_file({k: v.contiguous() for k, v in network(encoder).state_dict().items()}, directory / f"{encoder}.safetensors")


def pytorch(encoder, train, channels_last, runs):
    """Prints the milliseconds of the first run and of each later run as JSON; runs in a separate process."""
    import torch
    from torch.nn import functional as F

    batch, size = TRAINING if train else INFERENCE
    module, x = network(encoder), torch.randn(batch, 3, size, size)
    labels = torch.randint(0, 21, (batch, size, size))
    if channels_last:
        module, x = module.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)

    def step():
        sgd.zero_grad()
        F.cross_entropy(module(x), labels).backward()
        sgd.step()

    def infer():
        with torch.inference_mode():
            module(x)

    module.train(train)
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        step() if train else infer()
        times.append(1000 * (time.perf_counter() - start))
    print(json.dumps({"first": times[0], "median": statistics.median(times[2:])}))


def measured(command, **environment):
    """The JSON that a process prints, with its peak memory in MB."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | environment)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {os.waitstatus_to_exitcode(status)}")
    return json.loads(text) | {"peak_mb": usage.ru_maxrss / 1000}


def ours(args, weights, device):
    batch, size = TRAINING if args.train else INFERENCE
    command = [args.atrous, "bench", "--weights", weights, "--device", device, "--batch", str(batch), "--size", str(size), "--json"]
    slow = args.train and device != "cpu"
    command += ["--train", "--runs", "3" if slow else str(args.runs)] if args.train else ["--output", "logits-full", "--tune", "off"]
    report = measured(command)
    first = report["first_ms"] if args.train else report["first"]["total_ms"]
    result = {"first": first, "median": report["warm"]["median_ms"], "peak_mb": report["peak_mb"]}
    return result | ({"need_mib": sum(report["need"].values()) / 2**20} if args.train else {})


def theirs(args, encoder, way):
    command = [sys.executable, __file__, "--one", encoder, "--runs", str(args.runs)]
    command += ["--train"] * args.train + ["--channels-last"] * ("channels_last" in way)
    return measured(command, **({"GLIBC_TUNABLES": KEPT} if "kept" in way else {}))


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def row(title, who, results, name, fastest):
    mine = results[name, who]
    median = lambda key: statistics.median(m[key] for m in mine)
    ratios = lambda way: [m["median"] / t["median"] for m, t in zip(mine, results[name, way])]
    cells = [f"{median('median'):.0f}", spread(ratios(WAYS[0])), spread(ratios(fastest)), f"{median('first'):.0f}", f"{median('peak_mb'):.0f}"]
    cells += [f"{median('need_mib'):.0f}"] if "need_mib" in mine[0] else []
    return " | ".join([f"| {name}, {title}", *cells]) + " |"


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--atrous", type=Path, default=Path("target/release/atrous"))
    args.add_argument("--train", action="store_true")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--runs", type=int, default=8)
    args.add_argument("--device", action="append")
    args.add_argument("--one", help=argparse.SUPPRESS)
    args.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    args.add_argument("--channels-last", action="store_true", help=argparse.SUPPRESS)
    args = args.parse_args()
    if args.one:
        return pytorch(args.one, args.train, args.channels_last, args.runs)
    if args.write:
        return write_weights(args.write)
    devices, results = args.device or ["cpu"], {}
    with tempfile.TemporaryDirectory() as directory:
        # In a child process, because the peak memory of a child starts at that of its parent.
        subprocess.run([sys.executable, __file__, "--write", directory], check=True)
        for turn in range(args.rounds):
            for name, encoder in NETWORKS.items():
                for device in devices:
                    results.setdefault((name, device), []).append(ours(args, f"{directory}/{encoder}.safetensors", device))
                for way in WAYS:
                    results.setdefault((name, way), []).append(theirs(args, encoder, way))
            print(f"round {turn + 1} of {args.rounds} done", file=sys.stderr, flush=True)
    for name in NETWORKS:
        for way in WAYS:
            times = [round(m["median"]) for m in results[name, way]]
            first, peak = (statistics.median(m[key] for m in results[name, way]) for key in ("first", "peak_mb"))
            print(f"{name}, PyTorch {way}: {times} ms, first run {first:.0f} ms, peak {peak:.0f} MB")
        fastest = min(WAYS, key=lambda way: statistics.median(m["median"] for m in results[name, way]))
        print(f"ratios of the rows below: to PyTorch with default settings, to PyTorch {fastest}")
        for device in devices:
            print(row("CPU" if device == "cpu" else device, device, results, name, fastest))


if __name__ == "__main__":
    main()
