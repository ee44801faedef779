"""Distractors of the films: electrodes with their leads, tubes, clips and side markers; never named in a sentence."""

from __future__ import annotations

import numpy as np

from datamodules.twins.anatomy import Array, Grid, smooth
from datamodules.twins.strokes import Strokes

_LETTERS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001"),
}


def distractors(grid: Grid, rng: np.random.Generator, strokes: Strokes, out: Array) -> None:
    """Draw devices: on most films taken in bed (AP), on few others. Adds to `out` in place and to `strokes`."""
    (x, y), bedside = grid.xy, grid.body.view == "AP"
    if rng.random() < (0.6 if bedside else 0.1):
        for _ in range(int(rng.integers(2, 5))):
            cx, cy, end = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.0, 1.0)), float(rng.uniform(-0.7, 0.7))
            strokes.ring(cx, cy, 0.011, 0.012, 0.45)
            strokes.line([cx, (cx + end) / 2 + float(rng.normal(0, 0.08)), end], [cy, cy + 0.35, 1.6], 0.007, 0.22)
    if rng.random() < (0.45 if bedside else 0.03):
        top = float(rng.uniform(0.15, 0.3))
        for shift in (-0.012, 0.012):
            strokes.line([shift, shift - 0.01, shift - 0.015], [-0.55, 0.0, top], 0.006, 0.2)
    if rng.random() < (0.35 if bedside else 0.05):
        sign = -1 if rng.random() < 0.7 else 1
        strokes.line(
            [sign * 0.2, sign * 0.14, -0.06, -0.08], [-0.3, 0.02, 0.18, float(rng.uniform(0.4, 0.55))], 0.007, 0.25
        )
    if rng.random() < 0.06:
        for k in range(5):
            strokes.line([-0.014, 0.014], [0.2 + 0.13 * k, 0.22 + 0.13 * k], 0.009, 0.9)
    if rng.random() < 0.1:
        cx = float(rng.uniform(-0.55, 0.55))
        out += np.float32(0.35) * smooth(np.float32(0.02) - np.hypot(x - np.float32(cx), y - np.float32(-0.12)), 0.004)


def marker(grid: Grid, rng: np.random.Generator, value: Array) -> None:
    """A lead letter in a corner, in place; L on the patient's left, which is the image's right."""
    if rng.random() < 0.25:
        return
    left = rng.random() < 0.6
    glyph = np.array([[int(c) for c in row] for row in _LETTERS["L" if left else "R"]], dtype=np.float32)
    cell = max(1, round(max(grid.height, grid.width) * float(rng.uniform(0.006, 0.01))))
    block = np.kron(glyph, np.ones((cell, cell), np.float32))
    x0, y0, x1, _ = grid.body.field
    row = int(grid.height * (y0 + float(rng.uniform(0.03, 0.13))))
    edge = int(grid.width * float(rng.uniform(0.02, 0.07)))
    column = int(grid.width * x1) - edge - block.shape[1] if left else int(grid.width * x0) + edge
    patch = value[row : row + block.shape[0], column : column + block.shape[1]]
    patch[:] = np.maximum(patch, block * np.float32(rng.uniform(0.7, 1.0)))
