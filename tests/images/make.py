"""Makes the images of this directory with Pillow: kinds that the `image` crate cannot write. Run in this directory."""
import numpy as np
from PIL import Image

small = Image.fromarray(np.fromfunction(lambda y, x, c: (x * 9 + y * 5 + c * 40) % 256, (16, 24, 3)).astype(np.uint8))
exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
small.save("progressive.jpg", progressive=True, quality=60)
small.save("lossy.webp", quality=60, method=6)
small.save("turned.webp", quality=60, method=6, exif=exif)
Image.fromarray(np.full((8, 8, 4), 60, np.uint8), "CMYK").save("cmyk.jpg", quality=60)
frames = [Image.fromarray(np.full((4, 4, 3), v, np.uint8)) for v in (0, 120, 250)]
frames[0].save("animated.webp", save_all=True, append_images=frames[1:], lossless=True)
frames[0].save("animated.png", save_all=True, append_images=frames[1:])
frames[1].save("pages.tif", save_all=True, append_images=frames[1:])
