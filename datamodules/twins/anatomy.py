"""The body behind every synthetic chest film: one coordinate frame, outlines as functions of it.

Body frame: x = 0 on the midline and positive towards the patient's LEFT (the image's right); y = 0 at the lung apices
and y = 1 at the top of an average diaphragm dome. The unit of both is that lung height.
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
    (-0.03, 0.0),
    (0.0, 0.17),
    (0.03, 0.24),
    (0.1, 0.33),
    (0.2, 0.42),
    (0.4, 0.51),
    (0.65, 0.57),
    (0.95, 0.61),
    (1.3, 0.62),
)
_MEDIAL = {
    -1: _curve((-0.1, 0.06), (0.1, 0.085), (0.3, 0.1), (0.5, 0.105), (0.75, 0.12), (1.2, 0.12)),
    1: _curve((-0.1, 0.06), (0.1, 0.09), (0.22, 0.13), (0.32, 0.115), (0.45, 0.13), (0.75, 0.14), (1.2, 0.13)),
}
_SKIN = _curve(
    (-0.6, 0.25),
    (-0.36, 0.25),
    (-0.22, 0.34),
    (-0.13, 0.55),
    (-0.04, 0.82),
    (0.08, 0.96),
    (0.25, 0.95),
    (0.45, 0.8),
    (0.7, 0.73),
    (1.7, 0.75),
)


def _look_up(table: Array, y: Array) -> Array:
    index = np.clip((y - _TOP) * ((_STEPS - 1) / (_BOTTOM - _TOP)), 0, _STEPS - 1).astype(np.int32)
    return np.asarray(table[index], dtype=np.float32)


def smooth(value: Array, width: float) -> Array:
    """0 below -width, 1 above +width, a cubic step between."""
    t = np.asarray(value * np.float32(0.5 / width) + np.float32(0.5), dtype=np.float32)
    np.clip(t, 0, 1, out=t)
    step = np.float32(3) - 2 * t
    step *= t
    step *= t
    return step


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

    def margins(self, y: float, left: bool) -> tuple[float, float]:
        """Inner and outer half-width of one lung at a height."""
        row = np.array([y], dtype=np.float32)
        return float(self.medial(row, np.array([left]))[0]), float(self.wall(row)[0])

    def shows(self, x: float, y: float, depth: float) -> bool:
        """Whether a lesion at this point, `depth` long downwards, is beside the heart and above the diaphragm."""
        at, row = np.array([x], dtype=np.float32), np.array([y], dtype=np.float32)
        return float(self.cardiac(at, row)[0]) < -0.15 and y + depth < float(self.dome(at)[0])

    def medial(self, y: Array, left: npt.NDArray[np.bool_]) -> Array:
        """Half-width of the mediastinum at y, on the patient's left or right."""
        return np.where(left, _look_up(_MEDIAL[1], y), _look_up(_MEDIAL[-1], y))

    def skin(self, y: Array) -> Array:
        """Half-width of the body at y."""
        return _look_up(_SKIN, y) * np.float32(self.wide * (0.94 + 0.06 * self.stout))

    def dome(self, x: Array) -> Array:
        """Height y of the diaphragm at x, either side."""
        top = np.where(x > 0, np.float32(self.domes[1]), np.float32(self.domes[0]))
        t = (np.abs(x) * np.float32(1 / self.wide) - np.float32(0.27)) * np.float32(1 / 0.34)
        t2 = t * t
        return np.asarray(top + t2 * (np.float32(0.06) + np.float32(0.1) * np.abs(t)), dtype=np.float32)

    def cardiac(self, x: Array, y: Array, size: float | None = None) -> Array:
        """1 minus the elliptic radius of ventricles, right atrium and pulmonary trunk: positive inside the heart."""
        grown, shift, tilt = self.heart
        k = np.float32((grown if size is None else size) * self.wide)
        c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        base = y - np.float32(max(self.domes) - 0.21)
        dx = x - np.float32(0.105 * k + shift)
        ventricle = ((c * dx + s * base) / (0.275 * k)) ** 2 + ((c * base - s * dx) / (0.2 * k)) ** 2
        atrium = ((x - np.float32(shift - 0.02 * k)) / (0.165 * k)) ** 2 + ((base + 0.01) / (0.22 * k)) ** 2
        trunk = ((x - np.float32(shift + 0.055 * k)) / (0.115 * k)) ** 2 + (
            (base + np.float32(0.2 * k)) / (0.21 * k)
        ) ** 2
        return 1 - np.sqrt(np.minimum(np.minimum(ventricle, atrium), trunk))


@dataclass(frozen=True)
class Grid:
    """Body coordinates of the pixels of an image, or of a window of it, and fields that many painters need.

    Attributes:
        body: Whose.
        height: Of the whole image, in pixels.
        width: Of the whole image.
        window: Rows and columns (first, end, first, end) that are looked at; None for all.
    """

    body: Anatomy
    height: int
    width: int
    window: tuple[int, int, int, int] | None = None

    @property
    def unit(self) -> float:
        """Pixels per body unit."""
        return max(self.height, self.width) * self.body.scale

    @cached_property
    def _pixels(self) -> tuple[Array, Array]:
        r0, r1, c0, c1 = self.window or (0, self.height, 0, self.width)
        return np.arange(r0, r1, dtype=np.float32) + 0.5, np.arange(c0, c1, dtype=np.float32) + 0.5

    @cached_property
    def xy(self) -> tuple[Array, Array]:
        """Body x and y of every pixel."""
        body, (row, column) = self.body, self._pixels
        k = np.float32(1 / self.unit)
        px, py = (
            (column - np.float32(body.centre[0] * self.width)) * k,
            (row - np.float32(body.centre[1] * self.height)) * k,
        )
        c, s = np.float32(np.cos(body.angle)), np.float32(np.sin(body.angle))
        return c * px[None] + s * py[:, None], c * py[:, None] - s * px[None] + np.float32(0.55)

    @cached_property
    def reach(self) -> Array:
        """Distance from the midline."""
        return np.abs(self.xy[0])

    @cached_property
    def wall(self) -> Array:
        """Half-width of the inner chest wall."""
        return self.body.wall(self.xy[1])

    @cached_property
    def below(self) -> Array:
        """How far below the diaphragm; negative above it."""
        return self.xy[1] - self.body.dome(self.xy[0])

    @cached_property
    def lung(self) -> Array:
        """Signed distance (body units, roughly) into the lung of this pixel's side: positive inside."""
        x, y = self.xy
        inner = self.reach - self.body.medial(y, x > 0)
        return np.asarray(np.minimum(np.minimum(inner, self.wall - self.reach), -self.below), dtype=np.float32)

    @cached_property
    def heart(self) -> Array:
        """Positive inside the heart."""
        return self.body.cardiac(*self.xy)

    @cached_property
    def field(self) -> npt.NDArray[np.bool_]:
        """The collimated part of the image."""
        x0, y0, x1, y1 = self.body.field
        row, column = self._pixels[0] / self.height, self._pixels[1] / self.width
        return ((row > y0) & (row < y1))[:, None] & ((column > x0) & (column < x1))[None]

    @cached_property
    def coarse(self) -> Grid:
        """The same image with a quarter of the rows and columns."""
        return Grid(self.body, max(8, self.height // 4), max(8, self.width // 4))

    def zoomed(self, box: tuple[float, float, float, float]) -> Grid:
        """The window around a box (xyxy in [0, 1]) with a margin of a quarter of its sides."""
        w, h = 0.25 * (box[2] - box[0]) + 0.02, 0.25 * (box[3] - box[1]) + 0.02
        rows = max(0, int((box[1] - h) * self.height)), min(self.height, int((box[3] + h) * self.height) + 1)
        columns = max(0, int((box[0] - w) * self.width)), min(self.width, int((box[2] + w) * self.width) + 1)
        return Grid(self.body, self.height, self.width, (*rows, *columns))


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
            float(np.clip(0.9 + heart_base + (0.07 if view == "AP" else 0.0), 0.78, 1.03)),
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
