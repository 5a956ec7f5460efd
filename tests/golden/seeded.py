"""Values that both sides can make: every parameter and every input follows from its name, its shape and one small exponent.

README.md of this directory holds the exact definition; the Rust tests repeat it bit for bit.
"""

import numpy as np
import torch

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
BLOCK = 16


def fnv1a64(data):
    """64-bit FNV-1a of a byte string (a `str` is taken as UTF-8)."""
    state = 0xCBF29CE484222325
    for byte in data.encode() if isinstance(data, str) else data:
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def uniform(name, count):
    """`count` numbers in [0, 1), multiples of 2^-24, as float32."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def kind(name, shape):
    """What a parameter is, told from the end of its name and its rank."""
    last = name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    if len(shape) >= 2:
        return "kernel"
    if last in ("running_var", "moving_variance"):
        return "variance"
    if last in ("running_mean", "moving_mean"):
        return "mean"
    if last in ("bias", "beta", "biases", "Conv2D_bias", "depthwise_bias"):
        return "bias"
    if last in ("weight", "gamma"):
        return "gamma"
    raise ValueError(f"{name} {shape}: no rule for this parameter")


def parameter(name, shape, exponent=0):
    """The values of parameter `name` (float32 tensor of `shape`, the layout of its own dialect), times 2^exponent."""
    shape = tuple(int(d) for d in shape)
    u = uniform(name, int(np.prod(shape)))
    f32 = np.float32
    what = kind(name, shape)
    if what == "kernel":
        fan_in = int(np.prod(shape[1:]))
        value = (f32(2) * u - f32(1)) * f32(np.sqrt(np.float64(6) / np.float64(fan_in)))
    elif what == "variance" or what == "gamma":
        value = f32(0.75) + f32(0.5) * u
    else:
        value = f32(0.25) * u - f32(0.125)
    value = value * f32(2.0**exponent)
    assert value.dtype == np.float32
    return torch.from_numpy(value.reshape(shape))


def picture(shape, name="input"):
    """The input [N, C, H, W]: blocks of 16 x 16 pixels of one value in [-2, 2), plus noise in [-0.5, 0.5)."""
    n, c, h, w = shape
    noise = uniform(name, n * c * h * w).reshape(shape)
    grid = (n, c, -(-h // BLOCK), -(-w // BLOCK))
    blocks = uniform(name + ".blocks", int(np.prod(grid))).reshape(grid)
    blocks = blocks.repeat(BLOCK, axis=2)[:, :, :h].repeat(BLOCK, axis=3)[:, :, :, :w]
    f32 = np.float32
    value = f32(2) * (f32(2) * blocks - f32(1)) + (noise - f32(0.5))
    assert value.dtype == np.float32
    return torch.from_numpy(np.ascontiguousarray(value))


def float_names(state):
    """Names and shapes of the float tensors of a state dict, sorted by name (bytewise)."""
    named = [(k, tuple(v.shape)) for k, v in state.items() if v.is_floating_point()]
    return sorted(named, key=lambda item: item[0].encode())


def names_fnv(named):
    """One number for a list of names and shapes: FNV-1a of the lines `NAME 64x3x7x7\\n`."""
    return fnv1a64("".join(f"{name} {'x'.join(map(str, shape))}\n" for name, shape in named))


def main():
    """Prints the check values that README.md states."""

    def bits(values):
        return ", ".join(f"0x{b:08X}" for b in np.asarray(values, dtype=np.float32).view(np.uint32))

    name = "conv1.weight"
    print("fnv1a64:", f"0x{fnv1a64(name):016X}")
    print("u * 2^24:", [int(u * 2**24) for u in uniform(name, 1001)[[0, 1, 1000]]])
    print("parameter:", bits(parameter(name, (64, 3, 7, 7)).numpy().reshape(-1)[[0, 1, 1000]]))
    print("input:", bits(picture((1, 3, 20, 20)).numpy().reshape(-1)[[0, 1, 16, 399, 1199]]))


if __name__ == "__main__":
    main()
