"""Trains a CamVid recipe in PyTorch, for comparison with `atrous train`: the same network, losses, optimizer, schedule and kinds of
augmentation, with draws of its own. Prints the mIoU on the validation set as training goes on.

    python camvid.py --data camvid/ --recipe ../../recipes/camvid.toml [--init mobilenetv2_imagenet1k.safetensors] --out RESULT.json

Keeps what it needs to go on in RESULT.json.state, every 100 steps; called again, it goes on from there.
Needs torch, torchvision, numpy, pillow, safetensors.
"""

import argparse
import json
import math
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

CLASSES, IGNORED = 11, 11
RATES = (6, 12, 18)
# Expansion, channels, repeats, stride (MobileNetV2, table 2).
GROUPS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def layer(cin, cout, k=1, stride=1, rate=1, groups=1, act=nn.ReLU):
    conv = nn.Conv2d(cin, cout, k, stride, rate * (k // 2), rate, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), act() if act else nn.Identity())


def separable(cin, cout, rate=1):
    return nn.Sequential(layer(cin, cin, 3, rate=rate, groups=cin), layer(cin, cout))


class Block(nn.Module):
    def __init__(self, cin, cout, stride, rate, expansion):
        super().__init__()
        c = cin * expansion
        self.expand = layer(cin, c, act=nn.ReLU6) if expansion > 1 else nn.Identity()
        self.depthwise = layer(c, c, 3, stride, rate, c, nn.ReLU6)
        self.project = layer(c, cout, act=None)
        self.add = stride == 1 and cin == cout

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.add else y


class Network(nn.Module):
    """DeepLabv3+ at output stride 16 on MobileNetV2, with separable convolutions in ASPP and decoder."""

    def __init__(self, dropout):
        super().__init__()
        self.stem = layer(3, 32, 3, 2, act=nn.ReLU6)
        blocks, cin, reached, rate = [], 32, 2, 1
        for expansion, cout, repeats, stride in GROUPS:
            for i in range(repeats):
                step, before = stride if i == 0 else 1, rate
                if reached * step <= 16:
                    reached *= step
                else:
                    rate, step = rate * step, 1
                blocks.append(Block(cin, cout, step, before, expansion))
                cin = cout
        self.blocks = nn.ModuleList(blocks)
        self.conv1x1 = layer(320, 256)
        self.rates = nn.ModuleList([separable(320, 256, rate) for rate in RATES])
        self.pool = layer(320, 256)
        self.project = layer(1280, 256)
        self.dropout = nn.Dropout(dropout)
        self.low_level = layer(24, 48)
        self.decoder = nn.Sequential(separable(304, 256), separable(256, 256))
        self.logits = nn.Conv2d(256, CLASSES, 1)

    def forward(self, x):
        size, x = x.shape[-2:], self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 2:
                low = self.low_level(x)
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        x = self.project(torch.cat([self.conv1x1(x), *(rate(x) for rate in self.rates), pooled], 1))
        x = F.interpolate(self.dropout(x), low.shape[-2:], mode="bilinear", align_corners=False)
        x = self.logits(self.decoder(torch.cat([x, low], 1)))
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    def begin(self):
        """He's variance, uniform; norms and biases as usual."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = math.sqrt(6 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def backbone(self):
        return nn.ModuleList([self.stem, self.blocks])

    def load_backbone(self, path):
        """Weights under torchvision's names: its network has the same layers in the same order."""
        theirs = torchvision.models.mobilenet_v2()
        theirs.load_state_dict(load_file(path), strict=False)
        tensors = lambda module: [v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")]
        theirs, ours = tensors(theirs.features[:18]), tensors(self.backbone())
        assert len(theirs) == len(ours)
        with torch.no_grad():
            for found, own in zip(theirs, ours):
                own.copy_(found)


class Pictures:
    """A part of the data set in memory, and random crops of it."""

    def __init__(self, root, part, recipe, rng):
        names = (root / f"{part}.txt").read_text().split()
        self.pictures = [Image.open(root / part / f"{n}.png").convert("RGB") for n in names]
        self.masks = [Image.open(root / f"{part}annot" / f"{n}.png") for n in names]
        self.how, self.rng, self.order = recipe["augmentation"], rng, []

    def crop(self):
        if not self.order:
            self.order = list(self.rng.permutation(len(self.pictures)))
        i, rng, (h, w) = self.order.pop(), self.rng, self.how["crop"]
        scale = rng.uniform(*self.how["scale"])
        picture, mask = self.pictures[i], self.masks[i]
        size = tuple(max(1, round(scale * n)) for n in picture.size)
        picture, mask = picture.resize(size, Image.BILINEAR), np.asarray(mask.resize(size, Image.NEAREST))
        room = (max(mask.shape[0] - h, 0), max(mask.shape[1] - w, 0))
        at = [int(rng.integers(0, r + 1)) for r in room]
        if rng.random() < self.how.get("balanced", 0):
            classes = np.unique(mask[mask < CLASSES])
            spots = np.argwhere(mask == rng.choice(classes))
            spot = spots[rng.integers(len(spots))]
            at = [int(np.clip(s - n // 2, 0, r)) for s, n, r in zip(spot, (h, w), room)]
        box = (at[1], at[0], at[1] + min(w, size[0]), at[0] + min(h, size[1]))
        picture, mask = picture.crop(box), mask[box[1] : box[3], box[0] : box[2]]
        pixels = self.normal(self.jitter(np.asarray(picture, np.float32), self.how.get("jitter", 0)))
        x, y = np.zeros((3, h, w), np.float32), np.full((h, w), 255, np.int64)
        x[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        y[: mask.shape[0], : mask.shape[1]] = np.where(mask < CLASSES, mask, 255)
        return (x[:, :, ::-1], y[:, ::-1]) if rng.random() < self.how.get("flip", 0.5) else (x, y)

    gray = np.array([0.299, 0.587, 0.114])

    def jitter(self, picture, strength):
        """Brightness, contrast, saturation and, by up to a tenth of the strength, hue: a turn around the gray axis (Rodrigues' formula)."""
        brightness, contrast, saturation = self.rng.uniform(1 - strength, 1 + strength, 3)
        angle = 2 * math.pi * self.rng.uniform(-strength / 10, strength / 10)
        picture = picture * brightness
        picture = contrast * picture + (1 - contrast) * (picture @ self.gray).mean()
        picture = saturation * picture + (1 - saturation) * (picture @ self.gray)[..., None]
        axis = np.full(3, 1 / math.sqrt(3))
        across = np.cross(np.eye(3), axis)
        turn = math.cos(angle) * np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * np.outer(axis, axis)
        return np.clip(picture @ turn.T, 0, 255)

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def normal(self, picture):
        return ((picture / 255 - self.mean) / self.std).astype(np.float32).transpose(2, 0, 1)

    def batch(self, n):
        x, y = zip(*(self.crop() for _ in range(n)))
        return torch.from_numpy(np.stack(x)), torch.from_numpy(np.stack(y))


def scores(network, pictures):
    network.eval()
    confusion = np.zeros((CLASSES, CLASSES))
    with torch.no_grad():
        for picture, mask in zip(pictures.pictures, pictures.masks):
            found = network(torch.from_numpy(pictures.normal(np.asarray(picture)))[None]).argmax(1)[0].numpy()
            truth = np.asarray(mask)
            counted = truth != IGNORED
            np.add.at(confusion, (truth[counted], found[counted]), 1)
    network.train()
    right = np.diag(confusion)
    ious = right / np.maximum(confusion.sum(0) + confusion.sum(1) - right, 1)
    return float(ious.mean()), float(right.sum() / confusion.sum()), ious.tolist()


def groups(network, recipe):
    """Kernels decay, norms and biases do not; the backbone has a rate of its own."""
    inside = {id(p) for p in network.backbone().parameters()}
    rates = recipe.get("groups", {})
    out = []
    for p in network.parameters():
        rate = rates.get("backbone", 1.0) if id(p) in inside else rates.get("head", 1.0)
        out.append({"params": [p], "factor": rate, "weight_decay": rates.get("weight_decay", 1e-4) if p.dim() > 1 else 0.0})
    return out


def main():
    args = argparse.ArgumentParser()
    for name in ("data", "recipe", "init", "out"):
        args.add_argument(f"--{name}", type=Path, required=name in ("data", "recipe"))
    args.add_argument("--steps", type=int)
    args = args.parse_args()
    recipe = tomllib.loads(args.recipe.read_text())
    steps, seed = args.steps or recipe["steps"], recipe.get("seed", 1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    if recipe.get("network", {}).get("preprocess") == "tensorflow":
        Pictures.mean, Pictures.std = np.full(3, 0.5), np.full(3, 0.5)
    network = Network(recipe.get("network", {}).get("dropout", 0.1))
    network.begin()
    if args.init:
        network.load_backbone(args.init)
    training, validation = Pictures(args.data, "train", recipe, rng), Pictures(args.data, "val", recipe, rng)
    optimizer = recipe["optimizer"]
    assert optimizer["kind"] == "adam_w"
    adam = torch.optim.AdamW(groups(network, recipe), betas=tuple(optimizer["betas"]), eps=optimizer["eps"])
    weights = recipe.get("data", {}).get("class_weights")
    weights = None if weights is None else torch.tensor(weights)
    warmup, base = recipe.get("warmup", 0), recipe["learning_rate"]
    told, start, first = [], time.time(), 0
    state = args.out and args.out.with_name(args.out.name + ".state")
    if state and state.exists():
        # Made by this script alone.
        kept = torch.load(state, weights_only=False)
        network.load_state_dict(kept["network"])
        adam.load_state_dict(kept["adam"])
        torch.set_rng_state(kept["torch"])
        rng.bit_generator.state, training.order = kept["numpy"], kept["order"]
        told, first = kept["told"], kept["step"]
    # On the processor a step then takes 0.95 s, and 1.74 s in PyTorch's usual order of memory.
    network.to(memory_format=torch.channels_last)
    for step in range(first, steps):
        done = (step - warmup) / (steps - warmup)
        rate = base * (step + 1) / warmup if step < warmup else max(base * (1 - done) ** 0.9, 1e-6)
        for group in adam.param_groups:
            group["lr"] = rate * group["factor"]
        x, y = training.batch(recipe["batch"])
        x = x.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(x), y, weights, ignore_index=255)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.get("max_norm", 1e9))
        adam.step()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1}/{steps}  loss {loss.item():.4f}  {(time.time() - start) / (step + 1 - first):.2f} s a step", flush=True)
        if (step + 1) % recipe.get("evaluate_every", 1000) == 0 or step + 1 == steps:
            miou, accuracy, ious = scores(network, validation)
            told.append({"step": step + 1, "mean_iou": miou, "pixel_accuracy": accuracy, "class_ious": ious})
            print(f"step {step + 1}: mIoU {miou:.4f}, {100 * accuracy:.1f} % of the pixels", flush=True)
            if args.out:
                args.out.write_text(json.dumps(told, indent=1))
        if state and (step + 1) % 100 == 0:
            kept = {"network": network.state_dict(), "adam": adam.state_dict(), "torch": torch.get_rng_state()}
            kept |= {"numpy": rng.bit_generator.state, "order": training.order, "told": told, "step": step + 1}
            torch.save(kept, state.with_suffix(".new"))
            state.with_suffix(".new").rename(state)


main()
