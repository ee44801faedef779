"""Shapes of lesions: masks over a grid in the body frame, and the boxes around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from datamodules.twins.anatomy import Array, Grid, smooth

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Lesion:
    """One place of a finding: a shape, its numbers, and the words for where it is and how large.

    `side` is `right`, `left` or `midline` (the patient's); `zone` is `upper`, `middle`, `lower` or empty; `grade` is
    the size: 0, 1 or 2.
    """

    shape: str
    side: str
    zone: str
    grade: int
    numbers: dict[str, float] = field(default_factory=dict)


def _own_side(grid: Grid, lesion: Lesion) -> Array:
    x = grid.xy[0]
    return np.asarray((x > 0) if lesion.side == "left" else (x < 0), dtype=np.float32)


def _seen(grid: Grid, lesion: Lesion) -> Array:
    """The lung of the lesion's side, less what the heart hides."""
    return smooth(grid.lung, 0.012) * smooth(-grid.heart - 0.02, 0.04) * _own_side(grid, lesion)


def _blob(grid: Grid, lesion: Lesion) -> Array:
    """An ellipse with a wavy outline, cut to its lung where `inside` is set."""
    n = lesion.numbers
    x, y = grid.xy
    dx, dy = x - np.float32(n["x"]), y - np.float32(n["y"])
    c, s = np.float32(np.cos(n.get("tilt", 0.0))), np.float32(np.sin(n.get("tilt", 0.0)))
    u, v = (c * dx + s * dy) / np.float32(n["a"]), (c * dy - s * dx) / np.float32(n["b"])
    r = np.sqrt(u * u + v * v)
    rough = np.float32(n.get("rough", 0.0))
    if rough:
        phi = np.arctan2(v, u)
        p = np.float32(n["phase"])
        r = r * (1 + rough * (np.sin(3 * phi + p) + 0.7 * np.sin(5 * phi + 2.3 * p) + 0.5 * np.sin(2 * phi - 1.7 * p)))
    mask = smooth(1 - r, n.get("soft", 0.12))
    if n.get("inside", 1.0):
        mask = mask * _seen(grid, lesion)
    return mask


def _fluid(grid: Grid, lesion: Lesion) -> Array:
    """Free pleural fluid: everything in the lung space below a meniscus that rises towards the chest wall."""
    n = lesion.numbers
    y = grid.xy[1]
    t = np.clip((grid.reach - 0.13) / (grid.wall - 0.13), 0, 1)
    level = np.float32(n["level"]) - np.float32(n["rise"]) * (t**3)
    under = smooth(grid.heart + 0.09, 0.04) * smooth(grid.below + 0.1, 0.04)  # the sliver between heart and diaphragm
    return smooth(y - level, 0.02) * _seen(grid, lesion) * (1 - under)


def _air(grid: Grid, lesion: Lesion) -> Array:
    """Pleural air: between the chest wall and the edge of a lung that has drawn back from it."""
    n = lesion.numbers
    y = grid.xy[1]
    gap = np.float32(n["gap"]) * smooth(np.float32(n["end"]) - y, 0.25)
    inner = grid.body.wall((y - np.float32(n["drop"])) / (1 - np.float32(n["drop"]))) - gap
    inside = smooth(grid.lung, 0.01) * _own_side(grid, lesion)
    return smooth(grid.reach - inner, 0.008) * smooth(np.float32(n["end"]) - y, 0.04) * inside


def _rind(grid: Grid, lesion: Lesion) -> Array:
    """Pleura thickened along the chest wall between two heights."""
    n = lesion.numbers
    y = grid.xy[1]
    middle, half = (n["top"] + n["end"]) / 2, (n["end"] - n["top"]) / 2
    along = np.sqrt(np.clip(1 - ((y - np.float32(middle)) / np.float32(half)) ** 2, 0, 1))
    depth = grid.wall - grid.reach
    rind = smooth(np.float32(n["thick"]) * along - depth, 0.008) * (along > 0)
    return np.asarray(rind * smooth(grid.lung, 0.012) * _own_side(grid, lesion), dtype=np.float32)


def _heart(grid: Grid, lesion: Lesion) -> Array:
    x, y = grid.xy
    heart = grid.body.cardiac(x, y, lesion.numbers["size"])
    return smooth(heart, 0.03) * smooth(np.float32(max(grid.body.domes)) - y, 0.02)


def _slab(grid: Grid, lesion: Lesion) -> Array:
    """A rectangle with round corners."""
    n = lesion.numbers
    x, y = grid.xy
    dx, dy = x - np.float32(n["x"]), y - np.float32(n["y"])
    c, s = np.float32(np.cos(n["tilt"])), np.float32(np.sin(n["tilt"]))
    u, v = (c * dx + s * dy) / np.float32(n["a"]), (c * dy - s * dx) / np.float32(n["b"])
    return smooth(1 - np.sqrt(np.sqrt(u**4 + v**4)), 0.06)


_SHAPES: dict[str, Callable[[Grid, Lesion], Array]] = {
    "blob": _blob,
    "fluid": _fluid,
    "air": _air,
    "rind": _rind,
    "heart": _heart,
    "slab": _slab,
}


def mask_of(grid: Grid, lesion: Lesion) -> Array:
    """Where a lesion is: (height, width) in [0, 1]; its box is around the values above one half."""
    return np.asarray(_SHAPES[lesion.shape](grid, lesion), dtype=np.float32)


def box_of(grid: Grid, lesion: Lesion) -> Box | None:
    """The tight box (xyxy in [0, 1]) of the largest part of a lesion that is on the film, less its hair-thin tips.

    None where too little of it is on the film.
    """
    rough = _extent(mask_of(grid.coarse, lesion) > 0.02)
    if rough is None:
        return None
    window = grid.zoomed(rough)
    shown = (mask_of(window, lesion) > 0.5) & window.field
    tip = max(3, round(0.012 * max(grid.height, grid.width)))
    parts, count = ndimage.label(ndimage.binary_opening(shown, np.ones((tip, tip), dtype=bool)))
    if count == 0:
        return None
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    top, _, left, _ = window.window or (0, 0, 0, 0)
    return _extent(parts == largest, top, left, grid.height, grid.width)


def _extent(mask: npt.NDArray[np.bool_], top: int = 0, left: int = 0, height: int = 0, width: int = 0) -> Box | None:
    """Box of what is set in a window at (top, left) of an image of (height, width); None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    height, width = height or mask.shape[0], width or mask.shape[1]
    x0, x1, y0, y1 = (int(v) for v in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
    return (left + x0) / width, (top + y0) / height, (left + x1) / width, (top + y1) / height
