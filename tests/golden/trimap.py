"""Scores in bands around the void annotation (DeepLabv3+ paper, section 4.4), by scipy's binary dilation; writes eval/trimap.json.

Needs numpy and scipy. A band of width w is the void dilated by a disk of radius w, without the void itself.
"""

import json
import pathlib

import numpy as np
from scipy import ndimage

VOID, CLASSES = 255, 4


def scene():
    """Three blobs with a line of void around each, void in a corner, and two classes that touch without void between them."""
    h, w = 40, 56
    y, x = np.mgrid[:h, :w]
    truth = np.zeros((h, w), np.uint8)
    for label, (cy, cx, r) in {1: (12, 14, 8), 2: (24, 38, 11), 3: (33, 10, 5)}.items():
        distance = np.hypot(y - cy, x - cx)
        truth[distance <= r + 1.5] = VOID
        truth[distance <= r] = label
    truth[:3, 50:] = VOID
    truth[28:, 50:] = 3
    # The prediction: everything a pixel lower and two to the right, void filled by the background.
    guess = np.roll(np.where(truth == VOID, 0, truth), (1, 2), (0, 1))
    return truth, guess


def disk(radius):
    n = int(radius)
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    return y * y + x * x <= radius * radius


def score(truth, guess, band):
    inside = band & (truth != VOID)
    t, p = truth[inside], guess[inside]
    # As everywhere here: the mean over the classes that occur in the truth.
    ious = [((t == c) & (p == c)).sum() / ((t == c) | (p == c)).sum() for c in range(CLASSES) if (t == c).any()]
    return {"pixels": int(inside.sum()), "mean_iou": float(np.mean(ious)), "pixel_accuracy": float((t == p).mean())}


def main():
    truth, guess = scene()
    void = truth == VOID
    widths = [1.0, 2.0, 2.5, 4.0, 9.0]
    bands = [{"width": w, **score(truth, guess, ndimage.binary_dilation(void, disk(w)))} for w in widths]
    out = {"width": truth.shape[1], "classes": CLASSES, "truth": truth.ravel().tolist(), "prediction": guess.ravel().tolist()}
    path = pathlib.Path(__file__).parent / "eval" / "trimap.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**out, "bands": bands}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
