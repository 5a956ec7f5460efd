"""Exported ONNX files against `atrous infer`: `python onnx_check.py PROGRAM [NAME ..]`.

Every backbone and head by name, and every weight file in ATROUS_DATA/weights and weights/, each at a fixed size and, where the padding allows it,
at an open one: checked by onnx.checker, run in ONNX Runtime, compared with the logits that the program's CPU executor computes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[2]
NAMES = ("mobilenet_v2", "mobilenet_v2_0.5", "mobilenet_v3", "resnet18", "resnet50", "resnet101", "resnet50_beta", "xception41", "xception65", "xception71")
HEADS = ("v3", "plus", "plus-separable", "phone")
SIZES = ((97, 65), (128, 96))


def subjects():
    """Names, and arguments of `export` for a network."""
    data = os.environ.get("ATROUS_DATA")
    files = sorted((ROOT / "weights").glob("*.safetensors")) + (sorted(Path(data, "weights").glob("*.safetensors")) if data else [])
    for file in files:
        yield file.stem, [str(file)]
    for name in NAMES:
        for head in HEADS:
            yield f"{name} {head}", ["--network", name, "--head", head, "--seed", "3"]


def run(program, *args):
    """Runs the program; its error text if it fails."""
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


def compare(program, args, size, options, directory):
    """Largest difference of the logits, or why there is no file."""
    path, w, h = directory / "net.onnx", *size
    if error := run(program, "export", *args, path, *options):
        return error
    onnx.checker.check_model(onnx.load(path), full_check=True)
    x = np.random.default_rng(7).normal(size=(1, 3, h, w)).astype(np.float32)
    save_file({"input": x}, directory / "x.safetensors")
    got = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
    weights = args[0]
    if len(args) > 1:
        weights = directory / "net.safetensors"
        if error := run(program, "export", *args, weights, "--dialect", "atrous"):
            return error
    if error := run(program, "infer", "--weights", weights, "--input", directory / "x.safetensors", "-o", directory / "y.safetensors", "--device", "cpu"):
        return error
    want = load_file(directory / "y.safetensors")
    want = want.get("logits_full", want.get("features"))
    assert got.shape == want.shape, (got.shape, want.shape)
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for name, args in subjects():
            if wanted and not any(part in name for part in wanted):
                continue
            for size in SIZES:
                for options in (["--batch", "1", "--size", f"{size[0]}x{size[1]}"], []):
                    result = compare(program, args, size, options, Path(directory))
                    print(f"{name:40} {size[0]}x{size[1]} {'fixed' if options else 'open ':5}  {result if isinstance(result, str) else f'{result:.1e}'}", flush=True)
                    worst = max(worst, result) if isinstance(result, float) else worst
    print(f"worst: {worst:.1e}")
    sys.exit(worst > 1e-3)


if __name__ == "__main__":
    main()
