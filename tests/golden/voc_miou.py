"""mIoU of `deeplabv3_mnv2_dm05_voc21` on 13 + 14 VOC pictures, step by step, with the choices that a program has to make.

Usage: ATROUS_DATA=DIRECTORY python voc_miou.py [network output stride [size]]

The recipe (first line of the table), at output stride 16:
1. The picture is scaled by s = 513 / max(width, height): the long side becomes 513, the short side is round(short * s), bilinear
   between pixel centers (align_corners false), in float, not rounded to bytes. Pictures of 513 x 513 stay as they are.
2. It stands at the top left of 513 x 513; the rest is gray, 0 after x / 127.5 - 1.
3. The network; its logits (33 x 33) are enlarged to 513 x 513 bilinearly, corners aligned.
4. The picture's part [rounded height, rounded width] is cut out, enlarged or reduced to the source's size (bilinear between pixel
   centers), and the largest class taken.
5. One confusion matrix over all 27 pictures, mask value 255 left out; IoU for each class; mean over the classes that occur in the masks (18).
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import nets_tf_mobile
from golden import FunctionNet

DATA = Path(os.environ.get("ATROUS_DATA", Path(__file__).parents[3] / "shared"))
CLASSES = 21


def pictures():
    """(RGB picture, mask) of the 13 photographs and the 14 crops."""
    voc, crops = DATA / "data/voc-sample", DATA / "data/voc-crops513"
    for name in (voc / "ImageSets/Segmentation/all.txt").read_text().split():
        yield voc / f"JPEGImages/{name}.jpg", voc / f"SegmentationClass/{name}.png"
    for path in sorted((crops / "images").glob("*.png")):
        yield path, crops / "masks" / path.name


def scaled(image, height, width, method):
    """The picture at another size, float [3, height, width] of 0 to 255."""
    if image.size != (width, height) and method == "bytes":
        image = image.resize((width, height), Image.BILINEAR)
    x = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None]
    if x.shape[2:] == (height, width):
        return x[0]
    align = method == "corners"
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=align)[0]


def run(forward, net, image, size, rounding, method, place):
    """Logits at `size` x `size`, cut to the picture's part."""
    width, height = image.size
    scale = size / max(width, height)
    height, width = (min(size, rounding(side * scale)) for side in (height, width))
    top, left = ((size - height) // 2, (size - width) // 2) if place == "center" else (0, 0)
    x = torch.zeros(1, 3, size, size)
    x[0, :, top : top + height, left : left + width] = scaled(image, height, width, method) / 127.5 - 1
    _, full = forward(net, x)
    return full[:, :, top : top + height, left : left + width]


def labels(full, height, width, method):
    """Classes at the source's size, [height, width]."""
    if method == "labels":
        full = full.argmax(dim=1, keepdim=True).float()
        return F.interpolate(full, size=(height, width), mode="nearest-exact")[0, 0].long()
    return F.interpolate(full, size=(height, width), mode="bilinear", align_corners=False)[0].argmax(dim=0)


def score(confusion):
    """mIoU over the classes in the masks, over those in masks or predictions, and pixel accuracy."""
    hit, truth, answer = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    iou = hit / np.maximum(truth + answer - hit, 1)
    return iou[truth > 0].mean(), iou[truth + answer > 0].mean(), hit.sum() / confusion.sum()


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else "deeplabv3_mnv2_dm05_voc21"
    stride = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 513
    net = FunctionNet(tf=True)
    net.state = load_file(DATA / f"weights/{name}.safetensors")
    forward = nets_tf_mobile.network(CLASSES, stride, 0.5 if "dm05" in name else 1.0)
    data = [(Image.open(p).convert("RGB"), np.array(Image.open(m))) for p, m in pictures()]
    variants = [  # rounding of the short side, scaling of the picture, place, way back
        (round, "float", "top left", "logits"),
        (round, "float", "top left", "labels"),
        (round, "bytes", "top left", "logits"),
        (round, "bytes", "top left", "labels"),
        (round, "corners", "top left", "logits"),
        (round, "float", "center", "logits"),
        (int, "float", "top left", "logits"),
    ]
    print(f"{name}, output stride {stride}, {size} x {size}")
    print("short side  scaling  place     back     mIoU     with predicted  pixels")
    for rounding, scaling, place, back in variants:
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        for image, mask in data:
            full = run(forward, net, image, size, rounding, scaling, place)
            answer = labels(full, *mask.shape, back).numpy()
            counted = mask != 255
            pairs = mask[counted].astype(np.int64) * CLASSES + answer[counted]
            confusion += np.bincount(pairs, minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES)
        mean, wide, pixels = score(confusion)
        how = "round" if rounding is round else "down"
        print(f"{how:10}  {scaling:7}  {place:8}  {back:7}  {mean:.5f}  {wide:.5f}         {pixels:.5f}", flush=True)


if __name__ == "__main__":
    main()
