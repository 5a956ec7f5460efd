"""Draws street.png, a street for the README, so that no photo with a license of its own is needed. Needs Pillow and numpy."""
from PIL import Image, ImageDraw, ImageFilter
import math, random
import numpy as np

random.seed(11)
rng = np.random.default_rng(11)
S, W, H = 3, 480, 360
VX, VY = 250, 158  # where parallel lines of the street meet
EYE = 1.5  # meters above the road


def at(x, y, z):
    """Pixel of a point x meters to the right, y above the road, z ahead."""
    f = 300 / z
    return (VX + x * f) * S, (VY + (EYE - y) * f) * S


def canvas():
    return Image.new("RGBA", (W * S, H * S), (0, 0, 0, 0))


def noise(size, cell, strength):
    """Blotches of a size in pixels, around 0."""
    small = rng.normal(0, strength, (size[1] // cell + 2, size[0] // cell + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize(size, Image.BICUBIC))


def textured(layer, grain):
    """The layer with blotches of several sizes over its colors."""
    a = np.asarray(layer).astype(np.float32)
    spread = sum(noise(layer.size, cell, s) for cell, s in grain)
    a[..., :3] = np.clip(a[..., :3] + spread[..., None] * (a[..., 3:] > 0), 0, 255)
    return Image.fromarray(a.astype(np.uint8))


def quad(d, points, fill):
    d.polygon([at(*p) for p in points], fill=fill)


def wall(d, x, z0, z1, y0, y1, fill):
    """An upright rectangle along the street."""
    quad(d, [(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], fill)


# Sky with thin clouds.
sky = np.zeros((H * S, W * S, 3), np.float32)
t = np.linspace(0, 1, H * S)[:, None]
for c, (top, low) in enumerate([(120, 205), (175, 225), (225, 240)]):
    sky[..., c] = top + (low - top) * np.clip(t * 2.2, 0, 1)
sky += np.clip(noise((W * S, H * S), 160, 14), 0, 40)[..., None]
scene = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8)).convert("RGBA")

# Far end of the street.
far = canvas()
d = ImageDraw.Draw(far)
for x, w, h, gray in [(-9, 7, 8, 120), (-3, 5, 6, 135), (2, 5, 7, 128), (6, 6, 5, 115), (11, 8, 6, 122)]:
    quad(d, [(x, 0, 90), (x, h, 90), (x + w, h, 90), (x + w, 0, 90)], (gray, gray - 6, gray - 14, 255))
scene.alpha_composite(textured(far, [(8, 8)]))

# The ground: road, kerbs, pavements.
ground = canvas()
d = ImageDraw.Draw(ground)
quad(d, [(-40, 0, 1.6), (-40, 0, 300), (40, 0, 300), (40, 0, 1.6)], (74, 75, 80, 255))
for side in (-1, 1):
    quad(d, [(side * 4, 0.12, 1.6), (side * 4, 0.12, 300), (side * 8, 0.12, 300), (side * 8, 0.12, 1.6)], (104, 100, 100, 255))
    quad(d, [(side * 4, 0, 1.6), (side * 4, 0.12, 1.6), (side * 4, 0.12, 300), (side * 4, 0, 300)], (140, 138, 134, 255))
    quad(d, [(side * 3.6, 0, 1.6), (side * 3.72, 0, 1.6), (side * 3.72, 0, 300), (side * 3.6, 0, 300)], (150, 132, 70, 255))
    for z in np.arange(3, 40, 1.2):
        quad(d, [(side * 4, 0.12, z), (side * 8, 0.12, z), (side * 8, 0.12, z + 0.04), (side * 4, 0.12, z + 0.04)], (88, 85, 85, 255))
for z in np.arange(4, 80, 5.5):
    quad(d, [(0.4, 0, z), (0.52, 0, z), (0.52, 0, z + 2.4), (0.4, 0, z + 2.4)], (188, 188, 184, 255))
scene.alpha_composite(textured(ground, [(3, 4), (24, 3), (120, 3)]))

# A terrace on the left, far houses first.
z = 70.0
while z > 2.5:
    depth = random.uniform(5, 8)
    near, height = max(z - depth, 1.2), random.uniform(8, 11)
    color = random.choice([(150, 120, 98), (128, 92, 76), (168, 156, 138), (110, 96, 90)])
    house = canvas()
    d = ImageDraw.Draw(house)
    wall(d, -8, near, z, 0, height, color + (255,))
    wall(d, -8, near, z, height - 0.4, height, tuple(int(c * 0.7) for c in color) + (255,))
    wall(d, -8, near + 0.15, z - 0.15, 0.3, 3, (42, 44, 46, 255))
    wall(d, -8, near + 0.15, z - 0.15, 3, 3.6, random.choice([(38, 60, 52, 255), (90, 34, 34, 255), (48, 52, 78, 255)]))
    for y in (4.4, 7.0):
        for k in np.arange(near + 0.6, z - 1.3, 1.9):
            if y + 1.6 < height:
                wall(d, -8, k - 0.1, k + 1.2, y - 0.1, y + 1.7, (196, 192, 184, 255))
                wall(d, -8, k, k + 1.1, y, y + 1.6, (52, 58, 66, 255))
                wall(d, -8, k + 0.5, k + 0.6, y, y + 1.6, (186, 184, 178, 255))
    scene.alpha_composite(textured(house, [(4, 5), (40, 7)]))
    z = near


def branch(d, x, y, angle, length, width):
    if length < 3.2 or width < 0.5:
        return
    x2, y2 = x + length * math.cos(angle), y - length * math.sin(angle)
    shade = random.randint(44, 78)
    d.line([(x * S, y * S), (x2 * S, y2 * S)], fill=(shade + 12, shade, shade - 8, 255), width=max(1, round(width * S)))
    for _ in range(3 if length < 26 else 2):
        branch(d, x2, y2, angle + random.gauss(0, 0.55), length * random.uniform(0.62, 0.84), width * 0.66)


# Trees, a wall and railings on the right.
for z in (46, 36, 28, 22, 17, 13, 10):
    tree = canvas()
    d = ImageDraw.Draw(tree)
    foot = at(10.5, 0, z)
    for _ in range(3):
        branch(d, foot[0] / S, foot[1] / S, math.pi / 2 + random.gauss(0, 0.12), 720 / z, 110 / z)
    for _ in range(500):
        x, y = foot[0] + random.gauss(0, 520 * S / z), foot[1] - (1700 + random.gauss(0, 420)) * S / z
        r = random.uniform(12, 34) * S / z
        green = random.randint(48, 84)
        d.ellipse([x - r, y - r, x + r, y + r], fill=(green + 10, green, green - 26, 60))
    scene.alpha_composite(textured(tree, [(3, 7)]))
fence = canvas()
d = ImageDraw.Draw(fence)
wall(d, 8, 2, 60, 0, 0.7, (112, 98, 84, 255))
for z in np.concatenate([np.arange(3, 20, 0.28), np.arange(20, 60, 0.8)]):
    wall(d, 8, z, z + 0.05, 0.7, 1.9, (30, 32, 34, 255))
wall(d, 8, 2, 60, 1.75, 1.82, (30, 32, 34, 255))
scene.alpha_composite(textured(fence, [(4, 6)]))


def box(d, x, z, w, h, fill, y=0.0):
    quad(d, [(x, y, z), (x, y + h, z), (x + w, y + h, z), (x + w, y, z)], fill)


def car(x, z, color):
    c = canvas()
    d = ImageDraw.Draw(c)
    dark = tuple(int(v * 0.55) for v in color)
    quad(d, [(x, 0.06, z), (x - 0.1, 0.0, z), (x + 1.9, 0.0, z), (x + 1.8, 0.06, z)], (28, 28, 30, 255))
    for i in (0, 1.5):
        box(d, x + i + 0.05, z, 0.25, 0.5, (20, 20, 22, 255))
    d.rounded_rectangle([*at(x, 0.95, z), *at(x + 1.8, 0.25, z)], radius=36 * S / z, fill=color + (255,))
    quad(d, [(x + 0.15, 0.9, z), (x + 0.35, 1.42, z + 0.8), (x + 1.45, 1.42, z + 0.8), (x + 1.65, 0.9, z)], dark + (255,))
    quad(d, [(x + 0.27, 0.93, z), (x + 0.42, 1.36, z + 0.7), (x + 1.38, 1.36, z + 0.7), (x + 1.53, 0.93, z)], (92, 106, 120, 255))
    box(d, x + 0.55, z, 0.7, 0.14, (210, 208, 190, 255), 0.42)
    for i in (0.1, 1.42):
        d.ellipse([*at(x + i, 0.78, z), *at(x + i + 0.28, 0.56, z)], fill=(226, 226, 214, 255))
    scene.alpha_composite(textured(c, [(5, 5)]))


def person(x, z, coat, bicycle=False):
    c = canvas()
    d = ImageDraw.Draw(c)
    lift, f = (0.45, 300 / z * S) if bicycle else (0.0, 300 / z * S)
    if bicycle:
        cx, cy = at(x + 0.2, 0.34, z)
        d.ellipse([cx - 0.09 * f, cy - 0.34 * f, cx + 0.09 * f, cy + 0.34 * f], outline=(16, 16, 18, 255), width=max(1, int(0.05 * f)))
        d.line([at(x + 0.2, 0.5, z), at(x + 0.2, 1.0, z)], fill=(30, 30, 34, 255), width=max(1, int(0.06 * f)))
    for i in (0.05, 0.22):
        d.line([at(x + i + 0.05, lift * 0.4, z), at(x + 0.2, 0.85 + lift * 0.4, z)], fill=(34, 36, 48, 255), width=max(1, int(0.15 * f)))
    d.rounded_rectangle([*at(x, 1.5 + lift * 0.5, z), *at(x + 0.42, 0.78 + lift * 0.5, z)], radius=0.12 * f, fill=coat + (255,))
    hx, hy = at(x + 0.21, 1.64 + lift * 0.5, z)
    d.ellipse([hx - 0.11 * f, hy - 0.14 * f, hx + 0.11 * f, hy + 0.13 * f], fill=(120, 92, 76, 255))
    d.pieslice([hx - 0.12 * f, hy - 0.16 * f, hx + 0.12 * f, hy + 0.1 * f], 180, 360, fill=(40, 34, 32, 255))
    scene.alpha_composite(textured(c, [(4, 6)]))


def pole(x, z, height, sign=None, light=False):
    c = canvas()
    d = ImageDraw.Draw(c)
    box(d, x, z, 0.11, height, (92, 94, 96, 255))
    cx, cy = at(x + 0.055, height - 0.2, z)
    r = 0.32 * 300 / z * S
    if sign:
        d.ellipse([cx - r, cy - r, cx + r, cy + r], fill=(184, 40, 40, 255))
        d.ellipse([cx - r * 0.72, cy - r * 0.72, cx + r * 0.72, cy + r * 0.72], fill=sign + (255,))
    if light:
        d.rounded_rectangle([cx - r * 0.6, cy - r * 1.5, cx + r * 0.6, cy + r * 1.5], radius=r * 0.2, fill=(22, 24, 24, 255))
        for i, color in enumerate([(70, 22, 20), (74, 58, 20), (60, 210, 120)]):
            y = cy + (i - 1) * r * 0.95
            d.ellipse([cx - r * 0.36, y - r * 0.36, cx + r * 0.36, y + r * 0.36], fill=color + (255,))
    scene.alpha_composite(c)


pole(4.5, 30, 3.2, light=True)
car(1.6, 24, (150, 30, 34))
person(-6.2, 15, (52, 60, 88))
person(5.6, 14, (88, 40, 44))
pole(-4.7, 13, 2.9, sign=(236, 236, 230))
car(1.5, 12, (104, 118, 136))
person(-2.2, 11, (186, 186, 178), bicycle=True)
pole(4.6, 9, 4.6, light=True)

# Shadow across the street, then the camera's softness and grain.
shadow = Image.new("L", (W * S, H * S), 0)
d = ImageDraw.Draw(shadow)
d.polygon([at(-8, 0, 1.7), at(1.6, 0, 1.7), at(0.2, 0, 300), at(-8, 0, 300)], fill=92)
scene.paste(Image.new("RGBA", scene.size, (18, 20, 30, 255)), (0, 0), shadow.filter(ImageFilter.GaussianBlur(4 * S)))
image = scene.convert("RGB").resize((W, H), Image.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
grained = np.asarray(image).astype(np.float32) + rng.normal(0, 1.5, (H, W, 3))
Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8)).save("street.png")
