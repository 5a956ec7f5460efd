"""Losses of segmentations and their gradients by scores of a smaller size: `python losses.py` writes losses/losses.safetensors, and
losses/binary.safetensors for networks with one output.

Cross entropy is PyTorch's, Dice segmentation_models_pytorch's; the focal loss is its paper's equation 5, and hard pixels are chosen as in the
published description of TensorFlow's DeepLab. Everything is computed in double precision.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss

import seeded

PATH = Path(__file__).parent / "losses" / "losses.safetensors"
SMALL, LARGE, CLASSES, IGNORED = (5, 6), (19, 23), 7, 255


def inputs():
    """Logits [2, C, h, w] in [-3, 3), labels [2, H, W] with one ignored pixel in eight and no pixel of the last class, weights [C]."""
    count = 2 * LARGE[0] * LARGE[1]
    logits = 6 * seeded.uniform("loss.logits", 2 * CLASSES * SMALL[0] * SMALL[1]).reshape(2, CLASSES, *SMALL) - 3
    labels = np.floor(seeded.uniform("loss.labels", count) * np.float32(CLASSES - 1)).astype(np.int64)
    labels[seeded.uniform("loss.ignored", count) < 1 / 8] = IGNORED
    weights = 0.5 + seeded.uniform("loss.weights", CLASSES)
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels.reshape(2, *LARGE)), torch.from_numpy(weights)


def loss(full, labels, weights, pixel, share):
    """The loss of scores at the labels' size, with the attributes of our PixelLoss."""
    weight = weights if pixel.get("weighted") else None
    by_pixels = pixel.get("denominator") == "pixels"
    smoothing, gamma = pixel.get("smoothing", 0.0), pixel.get("gamma", 0.0)
    if by_pixels or gamma or pixel.get("mined"):
        each = F.cross_entropy(full, labels, weight, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none").flatten()
        known = torch.where(labels == IGNORED, 0, labels)
        counted = (labels != IGNORED).flatten()
        if gamma:
            p = full.softmax(1).gather(1, known[:, None]).flatten()
            each = each * (1 - p) ** gamma
        if pixel.get("mined"):
            # Of all pixels, ignored ones included; those without a loss are not in the denominator.
            each, chosen = torch.topk(each, int(np.float32(share) * np.float32(each.numel())))
            counted = counted[chosen] & (each != 0)
            known = known.flatten()[chosen]
        of = weights[known.flatten()] if weight is not None and not by_pixels else torch.ones_like(each)
        total = each.sum() / (of * counted).sum()
    else:
        total = F.cross_entropy(full, labels, weight, ignore_index=IGNORED, label_smoothing=smoothing)
    if dice := pixel.get("dice"):
        # Its formula is ours with the numerator and the denominator halved, and adds the constant after that.
        total = total + dice["weight"] * DiceLoss("multiclass", smooth=dice["smooth"] / 2, ignore_index=IGNORED)(full, labels)
    return total


CASES = {
    "plain": {},
    "weighted": {"weighted": True},
    "weighted_by_pixels": {"weighted": True, "denominator": "pixels"},
    "smoothed": {"smoothing": 0.1, "weighted": True},
    "focal": {"gamma": 2.0},
    "focal_weighted": {"gamma": 1.5, "weighted": True},
    "hard": {"mined": True, "denominator": "pixels"},
    "hard_weighted": {"mined": True, "weighted": True, "denominator": "pixels"},
    "dice": {"dice": {"weight": 0.5, "smooth": 0.0}},
    "dice_smoothed": {"dice": {"weight": 1.0, "smooth": 1.0}, "mined": True, "weighted": True},
}


POSITIVE = 3.0
# What one output with a sigmoid is trained with; the attributes are those of our loss over the two classes.
BINARY = {
    "plain": ({}, lambda x, y: F.binary_cross_entropy_with_logits(x, y)),
    "positive_weight": (
        {"weighted": True, "denominator": "pixels"},
        lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(POSITIVE, dtype=x.dtype)),
    ),
    "focal": ({"gamma": 2.0}, lambda x, y: FocalLoss("binary", gamma=2.0)(x, y)),
    "dice": (
        {"dice": {"weight": 1.0, "smooth": 1.0, "background": False}},
        lambda x, y: F.binary_cross_entropy_with_logits(x, y) + DiceLoss("binary", smooth=0.5)(x[None, None], y[None, None]),
    ),
}


def binary(logits, labels):
    """Writes the losses of the first channel of the logits."""
    labels = torch.where(labels == IGNORED, labels, labels % 2)
    small = logits[:, :1].contiguous()
    tensors = {"logits": small, "labels": labels.to(torch.uint8), "weights": torch.tensor([1.0, POSITIVE])}
    records = []
    for i, (name, (pixel, function)) in enumerate(BINARY.items()):
        align_corners = i % 2 == 1
        x = small.double().requires_grad_()
        full = F.interpolate(x, LARGE, mode="bilinear", align_corners=align_corners)[:, 0]
        counted = labels != IGNORED
        value = function(full[counted], labels[counted].double())
        value.backward()
        tensors[f"{name}.gradient"] = x.grad.float()
        records.append({"case": name, "pixel": pixel, "align_corners": align_corners, "share": 1.0, "loss": value.item()})
    path = PATH.with_name("binary.safetensors")
    save_file(tensors, path, metadata={"cases": json.dumps(records)})
    print(f"{path.name}: {len(records)} cases, {path.stat().st_size} bytes")


def main():
    torch.set_num_threads(1)
    logits, labels, weights = inputs()
    tensors = {"logits": logits, "labels": labels.to(torch.uint8), "weights": weights}
    records = []
    for i, (name, pixel) in enumerate(CASES.items()):
        align_corners, share = i % 2 == 1, 0.3
        x = logits.double().requires_grad_()
        full = F.interpolate(x, LARGE, mode="bilinear", align_corners=align_corners)
        value = loss(full, labels, weights.double(), pixel, share)
        value.backward()
        tensors[f"{name}.gradient"] = x.grad.float()
        records.append({"case": name, "pixel": pixel, "align_corners": align_corners, "share": share, "loss": value.item()})
    PATH.parent.mkdir(exist_ok=True)
    binary(logits, labels)
    save_file(tensors, PATH, metadata={"cases": json.dumps(records)})
    print(f"{PATH.name}: {len(records)} cases, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
