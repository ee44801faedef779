"""Pictures with the size, the smoothness and the grain of large chest radiographs, for timing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

HEIGHT, WIDTH = 3000, 2500
GRAIN = 3.3  # standard deviation in grey values: a grey JPEG of quality 90 has 1.1 bits a pixel, as real ones have


def radiographs(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return `count` pictures `(3000, 2500)` uint8: soft body, dark lungs, bright spine, ribs, quantum noise."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32), 0.8)
    noise *= GRAIN / noise.std()
    y, x = np.mgrid[0 : HEIGHT // 4, 0 : WIDTH // 4].astype(np.float32) / (HEIGHT // 4)
    pictures = []
    for _ in range(count):
        lift, turn = rng.uniform(-0.05, 0.05, 2)
        body = 190 - 120 * np.abs(x - 0.42 + turn * y) ** 1.5
        for side in (-1, 1):
            lung = ((x - 0.42 - side * 0.18) / 0.14) ** 2 + ((y - 0.45 - lift) / 0.3) ** 2
            body -= 90 / (1 + np.exp(12 * (lung - 1)))
        body += 50 * np.exp(-(((x - 0.42 + turn * y) / 0.035) ** 2)) + 8 * np.sin(45 * (y - 0.6 * (x - 0.42) ** 2))
        smooth = Image.fromarray(body.astype(np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = np.roll(noise, tuple(rng.integers(0, 2000, 2)), axis=(0, 1))
        pictures.append(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))
    return pictures


def plain_pillow(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode whole, then resize: how most training code reads a picture; bilinear is Pillow's fastest fair filter."""
    with Image.open(path) as image:
        scale = size / max(image.size)
        shape = round(image.width * scale), round(image.height * scale)
        return np.array(image.convert("L").resize(shape, Image.Resampling.BILINEAR))
