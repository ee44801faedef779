"""The 36 boxed anatomies of Chest ImaGenome on a synthetic film."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from datamodules.twins.anatomy import Anatomy, Array
from datamodules.twins.shapes import Box

Points = tuple[Array, Array]  # x and y in the body frame

_RECESS = 0.14  # how far the lung reaches below the dome of the diaphragm, at the chest wall
_HILUM = {"right": 0.45, "left": 0.41}
NESTED: dict[str, tuple[str, ...]] = {
    **{
        f"{side} {part}": tuple(name if name in ("mediastinum", "abdomen") else f"{side} {name}" for name in around)
        for side in ("right", "left")
        for part, around in {
            "apical zone": ("upper lung zone", "lung"),
            "upper lung zone": ("lung",),
            "mid lung zone": ("lung",),
            "lower lung zone": ("lung",),
            "costophrenic angle": ("lower lung zone", "hemidiaphragm", "lung"),
            "cardiophrenic angle": ("lower lung zone", "lung"),
            "hemidiaphragm": ("lower lung zone", "lung"),
            "hilar structures": ("mid lung zone", "lung"),
            "upper abdomen": ("abdomen",),
        }.items()
    },
    "cardiac silhouette": ("left cardiac silhouette", "mediastinum"),
    "aortic arch": ("upper mediastinum", "mediastinum"),
    "upper mediastinum": ("mediastinum",),
    "trachea": ("upper mediastinum", "mediastinum"),
}
"""Anatomies whose boxes cover, nearly equal or largely overlap that of another."""


def regions(body: Anatomy, shape: tuple[int, int]) -> dict[str, Box]:
    """Return the box of every anatomy, xyxy in shares of an image of (height, width); some reach out of it."""
    found = {f"{side} {name}": points for side in _HILUM for name, points in _sided(body, side).items()}
    found |= _central(body)
    boxes = {name: _framed(body, shape, *points) for name, points in found.items()}
    boxes["mediastinum"] = around([boxes["upper mediastinum"], boxes["cardiac silhouette"]])
    boxes["abdomen"] = around([boxes["right upper abdomen"], boxes["left upper abdomen"]])
    return boxes


def around(boxes: Iterable[Box]) -> Box:
    """Return the box around boxes."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _sided(body: Anatomy, side: str) -> dict[str, Points]:
    sign, dome, hilum = 1.0 if side == "left" else -1.0, body.domes[side == "left"], _HILUM[side]
    low, wall = dome + _RECESS, float(body.wall(np.array([dome], dtype=np.float32))[0])

    def lung(top: float, bottom: float) -> Points:
        y = np.linspace(top, bottom, 24, dtype=np.float32)
        x = np.concatenate([body.medial(y, np.full(24, side == "left")), body.wall(y)])
        return np.float32(sign) * x, np.concatenate([y, y])

    def place(inner: float, outer: float, top: float, bottom: float) -> Points:
        return _rectangle(sign * inner, sign * outer, top, bottom)

    heart = _heart(body)
    half = heart[0] * sign >= 0
    return {
        "lung": lung(0.0, low),
        "upper lung zone": lung(0.0, 0.36),
        "mid lung zone": lung(0.36, 0.64),
        "lower lung zone": lung(0.64, low),
        "apical zone": lung(0.0, 0.16),
        "hilar structures": place(0.06, 0.28, hilum - 0.15, hilum + 0.15),
        "costophrenic angle": place(wall - 0.18, wall + 0.02, low - 0.18, low + 0.02),
        "cardiophrenic angle": place(0.1, 0.3, dome - 0.14, dome + 0.06),
        "hemidiaphragm": place(0.1, wall, dome - 0.06, low),
        "clavicle": place(0.05, 0.72 * body.wide, -0.04, 0.18),
        "cardiac silhouette": (heart[0][half], heart[1][half]),
        "upper abdomen": place(0.0, wall, dome + 0.04, 1.45),
    }


def _central(body: Anatomy) -> dict[str, Points]:
    size, knob = body.knob
    heart = _heart(body)
    atrium = heart[0] < -0.02
    return {
        "trachea": _rectangle(-0.07, 0.05, -0.12, 0.38),
        "carina": _rectangle(-0.07, 0.06, 0.33, 0.43),
        "spine": _rectangle(-0.08, 0.08, -0.2, 1.35),
        "aortic arch": _rectangle(0.085 - 0.09 * size, 0.085 + 0.09 * size, knob - 0.1 * size, knob + 0.1 * size),
        "descending aorta": _rectangle(0.03, 0.17, knob, 0.95),
        "svc": _rectangle(-0.16, -0.05, 0.18, 0.48),
        "cavoatrial junction": _rectangle(-0.17, -0.05, 0.44, 0.58),
        "right atrium": (heart[0][atrium], heart[1][atrium]),
        "upper mediastinum": _rectangle(-0.15, 0.19, -0.02, 0.42),
        "cardiac silhouette": heart,
    }


def _rectangle(x1: float, x2: float, y1: float, y2: float) -> Points:
    return np.array([x1, x2, x2, x1], dtype=np.float32), np.array([y1, y1, y2, y2], dtype=np.float32)


def _heart(body: Anatomy) -> Points:
    """Return the points of the heart above the diaphragm."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.8, 80, dtype=np.float32), np.linspace(0.2, 1.2, 80, dtype=np.float32))
    inside = (body.cardiac(x, y) > 0) & (y < max(body.domes))
    return x[inside], y[inside]


def _framed(body: Anatomy, shape: tuple[int, int], x: Array, y: Array) -> Box:
    """Return the box around points of the body frame, in shares of the image (the inverse of `Grid.xy`)."""
    height, width = shape
    unit, c, s = max(shape) * body.scale, np.cos(body.angle), np.sin(body.angle)
    across, down = c * x - s * (y - 0.55), s * x + c * (y - 0.55)
    px, py = across * unit / width + body.centre[0], down * unit / height + body.centre[1]
    return float(px.min()), float(py.min()), float(px.max()), float(py.max())
