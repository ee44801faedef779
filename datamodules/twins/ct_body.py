"""An axial slice through a chest: outlines of body, lungs, vessels and bones as functions of one frame.

Body frame: x = 0 on the midline and positive towards the patient's LEFT (the image's right), y positive towards the
back; the unit is half the side of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from datamodules.twins.anatomy import Array, smooth

LEVELS = ("upper", "middle", "lower")
AIR, LUNG, FAT, MUSCLE, BONE = -1000.0, -840.0, -95.0, 50.0, 520.0  # Hounsfield units


@dataclass(frozen=True, slots=True)
class Trunk:
    """One patient at one level.

    Attributes:
        half: Half-width and half-depth of the body.
        centre: Where its middle lies in the image.
        angle: Rotation in radians.
        fat: Thickness of the fat under the skin.
        wall: Thickness of the chest wall under it.
        middle: Half-width of the mediastinum.
        level: One of `LEVELS`.
        heart: Size of the heart, about 1.
        aorta: Radius of the descending aorta.
        contrast: Hounsfield units of blood.
    """

    half: tuple[float, float]
    centre: tuple[float, float]
    angle: float
    fat: float
    wall: float
    middle: float
    level: str
    heart: float
    aorta: float
    contrast: float

    @property
    def cavity(self) -> tuple[float, float]:
        """Half-width and half-depth of the thorax inside its wall."""
        inset = self.fat + self.wall
        return self.half[0] - 1.15 * inset, self.half[1] - inset

    @property
    def spine(self) -> tuple[float, float]:
        """The middle of the vertebral body."""
        return 0.0, self.cavity[1] * 0.8

    @property
    def vessel(self) -> tuple[float, float]:
        """The middle of the descending aorta: left, in front of the spine."""
        return 0.15, self.spine[1] - 0.15


def sample_trunk(patient: np.random.Generator, study: np.random.Generator) -> Trunk:
    """Draw a body from its patient's generator, and how it lies and where it is cut from the study's."""
    width = float(patient.uniform(0.78, 0.92))
    trunk = Trunk(
        half=(width, width * float(patient.uniform(0.66, 0.76))),
        centre=(0.0, 0.0),
        angle=0.0,
        fat=float(patient.uniform(0.02, 0.08)),
        wall=float(patient.uniform(0.09, 0.12)),
        middle=float(patient.uniform(0.13, 0.17)),
        level="",
        heart=float(patient.uniform(0.9, 1.1)),
        aorta=float(patient.uniform(0.06, 0.075)),
        contrast=0.0,
    )
    return replace(
        trunk,
        centre=(float(study.uniform(-0.05, 0.05)), float(study.uniform(-0.08, 0.08))),
        angle=float(study.normal(0, 0.04)),
        level=LEVELS[int(study.integers(3))],
        contrast=float(study.choice([45.0, 180.0]) + study.uniform(-10, 40)),
    )


class Section:
    """A trunk on a square grid of pixels, with the parts that lesions refer to.

    Args:
        trunk: The body.
        side: Pixels on a side.
    """

    def __init__(self, trunk: Trunk, side: int) -> None:
        self.trunk, self.side = trunk, side
        at = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
        u, v = at[None] - np.float32(trunk.centre[0]), at[:, None] - np.float32(trunk.centre[1])
        c, s = np.float32(np.cos(trunk.angle)), np.float32(np.sin(trunk.angle))
        self.x, self.y = c * u + s * v, c * v - s * u

    def disc(self, centre: tuple[float, float], half: tuple[float, float], power: float = 2.0) -> Array:
        """Return a rounded shape as 0 outside and 1 inside, soft at its edge."""
        a, b = half
        u, v = np.abs(self.x - np.float32(centre[0])) / a, np.abs(self.y - np.float32(centre[1])) / b
        away = np.asarray((u**power + v**power) ** (1 / power), dtype=np.float32)
        return smooth(1 - away, 0.012 / min(a, b))

    @cached_property
    def thorax(self) -> Array:
        """The inside of the chest wall."""
        return self.disc((0.0, 0.0), self.trunk.cavity, 2.3)

    @cached_property
    def heart(self) -> Array:
        """Heart, or at other levels the great vessels in front."""
        size = self.trunk.heart * {"upper": 0.55, "middle": 0.75, "lower": 1.0}[self.trunk.level]
        centre = (0.08 * size, -0.14 - 0.1 * (1 - size))
        return self.disc(centre, (0.36 * size, 0.27 * size), 2.2)

    @cached_property
    def spine(self) -> Array:
        """The vertebral body."""
        return self.disc(self.trunk.spine, (0.125, 0.1), 2.2)

    @cached_property
    def lung(self) -> Array:
        """Both lungs."""
        t = self.trunk
        waist = np.float32(t.middle) * (1 - np.float32(0.25) * np.cos(4 * self.y))
        apart = smooth(np.asarray(np.abs(self.x) - waist, dtype=np.float32), 0.012)
        vessel = self.disc(t.vessel, (t.aorta + 0.02,) * 2)
        around = self.disc(t.spine, (0.15, 0.13))
        return np.asarray(self.thorax * apart * (1 - self.heart) * (1 - vessel) * (1 - around), dtype=np.float32)

    def lung_of(self, side: str) -> Array:
        """Return the lung of one side."""
        return self.lung * ((self.x > 0) if side == "left" else (self.x < 0))

    def shifted_thorax(self, shift: float) -> Array:
        """Return the inside of the chest wall, moved towards the back."""
        return self.disc((0.0, shift), self.trunk.cavity, 2.3)


def body_hu(section: Section, rng: np.random.Generator) -> Array:
    """Paint body, bones, vessels and airways in Hounsfield units, `(side, side)`."""
    t = section.trunk
    hu = np.full((section.side, section.side), AIR, dtype=np.float32)
    hu = _fill(hu, section.disc((0, 0), t.half, 2.3), FAT)
    hu = _fill(hu, section.disc((0, 0), (t.half[0] - t.fat, t.half[1] - t.fat), 2.3), MUSCLE)
    hu = _fill(hu, section.thorax, -20.0)  # fat and vessels of the mediastinum, blurred together
    hu = _fill(hu, section.heart, t.contrast * 0.8 + 10)
    hu = _fill(hu, section.disc(t.vessel, (t.aorta,) * 2), t.contrast)
    hu = _bones(hu, section)
    hu = _fill(hu, section.lung, LUNG + float(rng.normal(0, 20)))
    hu += _markings(section, rng)
    for place, radius in _AIRWAYS[t.level]:
        hu = _fill(hu, section.disc(place, (radius, radius)), AIR)
    table = smooth(np.float32(0.012) - np.abs(section.y - np.float32(t.half[1] + 0.07) + 0.12 * section.x**2), 0.01)
    return _fill(hu, table * (np.abs(section.x) < 0.7), -300.0)


_AIRWAYS = {
    "upper": (((0.0, 0.06), 0.05),),
    "middle": (((-0.085, 0.12), 0.036), ((0.085, 0.12), 0.034)),
    "lower": (),
}


def _fill(hu: Array, mask: Array, value: float) -> Array:
    return np.asarray(hu + mask * (np.float32(value) - hu), dtype=np.float32)


def _bones(hu: Array, section: Section) -> Array:
    t = section.trunk
    x, y = t.spine
    hu = _fill(hu, section.spine, BONE)
    hu = _fill(hu, section.disc((x, y), (0.105, 0.08), 2.2), 240.0)
    hu = _fill(hu, section.disc((x, y + 0.14), (0.13, 0.06)), 420.0)  # arch and processes
    hu = _fill(hu, section.disc((x, y + 0.125), (0.05, 0.04)), 25.0)  # canal
    hu = _fill(hu, section.disc((0.0, -t.cavity[1] - 0.45 * t.wall), (0.1, 0.03)), 380.0)  # sternum
    across, deep = t.cavity[0] + 0.45 * t.wall, t.cavity[1] + 0.45 * t.wall
    for angle in np.deg2rad([-62, -36, -12, 14, 40, 64]):
        for side in (-1, 1):
            place = (side * across * float(np.cos(angle)), deep * float(np.sin(angle)))
            hu = _fill(hu, section.disc(place, (0.028 + 0.03 * abs(float(np.sin(angle))), 0.045)), BONE)
    return hu


def _markings(section: Section, rng: np.random.Generator) -> Array:
    """Vessels of the lungs, cut across: dots that are larger and denser near the hilum."""
    out = np.zeros((section.side, section.side), np.float32)
    for size, count in ((0.02, 26), (0.012, 90), (0.007, 260)):
        reach = np.abs(rng.normal(0, 0.28, count)) + 0.16
        x, y = rng.choice([-1, 1], count) * reach, rng.normal(0.05, 0.2, count)
        column = ((x + section.trunk.centre[0] + 1) / 2 * section.side).astype(int)
        row = ((y + section.trunk.centre[1] + 1) / 2 * section.side).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < section.side) & (row < section.side)
        dots = np.zeros_like(out)
        dots[row[inside], column[inside]] = 1
        sigma = max(0.5, size * section.side / 4)
        out += ndimage.gaussian_filter(dots, sigma) * np.float32(6.283 * sigma**2)
    return np.clip(out, 0, 1) * np.float32(780) * section.lung
