"""Random shapes as annotation tools write them, with the pixels that the tools' own code gives them; writes annotations/shapes.json.

Needs numpy, pillow, pycocotools, opencv-python-headless, and the source files of two packages, which are loaded alone
(`pip install --no-deps labelme label-studio-sdk loguru`). The file here was made with pycocotools 2.0.11, OpenCV 5.0.0, Pillow 13.0.0,
labelme 5.8.1 and label-studio-sdk of 2026.
"""

import base64
import importlib.util
import io
import json
import pathlib
import sysconfig

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco

SIZES = [(40, 31), (23, 48), (7, 5), (64, 64)]
rng = np.random.default_rng(7)


def load(path):
    """A module of an installed package without the package, which would import graphical libraries."""
    file = pathlib.Path(sysconfig.get_paths()["purelib"]) / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


labelme = load("labelme/utils/shape.py")
brush = load("label_studio_sdk/converter/brush.py")


def points(w, h, n, margin=0.2):
    """Points of a random polygon, some outside: any order, around a center, or on whole pixels."""
    kind = rng.integers(4)
    if kind == 0:
        angles = np.sort(rng.uniform(0, 2 * np.pi, n))
        radii = rng.uniform(0.2, 0.6, n)[:, None] * [w, h]
        out = np.stack([np.cos(angles), np.sin(angles)], -1) * radii + [w / 2, h / 2]
    else:
        out = rng.uniform([-margin * w, -margin * h], [w * (1 + margin), h * (1 + margin)], (n, 2))
    if kind == 2:
        out = np.round(out)
    return np.round(out, 2)


def runs(mask):
    """Lengths of runs of 0 and 1 in turn, down the columns."""
    flat = np.concatenate([[0], mask.astype(np.uint8).ravel(order="F"), [0]])
    at = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], at, [mask.size]]))
    return [int(c) for c in (counts if mask.ravel(order="F")[-1] == 0 or counts[-1] > 0 else counts[:-1])]


def case(tool, w, h, entry, mask):
    return {"tool": tool, "width": w, "height": h, "entry": entry, "runs": runs(mask)}


def coco_cases():
    for i in range(48):
        w, h = SIZES[i % len(SIZES)]
        parts = [points(w, h, rng.integers(3, 9)).ravel().tolist() for _ in range(1 + i % 2)]
        parts = [part for part in parts if len(part) != 4]
        yield case("coco", w, h, parts, coco.decode(coco.merge(coco.frPyObjects(parts, h, w))))
    for i in range(8):
        w, h = SIZES[i % len(SIZES)]
        mask = np.asfortranarray(rng.random((h, w)) < 0.03 + 0.1 * (i % 4))
        code = coco.encode(mask.astype(np.uint8))
        yield case("coco", w, h, {"size": [h, w], "counts": code["counts"].decode()}, mask)


def yolo_cases():
    for i in range(48):
        w, h = SIZES[i % len(SIZES)]
        normal = np.clip(points(w, h, rng.integers(3, 9), 0.05) / [w, h], 0, 1).round(6)
        scaled = normal.astype(np.float32) * np.array([w, h], np.float32)
        mask = np.zeros((h, w), np.uint8)
        cv2.fillPoly(mask, [scaled.astype(np.int32)], color=(1,))
        yield case("yolo", w, h, " ".join(str(v) for v in normal.ravel()), mask)


def labelme_cases():
    for i in range(48):
        w, h = SIZES[i % len(SIZES)]
        kind = ["polygon", "polygon", "polygon", "rectangle", "circle", "mask"][i % 6]
        shape = {"shape_type": kind, "points": points(w, h, rng.integers(3, 9)).tolist()}
        if kind == "polygon":
            mask = labelme.shape_to_mask((h, w), shape["points"], kind)
        elif kind == "rectangle":
            corners = np.sort(points(w, h, 2), axis=0)
            shape["points"] = corners.tolist()
            mask = labelme.shape_to_mask((h, w), shape["points"], kind)
        elif kind == "circle":
            shape["points"] = points(w, h, 2).tolist()
            mask = labelme.shape_to_mask((h, w), shape["points"], kind)
        else:
            x0, y0 = rng.integers(0, [w - 2, h - 2])
            x1, y1 = rng.integers([x0, y0], [w, h])
            part = rng.random((y1 - y0 + 1, x1 - x0 + 1)) < 0.5
            png = io.BytesIO()
            Image.fromarray(part.astype(np.uint8)).save(png, "PNG")
            shape["points"] = [[float(x0), float(y0)], [float(x1), float(y1)]]
            shape["mask"] = base64.b64encode(png.getvalue()).decode()
            mask = np.zeros((h, w), bool)
            mask[y0 : y1 + 1, x0 : x1 + 1] = part
        yield case("labelme", w, h, shape, mask)


def label_studio_cases():
    for i in range(10):
        w, h = SIZES[i % len(SIZES)]
        percent = (points(w, h, rng.integers(3, 9), 0) / [w, h] * 100).tolist()
        flat = [c for x, y in percent for c in (x / 100 * w, y / 100 * h)]
        mask = coco.decode(coco.merge(coco.frPyObjects([flat], h, w)))
        yield case("label_studio", w, h, {"points": percent, "polygonlabels": ["thing"]}, mask)
    for i in range(3):
        w, h = SIZES[i]
        area = np.zeros((h, w), np.uint8)
        area[1 : h // 2, 2 : w // 2] = 255
        area[rng.random((h, w)) < 0.03] = 255
        pixels = np.repeat(area.ravel(), 4)
        code = brush.encode_rle(pixels)
        decoded = np.reshape(brush.decode_rle(code), (h, w, 4))[:, :, 3]
        yield case("label_studio", w, h, {"format": "rle", "rle": [int(b) for b in code], "brushlabels": ["thing"]}, decoded > 0)


def main():
    cases = [*coco_cases(), *yolo_cases(), *labelme_cases(), *label_studio_cases()]
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    out = pathlib.Path(__file__).parent / "annotations/shapes.json"
    out.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
