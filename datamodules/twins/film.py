"""Paint a plan: attenuation of body, findings and devices, then exposure, noise and the borders of the film."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.twins.anatomy import Anatomy, Array, Grid
from datamodules.twins.bodies import body_density, markings, shoulders
from datamodules.twins.devices import distractors, marker
from datamodules.twins.findings import Finding
from datamodules.twins.lesions import paint_findings
from datamodules.twins.strokes import Strokes

_WORK = 416  # the longest side that is painted; a larger film is enlarged from it and gets its noise at full size


def paint(
    body: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator, difficulty: float, long_side: int
) -> npt.NDArray[np.uint16]:
    """The film of a body with its findings.

    Args:
        body: Anatomy and position.
        findings: What to paint; a lesion's contrast falls from 1.2 to 0.5 of its kind's as difficulty goes 0 to 1.
        rng: Textures, exposure and noise.
        difficulty: 0 easy to 1 hard: contrast of findings, lung markings, noise.
        long_side: Longest side of the film in pixels.

    Returns:
        (height, width) uint16 with values up to 4095.
    """
    grid = Grid(body, *body.shape(min(long_side, _WORK)))
    lines = Strokes(grid)
    added, kept = paint_findings(grid, findings, 1.2 - 0.7 * difficulty, rng, lines)
    shoulders(lines, rng, body)
    out = body_density(grid, rng) + added
    out += markings(grid, rng, float((0.7 + 0.6 * difficulty) * rng.uniform(0.7, 1.2))) * kept
    distractors(grid, rng, lines, out)
    out += lines.render()
    out = ndimage.gaussian_filter(out, float(rng.uniform(0.35, 0.8)))
    value = _develop(out, rng)
    marker(grid, rng, value)
    if long_side > _WORK:
        value = _enlarge(value, body.shape(long_side))
    return _expose(value, Grid(body, *value.shape), rng, difficulty)


def _enlarge(image: Array, shape: tuple[int, int]) -> Array:
    """Bilinear enlargement, one axis at a time."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = np.clip((np.arange(shape[axis], dtype=np.float32) + 0.5) * (size / shape[axis]) - 0.5, 0, size - 1)
        low = np.minimum(at.astype(np.int32), size - 2)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None]
        first = image.take(low, axis)
        image = first + share * (image.take(low + 1, axis) - first)
    return image


def _develop(density: Array, rng: np.random.Generator) -> Array:
    """Film curve: attenuation to brightness in about [0, 1], saturating where little gets through."""
    steep, toe = rng.uniform(1.25, 1.9), rng.uniform(0.0, 0.06)
    value = 1 - np.exp(np.float32(-steep) * (np.maximum(density, 0) + np.float32(toe)))
    return np.asarray(value ** np.float32(rng.uniform(0.9, 1.35)), dtype=np.float32)


def _expose(value: Array, grid: Grid, rng: np.random.Generator, difficulty: float) -> npt.NDArray[np.uint16]:
    """Noise, collimation and a random 12-bit window."""
    value = value + rng.standard_normal(value.shape, dtype=np.float32) * np.float32(
        0.006 + 0.018 * difficulty * rng.random()
    )
    low, high = float(rng.uniform(0, 250)), float(rng.uniform(1900, 4000))
    value *= np.float32(high - low)
    value += np.float32(low)
    value = np.where(grid.field, value, np.float32(low * 0.5))
    return np.clip(np.rint(value), 0, 4095).astype(np.uint16)
