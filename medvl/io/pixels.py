"""What every image format shares: the result, the size guard, the grey window and the antialiased shrink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medvl.errors import DataError

MAX_PIXELS = 80_000_000  # twice the largest flat-panel detector; refused from the header, before decoding
SAMPLED = 1_000_000  # percentiles are taken over at least this many pixels of a larger image, on a regular grid
Curve = Callable[[NDArray[Any]], NDArray[Any]]


class ImageArray(NamedTuple):
    """A grey image as it is used, and the size it had.

    Attributes:
        pixels: uint8 `(h, w)`, C-contiguous, bright = dense.
        original: `(H, W)` in the file, as displayed; boxes in [0, 1] refer to it.
    """

    pixels: NDArray[np.uint8]
    original: tuple[int, int]


def guard(path: Path, shape: tuple[int, int]) -> tuple[int, int]:
    """Return `shape` `(H, W)`, or raise `DataError` when it is empty or too large to decode safely."""
    height, width = shape
    if min(shape) < 1:
        raise DataError(f"this image has no pixels ({width} x {height})", where=str(path))
    if height * width > MAX_PIXELS:
        hint = f"at most {MAX_PIXELS:,} pixels are decoded"
        raise DataError(f"this image is too large: {width} x {height} pixels", where=str(path), hint=hint)
    return height, width


def fitted(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Return `(h, w)` with the longest side equal to `size`; an image that is not larger keeps its shape."""
    longest = max(shape)
    if size is None or longest <= size:
        return shape
    return max(1, round(shape[0] * size / longest)), max(1, round(shape[1] * size / longest))


def percentile_window(values: NDArray[Any], window: tuple[float, float]) -> tuple[float, float]:
    """Return the grey values at the two percentiles (0 to 100) of `values`, an array of one or two axes.

    A large image is sampled on a regular grid of every n-th row and column, so the window does not depend on the size
    that the image is shrunk to, and costs a few milliseconds.
    """
    step = max(1, int((values.size / SAMPLED) ** (1 / values.ndim)))
    low, high = np.percentile(values[(slice(None, None, step),) * values.ndim], window)
    return float(low), float(high)


def linear(low: float, high: float) -> Curve:
    """Return the curve that maps `low` to 0 and `high` to 1, unclipped; a flat image maps to 0."""
    scale = 1 / (high - low) if high > low else 0.0
    return lambda values: (values - low) * scale


def to_uint8(values: NDArray[Any], curve: Curve) -> NDArray[np.uint8]:
    """Apply a grey curve (any values in, [0, 1] out) and return uint8; values beyond [0, 1] are clipped.

    Integers go through a table of all grey values between their extremes, many times faster than arithmetic on floats.
    """
    if values.dtype.kind not in "ui" or (span := int(values.max()) - int(values.min())) >= 2**16:
        return _quantised(curve(values.astype(np.float64)))
    low = int(values.min())
    table = _quantised(curve(np.arange(low, low + span + 1, dtype=np.float64)))
    return np.take(table, values if low == 0 else np.subtract(values, low, dtype=np.int64))


def _quantised(unit: NDArray[Any]) -> NDArray[np.uint8]:
    """Round [0, 1] to 0..255; not a number becomes 0."""
    level: NDArray[Any] = np.rint(np.nan_to_num(np.clip(unit, 0, 1)) * 255)
    return level.astype(np.uint8)


def shrink(
    image: Image.Image, shape: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Return the grey `image` (or the part in `box`, xyxy pixels) antialiased to `shape` `(h, w)`."""
    size = (shape[1], shape[0])
    if image.size == size and box in (None, (0, 0, *size)):
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
