"""A torso in Hounsfield units: body, bones, lungs, heart, vessels and abdominal organs as smooth shapes in three axes.

Body frame, in mm of a patient of middle size: x towards the patient's right, y towards the front, z towards the head
(RAS); x = 0 on the midline, z = 0 under the dome of the right diaphragm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.twins.anatomy import Array, smooth

AIR, LUNG, FAT, MUSCLE, BLOOD, BONE = -1000.0, -850.0, -95.0, 50.0, 42.0, 420.0  # Hounsfield units
AORTA = (-18.0, -46.0, 12.5)  # x, y and radius of the descending aorta
SPINE = (0.0, -72.0)
_SKIN = {  # half-width and half-depth of the body at some depths
    "z": (-360.0, -230.0, -120.0, 0.0, 120.0, 180.0, 215.0, 245.0, 290.0),
    "a": (175.0, 158.0, 158.0, 165.0, 178.0, 186.0, 165.0, 90.0, 62.0),
    "b": (112.0, 108.0, 112.0, 116.0, 112.0, 100.0, 84.0, 68.0, 62.0),
}
_POWER = 2.4  # of the superellipse that a cross-section is


class Organ(IntEnum):
    """What a voxel belongs to, where a finding may be."""

    NONE = 0
    RIGHT_LUNG = 1
    LEFT_LUNG = 2
    HEART = 3
    AORTA = 4
    LIVER = 5
    RIGHT_KIDNEY = 6
    LEFT_KIDNEY = 7
    SPINE = 8
    MEDIASTINUM = 9


@dataclass(frozen=True, slots=True)
class Torso:
    """One patient.

    Attributes:
        scale: Of a patient of middle size, along x, y and z.
        fat: Thickness of the fat under the skin.
        contrast: Hounsfield units that contrast medium adds to blood; 0 without.
        heart: Size of the heart, about 1.
        domes: Depths of the right and the left diaphragm.
        shifts: How far spine and heart, liver, right and left kidney lie from their usual depth.
        fatty: Hounsfield units that the liver has lost.
        texture: Seed of vessels and bowel.
    """

    scale: tuple[float, float, float]
    fat: float
    contrast: float
    heart: float
    domes: tuple[float, float]
    shifts: tuple[float, float, float, float]
    fatty: float
    texture: int


def sample_torso(rng: np.random.Generator) -> Torso:
    """Draw a patient."""
    size = rng.normal(1.0, 0.05)
    scale = (size * rng.normal(1.0, 0.05), size * rng.normal(1.0, 0.05), size * rng.normal(1.0, 0.04))
    contrast = 0.0 if rng.random() < 0.25 else float(rng.uniform(70, 190))
    dome = float(rng.normal(0, 8))
    shifts = rng.normal(0, (6, 8, 16, 16))
    return Torso(
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
        fat=float(rng.uniform(7, 26)),
        contrast=contrast,
        heart=float(rng.uniform(1.28, 1.42) if rng.random() < 0.15 else rng.uniform(0.9, 1.12)),
        domes=(dome, dome - float(rng.uniform(4, 18))),
        shifts=(float(shifts[0]), float(shifts[1]), float(shifts[2]), float(shifts[3])),
        fatty=float(rng.uniform(10, 30)) if rng.random() < 0.15 else 0.0,
        texture=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Grid:
    """Where the voxels `(D, H, W)` of a scan lie in a patient's body.

    Attributes:
        x: `(1, H, W)` in mm of the body frame.
        y: `(1, H, W)`.
        z: `(D, 1, 1)`.
    """

    x: Array
    y: Array
    z: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        return len(self.z), self.x.shape[1], self.x.shape[2]

    def window(self, centre: tuple[float, float, float], reach: tuple[float, float, float]) -> tuple[slice, ...] | None:
        """Return the slices of a box around a place, None where it is outside."""
        x, y, z = centre
        near = (np.abs(self.x - x) < reach[0]) & (np.abs(self.y - y) < reach[1])
        spans = np.abs(self.z[:, 0, 0] - z) < reach[2], near[0].any(1), near[0].any(0)
        if not all(span.any() for span in spans):
            return None
        return tuple(slice(int(span.argmax()), len(span) - int(span[::-1].argmax())) for span in spans)

    def within(self, window: tuple[slice, ...]) -> Grid:
        """Return the part of the grid in a window."""
        return Grid(self.x[:, window[1], window[2]], self.y[:, window[1], window[2]], self.z[window[0]])


@dataclass
class Canvas:
    """A scan while it is painted.

    Attributes:
        grid: Where its voxels lie.
        torso: The patient.
        hu: Hounsfield units `(D, H, W)`.
        organ: What each voxel belongs to.
        depth: Roughly how many mm lie between each voxel and the skin; negative outside.
    """

    grid: Grid
    torso: Torso
    hu: Array
    organ: NDArray[np.uint8]
    depth: Array

    @classmethod
    def blank(cls, grid: Grid, torso: Torso) -> Canvas:
        """Return a canvas of air."""
        shape, z, power = grid.shape, grid.z[:, 0, 0], np.float32(_POWER)
        a, b = (np.interp(z, _SKIN["z"], _SKIN[axis]).astype(np.float32)[:, None, None] for axis in "ab")
        section = np.abs(grid.x) ** power * a**-power + np.abs(grid.y) ** power * b**-power
        depth = np.asarray((1 - section ** (1 / power)) * b, np.float32)
        return cls(grid, torso, np.full(shape, AIR, np.float32), np.zeros(shape, np.uint8), depth)

    def between(self, low: float, high: float) -> Canvas:
        """Return the slices between two depths of the body frame; what is painted there is painted here."""
        z = self.grid.z[:, 0, 0]
        at = slice(int(np.searchsorted(z, low)), int(np.searchsorted(z, high, "right")))
        grid = Grid(self.grid.x, self.grid.y, self.grid.z[at])
        return Canvas(grid, self.torso, self.hu[at], self.organ[at], self.depth[at])

    def blend(self, mask: Array, value: float, organ: Organ = Organ.NONE, window: tuple[slice, ...] = ()) -> None:
        """Paint a value through a mask in [0, 1]; voxels of which it takes more than half become the organ's."""
        hu = self.hu[window]
        hu += mask * (np.float32(value) - hu)
        if organ:
            self.organ[window][mask > 0.5] = organ

    def ellipsoid(
        self,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        value: float,
        organ: Organ = Organ.NONE,
        soft: float = 4.0,
        inside: Array | None = None,
    ) -> None:
        """Paint an ellipsoid whose edge is `soft` mm wide on either side, through `inside` where given."""
        window = self.grid.window(centre, (radii[0] + soft, radii[1] + soft, radii[2] + soft))
        if window is None:
            return
        part = self.grid.within(window)
        across = ((part.x - centre[0]) / radii[0]) ** 2 + ((part.y - centre[1]) / radii[1]) ** 2
        away = np.sqrt(across + ((part.z - centre[2]) / radii[2]) ** 2, dtype=np.float32)
        mask = smooth((1 - away) * np.float32(min(radii)), soft)
        self.blend(mask if inside is None else mask * inside[window], value, organ, window)

    def tube(
        self,
        x: float,
        y: float,
        radius: float,
        reach: tuple[float, float],
        value: float,
        organ: Organ = Organ.NONE,
        lean: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Paint a tube along z between two depths, which leans by mm of x and y per mm of depth."""
        half = (reach[1] - reach[0]) / 2
        wide = radius + 3 + 2 * half * max(map(abs, lean))
        window = self.grid.window((x, y, reach[0] + half), (wide, wide, half + 2))
        if window is None:
            return
        part = self.grid.within(window)
        rise = part.z - np.float32(reach[0])
        away: Array = np.hypot(part.x - x - lean[0] * rise, part.y - y - lean[1] * rise)
        along = np.asarray(half - np.abs(part.z - reach[0] - half), np.float32)
        mask = smooth(radius - away, 2.5) * smooth(along, 2.0)
        self.blend(mask, value, organ, window)

    @property
    def inner(self) -> Array:
        """The same for the inside of ribs and belly wall."""
        return self.depth - np.float32(self.torso.fat + 14)

    @property
    def blood(self) -> float:
        """Hounsfield units of blood."""
        return BLOOD + self.torso.contrast

    def lung(self, side: Organ) -> Array:
        """Where a lung is, in [0, 1]."""
        grid, sign = self.grid, 1.0 if side == Organ.RIGHT_LUNG else -1.0
        out = sign * grid.x
        dome = self.torso.domes[0 if sign > 0 else 1]
        floor = _paraboloid(out, grid.y, (75.0, 12.0, dome), -150.0)
        roof = _paraboloid(out, grid.y, (58.0, -8.0, 212.0), -70.0)
        inside: Array = out - np.where(grid.y < 30, np.float32(34), np.float32(24))
        found = smooth(self.inner, 4.0) * smooth(inside, 5.0)
        found *= smooth(grid.z - floor, 6.0)
        found *= smooth(roof - grid.z, 6.0)
        return found


def _paraboloid(x: Array, y: Array, top: tuple[float, float, float], width: float) -> Array:
    return np.asarray(top[2] + ((x - top[0]) ** 2 + (y - top[1]) ** 2) / width, np.float32)


def paint_torso(grid: Grid, torso: Torso) -> Canvas:
    """Paint a patient without findings."""
    canvas = Canvas.blank(grid, torso)
    _wall(canvas)
    _abdomen(canvas.between(-1000, 60))
    _chest(canvas.between(-90, 1000))
    _cage(canvas.between(-90, 230))
    _spine(canvas)
    canvas.tube(AORTA[0], AORTA[1], AORTA[2], (-340, 116), canvas.blood, Organ.AORTA)
    return canvas


def _wall(canvas: Canvas) -> None:
    """Paint skin, fat, muscle, and what fills the cavities."""
    depth, fat = canvas.depth, np.float32(canvas.torso.fat)
    canvas.blend(smooth(depth, 2.5), FAT)
    muscle = smooth(depth - fat, 2.5)
    canvas.blend(muscle, MUSCLE)
    canvas.blend(smooth(canvas.inner, 3.0), FAT + 15)
    back = smooth(34 - np.hypot((np.abs(canvas.grid.x) - 32) * 0.9, canvas.grid.y + 92), 5.0)
    rows, columns = np.flatnonzero(back[0].any(1)), np.flatnonzero(back[0].any(0))
    if len(rows):
        at = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        canvas.blend(back[at] * muscle[at], MUSCLE, window=at)


def _abdomen(canvas: Canvas) -> None:
    torso, inside = canvas.torso, smooth(canvas.inner, 3.0)
    _bowel(canvas.between(-1000, -80))
    _, liver, right, left = torso.shifts
    canvas.ellipsoid((-96, -42, -62 + left / 3), (38, 42, 52), 48 + 0.5 * torso.contrast, inside=inside)
    canvas.ellipsoid((-62, 42, -52), (44, 38, 46), 25, inside=inside)
    canvas.ellipsoid((-60, 62, -48), (24, 13, 24), -900, soft=3, inside=inside)
    value = 58 - torso.fatty + 0.45 * torso.contrast
    canvas.ellipsoid((70, 6, -70 + liver), (92, 84, 92), value, Organ.LIVER, inside=inside)
    for organ, x, z in ((Organ.RIGHT_KIDNEY, 62.0, -172 + right), (Organ.LEFT_KIDNEY, -62.0, -156 + left)):
        canvas.ellipsoid((x, -42, z), (33, 30, 60), FAT, inside=inside)
        canvas.ellipsoid((x, -42, z), (27, 24, 54), 44 + torso.contrast, organ, soft=3, inside=inside)
        canvas.ellipsoid((x * 0.82, -38, z), (12, 8, 24), FAT + 30, organ, soft=3, inside=inside)


def _bowel(canvas: Canvas) -> None:
    """Paint loops of bowel, some with gas."""
    if not len(canvas.hu):
        return
    rng = np.random.default_rng(canvas.torso.texture)
    loops = ndimage.gaussian_filter(rng.standard_normal(canvas.hu.shape, dtype=np.float32), (2.2, 2.4, 2.4))
    loops *= np.float32(1 / max(float(loops.std()), 1e-6))
    room = smooth(canvas.inner, 3.0) * smooth(canvas.grid.y + 8, 6.0) * smooth(-95 - canvas.grid.z, 14.0)
    canvas.blend(smooth(loops - 0.1, 0.25) * room, 35)
    canvas.blend(smooth(loops - 1.75, 0.2) * room, -850)


def _chest(canvas: Canvas) -> None:
    torso, blood = canvas.torso, canvas.blood
    rng = np.random.default_rng([torso.texture, 1])
    for side in (Organ.RIGHT_LUNG, Organ.LEFT_LUNG):
        canvas.blend(canvas.lung(side), LUNG, side)
    lungs = (canvas.organ == Organ.RIGHT_LUNG) | (canvas.organ == Organ.LEFT_LUNG)
    vessels = ndimage.gaussian_filter(rng.standard_normal(canvas.grid.shape, dtype=np.float32), 0.8)
    vessels *= np.float32(1 / max(float(vessels.std()), 1e-6))
    hilum = np.hypot(np.abs(canvas.grid.x) - 35, canvas.grid.y + 5)
    crowd = np.exp(-np.hypot(hilum, (canvas.grid.z - 70) * 0.7) / 55)
    canvas.hu += lungs * (60 * vessels + 650 * crowd * smooth(vessels - 1.0, 0.5)).astype(np.float32)
    in_lung = np.where(lungs, np.float32(0), np.float32(1))
    middle = smooth(34 - np.abs(canvas.grid.x), 4.0) * smooth(canvas.grid.z - 5, 8.0) * smooth(200 - canvas.grid.z, 8.0)
    free = (middle * in_lung > 0.5) & (np.abs(canvas.grid.y) < 55)
    canvas.organ[free & (canvas.organ == 0)] = Organ.MEDIASTINUM
    size, z = torso.heart, 30 + torso.shifts[0]
    canvas.ellipsoid((-16, 22, z), (58 * size, 50 * size, 50 * size), FAT + 20)
    canvas.ellipsoid((-17, 22, z), (53 * size, 46 * size, 46 * size), 48 + 0.4 * torso.contrast, Organ.HEART)
    canvas.ellipsoid((-30, 24, z - 6), (22 * size, 20 * size, 26 * size), blood, Organ.HEART)
    canvas.ellipsoid((16, 18, z), (20 * size, 20 * size, 26 * size), blood, Organ.HEART)
    canvas.ellipsoid((-4, 16, 84 + torso.shifts[0]), (42, 13, 13), blood)
    canvas.tube(10, 18, 15, (60, 118), blood)
    canvas.ellipsoid((-6, -14, 118), (22, 42, 13), blood)
    canvas.tube(26, 14, 9, (60, 170), blood)
    canvas.tube(-14, -34, 7, (0, 230), 40)
    canvas.tube(2, -14, 9, (98, 300), AIR + 20)
    for sign in (1.0, -1.0):  # main bronchi
        canvas.tube(sign * 36, -12, 6.5, (72, 98), AIR + 60, lean=(-sign * 34 / 26, 0.0))


def _cage(canvas: Canvas) -> None:
    grid, depth, fat = canvas.grid, canvas.depth, np.float32(canvas.torso.fat)
    turns = np.cos((grid.z + 0.55 * grid.y) * np.float32(2 * np.pi / 31))
    ribs = (
        smooth(np.asarray(turns - 0.45, np.float32), 0.35)
        * smooth(5 - np.abs(depth - fat - 9), 2.0)
        * smooth(grid.z + 75, 10.0)
        * smooth(205 - grid.z, 8.0)
    )
    canvas.blend(ribs * (np.hypot(grid.x, grid.y - 105) > 40), BONE)
    sternum = smooth(17 - np.abs(grid.x), 3.0) * smooth(6 - np.abs(depth - fat - 8), 2.0) * (grid.y > 0)
    canvas.blend(sternum * smooth(62 - np.abs(grid.z - 105), 6.0), 220)
    for sign in (1.0, -1.0):
        canvas.ellipsoid((sign * 148, -8, 196), (23, 23, 30), BONE)
        canvas.ellipsoid((sign * 95, -74, 130), (48, 7, 58), BONE - 120, soft=3)


def _spine(canvas: Canvas) -> None:
    """Paint vertebral bodies with discs, arches and the canal, in a window around them."""
    x, y = SPINE
    window = canvas.grid.window((x, y - 20, 0), (40, 60, 1e6))
    if window is None:
        return
    grid = canvas.grid.within(window)
    across = np.sqrt(((grid.x - x) / 21) ** 2 + ((grid.y - y) / 17) ** 2)
    body = smooth((1 - across) * 17, 2.5)
    disc = smooth(np.cos((grid.z - canvas.torso.shifts[0]) * np.float32(2 * np.pi / 27)) - 0.72, 0.2)
    canvas.blend(body * np.ones_like(grid.z), 210, Organ.SPINE, window)
    canvas.blend(body * disc, 85, window=window)
    arch = smooth(9 - np.hypot(np.abs(grid.x) - 15, grid.y + 100), 3.0) + smooth(
        7 - np.hypot(grid.x, grid.y + 114), 3.0
    )
    canvas.blend(np.minimum(arch, 1) * (0.35 + 0.65 * (1 - disc)), BONE - 60, window=window)
    canvas.blend(smooth(8 - np.hypot(grid.x, grid.y + 97), 2.5) * np.ones_like(grid.z), 25, window=window)
