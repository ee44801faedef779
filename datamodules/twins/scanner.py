"""Another scanner's look on a finished film: what a model meets when it moves to another hospital."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.twins.shapes import Box

Appearance = Literal["plain", "shifted"]
_POWER = 5  # of the rounded shutter: 2 is an ellipse, many a rectangle


def rescanned(image: npt.NDArray[np.uint16], boxes: Iterable[Box], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Return a film as another scanner would give it; what it shows stays where it is.

    Its contrast curve is S-shaped and lifts the lungs, edges are enhanced, noise is coarse and stronger where little
    gets through, and a shutter with round corners leaves a bright border.

    Args:
        image: (height, width) with values up to 4095.
        boxes: Boxes (xyxy in [0, 1]) that the shutter must not cut.
        rng: Draws curve, noise and shutter.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    value = np.clip((image - low) / max(high - low, 1), 0, 1).astype(np.float32)
    value = value ** np.float32(rng.uniform(0.55, 0.75))
    steep = float(rng.uniform(5.0, 7.0))
    curve = 1 / (1 + np.exp(-steep * (value - np.float32(0.62))))
    radius = 0.012 * max(image.shape)
    curve += np.float32(rng.uniform(0.5, 0.9)) * (curve - ndimage.gaussian_filter(curve, radius))
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.9) * np.float32(3)
    curve += grain * np.float32(rng.uniform(0.012, 0.022)) * (np.float32(0.6) + value)
    curve = np.where(_open(image.shape, boxes, rng), np.clip(curve, 0, 1), np.float32(1))
    return np.rint(curve * np.float32(4095)).astype(np.uint16)


def _open(shape: tuple[int, ...], boxes: Iterable[Box], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return the part of the film that the shutter leaves open."""
    height, width = shape[0], shape[1]
    corners = [(x, y) for x1, y1, x2, y2 in boxes for x in (x1, x2) for y in (y1, y2)]
    needed = max((_radius(np.float64(x), np.float64(y)) for x, y in corners), default=0.0)
    radius = max(float(rng.uniform(0.94, 1.0)), needed + 0.01)
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.asarray(_radius(x[None], y[:, None]) < radius)


def _radius(
    x: npt.NDArray[np.float64] | np.float64, y: npt.NDArray[np.float64] | np.float64
) -> npt.NDArray[np.float64]:
    u, v = np.abs(2 * x - 1) ** _POWER, np.abs(2 * y - 1) ** _POWER
    return np.asarray((u + v) ** (1 / _POWER))
