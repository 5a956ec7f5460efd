"""Checksums of images that Pillow scales, for `image::resample`; writes images/resize.json. Needs numpy and pillow."""

import json
import pathlib

import numpy as np
import PIL
from PIL import Image


def pattern(w, h):
    """Without any smooth area, so that a difference in rounding shows: the same formula is in src/image/pillow.rs."""
    i = np.arange(w * h * 3, dtype=np.uint64)
    return (((i * 2654435761) >> 8) % 256).astype(np.uint8).reshape(h, w, 3)


def fnv1a64(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def main():
    cases = []
    for source in [(61, 47), (640, 480)]:
        image = Image.fromarray(pattern(*source))
        for target in [(33, 25), (97, 80), (20, 90), (200, 11), (61, 20), (33, 47), (513, 385)]:
            out = image.resize(target, Image.BILINEAR)
            cases.append({"from": source, "to": target, "fnv1a64": f"{fnv1a64(out.tobytes()):016x}"})
    path = pathlib.Path(__file__).parent / "images" / "resize.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pillow": PIL.__version__, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
