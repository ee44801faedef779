"""The body behind every synthetic chest film: one coordinate frame, outlines as functions of it.

Body frame: x = 0 on the midline and positive towards the patient's LEFT (the image's right); y = 0 at the lung apices and
y = 1 at the top of an average diaphragm dome. The unit of both is that lung height.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

Array = npt.NDArray[np.float32]

_TOP, _BOTTOM, _STEPS = -0.6, 1.8, 2400


def _curve(*points: tuple[float, float]) -> Array:
    """A smooth outline x(y) through the points, tabulated from _TOP to _BOTTOM."""
    ys, xs = zip(*points, strict=True)
    y = np.clip(np.linspace(_TOP, _BOTTOM, _STEPS), ys[0], ys[-1])
    return np.asarray(PchipInterpolator(ys, xs)(y), dtype=np.float32)


# Inner chest wall, mediastinal edge of each lung, and skin, as half-widths over y.
_WALL = _curve(
    (-0.03, 0.0), (0.0, 0.17), (0.03, 0.24), (0.1, 0.33), (0.2, 0.42), (0.4, 0.51), (0.65, 0.57), (0.95, 0.61), (1.3, 0.62)
)
_MEDIAL = {
    -1: _curve((-0.1, 0.06), (0.1, 0.085), (0.3, 0.1), (0.5, 0.105), (0.75, 0.12), (1.2, 0.12)),
    1: _curve((-0.1, 0.06), (0.1, 0.09), (0.22, 0.13), (0.32, 0.115), (0.45, 0.13), (0.75, 0.14), (1.2, 0.13)),
}
_SKIN = _curve(
    (-0.55, 0.2), (-0.3, 0.2), (-0.2, 0.27), (-0.12, 0.55), (-0.03, 0.83), (0.1, 0.93), (0.3, 0.9), (0.42, 0.78), (0.7, 0.72), (1.7, 0.74)
)


def _look_up(table: Array, y: Array) -> Array:
    index = np.clip((y - _TOP) * ((_STEPS - 1) / (_BOTTOM - _TOP)), 0, _STEPS - 1).astype(np.int32)
    return table[index]


def smooth(value: Array, width: float) -> Array:
    """0 below -width, 1 above +width, a cubic step between."""
    t = np.clip(value * (0.5 / width) + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One patient on one film.

    Attributes:
        aspect: Image width over height.
        scale: Lung height as a share of the image's long side.
        centre: Where body point (0, 0.55) lies, as shares of width and height.
        angle: Rotation of the patient in the image, radians.
        wide: Width of the chest, about 1.
        domes: y of the right and the left diaphragm dome.
        heart: Size of the heart, about 1; x shift; tilt in radians.
        knob: Size of the aortic knob, about 1, and its y.
        sex: `F` or `M`.
        age: Years.
        view: `PA` or `AP`.
        field: Collimated part of the image, xyxy shares.
        stout: Soft tissue outside the ribs, about 1.
    """

    aspect: float
    scale: float
    centre: tuple[float, float]
    angle: float
    wide: float
    domes: tuple[float, float]
    heart: tuple[float, float, float]
    knob: tuple[float, float]
    sex: str
    age: int
    view: str
    field: tuple[float, float, float, float]
    stout: float

    def shape(self, long_side: int) -> tuple[int, int]:
        """Image height and width for a long side in pixels."""
        if self.aspect >= 1:
            return max(8, round(long_side / self.aspect)), long_side
        return long_side, max(8, round(long_side * self.aspect))

    def wall(self, y: Array) -> Array:
        """Half-width of the inner chest wall at y."""
        return _look_up(_WALL, y) * np.float32(self.wide)

    def medial(self, y: Array, left: npt.NDArray[np.bool_]) -> Array:
        """Half-width of the mediastinum at y, on the patient's left or right."""
        return np.where(left, _look_up(_MEDIAL[1], y), _look_up(_MEDIAL[-1], y))

    def skin(self, y: Array) -> Array:
        """Half-width of the body at y."""
        return _look_up(_SKIN, y) * np.float32(self.wide * (0.94 + 0.06 * self.stout))

    def dome(self, x: Array) -> Array:
        """y of the diaphragm at x, either side."""
        top = np.where(x > 0, self.domes[1], self.domes[0])
        t = (np.abs(x) / self.wide - 0.27) * (1 / 0.34)
        return np.asarray(top + 0.1 * t * t * np.abs(t) + 0.05 * t * t, dtype=np.float32)

    def cardiac(self, x: Array, y: Array, size: float | None = None) -> Array:
        """1 minus the elliptic radius: positive inside the heart."""
        grown, shift, tilt = self.heart
        k = np.float32((grown if size is None else size) * self.wide)
        c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        dx, dy = x - np.float32(0.085 * k + shift), y - np.float32(max(self.domes) - 0.235)
        ventricle = np.hypot((c * dx + s * dy) / (0.255 * k), (c * dy - s * dx) / (0.185 * k))
        atrium = np.hypot((x - np.float32(shift - 0.035 * k)) / (0.15 * k), (dy + 0.02) / (0.2 * k))
        return 1 - np.minimum(ventricle, atrium)


@dataclass(frozen=True)
class Grid:
    """Body coordinates of every pixel of an image of (height, width), and the fields that several painters need."""

    body: Anatomy
    height: int
    width: int

    @cached_property
    def xy(self) -> tuple[Array, Array]:
        """Body x and y, each (height, width)."""
        body, long_side = self.body, max(self.height, self.width)
        k = 1.0 / (long_side * body.scale)
        px = (np.arange(self.width, dtype=np.float32) + 0.5 - body.centre[0] * self.width) * np.float32(k)
        py = (np.arange(self.height, dtype=np.float32) + 0.5 - body.centre[1] * self.height) * np.float32(k)
        c, s = np.float32(np.cos(body.angle)), np.float32(np.sin(body.angle))
        return c * px[None] + s * py[:, None], c * py[:, None] - s * px[None] + np.float32(0.55)

    @cached_property
    def lung(self) -> Array:
        """Signed distance (body units, roughly) into the lung of this pixel's side: positive inside."""
        x, y = self.xy
        reach = np.abs(x)
        inner = reach - self.body.medial(y, x > 0)
        outer = self.body.wall(y) - reach
        return np.minimum(np.minimum(inner, outer), self.body.dome(x) - y)

    @cached_property
    def heart(self) -> Array:
        """Positive inside the heart."""
        return self.body.cardiac(*self.xy)

    @cached_property
    def field(self) -> npt.NDArray[np.bool_]:
        """The collimated part of the image."""
        x0, y0, x1, y1 = self.body.field
        px = (np.arange(self.width) + 0.5) / self.width
        py = (np.arange(self.height) + 0.5) / self.height
        return ((py > y0) & (py < y1))[:, None] & ((px > x0) & (px < x1))[None]


def sample_anatomy(person: np.random.Generator, film: np.random.Generator) -> Anatomy:
    """Draw a patient (`person`, the same for all their studies) and how they stand on this film (`film`)."""
    sex = "F" if person.random() < 0.48 else "M"
    age = int(np.clip(person.normal(60, 18), 18, 95))
    wide = float(np.clip(person.normal(1.0, 0.07), 0.86, 1.15))
    heart_base, knob_base, stout = person.normal(0, 0.05), person.normal(0, 0.08), float(person.uniform(0.2, 1.8))

    view = "AP" if film.random() < 0.3 else "PA"
    aspect = float(film.choice([0.82, 0.86, 1.0, 1.0, 1.17, 1.22]) * film.uniform(0.97, 1.03))
    wu, hu = min(1.0, aspect), min(1.0, 1 / aspect)
    scale = min(0.86 * wu / (1.22 * wide), 0.84 * hu / 1.25) * float(film.uniform(0.84, 1.04))
    low = float(film.normal(0, 0.05)) - (0.04 if view == "AP" else 0.0)
    inset = film.uniform(0.0, 0.04, 4) * (film.random(4) < 0.35)
    return Anatomy(
        aspect=aspect,
        scale=scale,
        centre=(float(0.5 + film.normal(0, 0.025)), float(0.52 + film.normal(0, 0.02))),
        angle=float(np.clip(film.normal(0, 0.04), -0.1, 0.1)),
        wide=wide,
        domes=(0.98 + low + float(film.normal(0, 0.015)), 1.02 + low + float(film.normal(0, 0.015))),
        heart=(
            float(np.clip(0.93 + heart_base + (0.07 if view == "AP" else 0.0), 0.8, 1.06)),
            float(film.normal(0.01, 0.02)),
            float(film.normal(0.55, 0.1)),
        ),
        knob=(float(np.clip(0.95 + knob_base + 0.002 * (age - 60), 0.75, 1.15)), float(film.normal(0.25, 0.015))),
        sex=sex,
        age=age,
        view=view,
        field=(float(inset[0]), float(inset[1]), 1 - float(inset[2]), 1 - float(inset[3])),
        stout=stout,
    )
