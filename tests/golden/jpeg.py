"""Small JPEGs of every subsampling with checksums of Pillow's (libjpeg-turbo's) pixels; writes images/jpeg.json. Needs numpy, pillow, ffmpeg."""

import base64
import io
import json
import pathlib
import subprocess

import numpy as np
import PIL
from PIL import Image, features

from resize import fnv1a64


def scene(w, h):
    """Edges of strong color, gradients and some noise."""
    y, x = np.mgrid[:h, :w]
    rgb = np.stack([x * 255 // w, y * 255 // h, (x * y) % 256], -1).astype(np.uint8)
    rgb[(x // 5 + y // 7) % 3 == 0] = [230, 20, 40]
    rgb[(x - w // 2) ** 2 + (y - h // 2) ** 2 < 64] = [10, 60, 240]
    return Image.fromarray(rgb)


def pillow(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80, **options)
    return out.getvalue()


def ffmpeg(image, layout):
    raw = image.tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{image.width}x{image.height}", "-i", "-"]
    command += ["-pix_fmt", layout, "-q:v", "4", "-f", "mjpeg", "-"]
    return subprocess.run(command, input=raw, stdout=subprocess.PIPE, check=True).stdout


def main():
    files = {}
    for w, h in [(45, 37), (32, 16), (3, 5), (5, 1), (1, 1)]:
        image = scene(w, h)
        for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
            files[f"{name} {w}x{h}"] = pillow(image, subsampling=subsampling)
            files[f"{name} progressive {w}x{h}"] = pillow(image, subsampling=subsampling, progressive=True)
    image = scene(45, 37)
    files["420 restarts"] = pillow(image, subsampling=2, restart_marker_blocks=2)
    files["420 progressive restarts"] = pillow(image, subsampling=2, progressive=True, restart_marker_blocks=1)
    files["420 coarse"] = pillow(image, subsampling=2, qtables=[[255] * 64, [255] * 64])
    files["440"] = ffmpeg(image, "yuvj440p")
    files["411"] = ffmpeg(image, "yuvj411p")
    cases = []
    for name, data in files.items():
        pixels = Image.open(io.BytesIO(data)).convert("RGB")
        cases.append({"name": name, "file": base64.b64encode(data).decode(), "fnv1a64": f"{fnv1a64(pixels.tobytes()):016x}"})
    path = pathlib.Path(__file__).parent / "images" / "jpeg.json"
    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    path.write_text(json.dumps({**versions, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
