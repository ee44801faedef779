"""Findings in a torso: what they look like, where they may lie, and the depths that they reach over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.twins.anatomy import Array, smooth
from datamodules.twins.torso import AORTA, LUNG, Canvas, Grid, Organ

APART, PAIR_APART = 22.0, 45.0  # mm between the middles of any two findings, and of the planned two in one organ
_TRIES = 40
_LUNGS = (Organ.RIGHT_LUNG, Organ.LEFT_LUNG)
_KIDNEYS = (Organ.RIGHT_KIDNEY, Organ.LEFT_KIDNEY)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        organs: Where it may be.
        shape: `solid`, `cavity`, `bulla`, `haze`, `airspace`, `band`, `mesh`, `fluid`, `plaque`, `bulge` or `ring`.
        radius: Least and greatest radius in mm.
        hu: Hounsfield units inside.
        label: The class of CT-RATE that it belongs to, '' for none.
        weight: How often it is drawn, against others.
        rim: Hounsfield units that its edge has more than its inside.
    """

    organs: tuple[Organ, ...]
    shape: str
    radius: tuple[float, float]
    hu: float
    label: str = ""
    weight: float = 1.0
    rim: float = 0.0


KINDS = {
    "nodule": Kind(_LUNGS, "solid", (7, 12), 70, "Lung nodule", 1.5),
    "cavity": Kind(_LUNGS, "cavity", (14, 21), 40),
    "consolidation": Kind(_LUNGS, "airspace", (18, 30), 30, "Consolidation", 1.3),
    "ground glass": Kind(_LUNGS, "haze", (18, 30), -540, "Lung opacity", 1.3),
    "bulla": Kind(_LUNGS, "bulla", (15, 25), -990, "Emphysema"),
    "band": Kind(_LUNGS, "band", (26, 40), 25, "Atelectasis"),
    "fibrosis": Kind(_LUNGS, "mesh", (18, 28), -350, "Pulmonary fibrotic sequela"),
    "granuloma": Kind(_LUNGS, "solid", (6, 8), 900),
    "effusion": Kind(_LUNGS, "fluid", (30, 70), 8, "Pleural effusion", 0.6),
    "lymph node": Kind((Organ.MEDIASTINUM,), "solid", (10, 15), 110, "Lymphadenopathy", 0.8),
    "coronary calcification": Kind((Organ.HEART,), "solid", (5, 7), 900, "Coronary artery wall calcification", 0.5),
    "plaque": Kind((Organ.AORTA,), "plaque", (9, 16), 1000, "Arterial wall calcification", 1.3),
    "aneurysm": Kind((Organ.AORTA,), "bulge", (21, 27), 0, "", 0.8),
    "stent": Kind((Organ.AORTA,), "ring", (18, 28), 2400, "Medical material", 0.8),
    "liver cyst": Kind((Organ.LIVER,), "solid", (9, 18), -12),
    "liver metastasis": Kind((Organ.LIVER,), "solid", (12, 20), -5, rim=150),
    "liver calcification": Kind((Organ.LIVER,), "solid", (6, 9), 700, weight=0.7),
    "renal cyst": Kind(_KIDNEYS, "solid", (10, 18), -12),
    "kidney stone": Kind(_KIDNEYS, "solid", (5, 7), 1100),
    "angiomyolipoma": Kind(_KIDNEYS, "solid", (10, 16), -75, weight=0.7),
    "sclerotic lesion": Kind((Organ.SPINE,), "solid", (9, 14), 1100, weight=1.4),
    "lytic lesion": Kind((Organ.SPINE,), "solid", (10, 15), 15, weight=1.4),
}


@dataclass(frozen=True, slots=True)
class Lesion:
    """One finding of one patient, in the body frame.

    Attributes:
        kind: One of `KINDS`.
        organ: Where it is.
        centre: `(x, y, z)` in mm.
        radius: In mm.
        phase: Of its outline and of what is inside.
    """

    kind: str
    organ: Organ
    centre: tuple[float, float, float]
    radius: float
    phase: float

    @property
    def side(self) -> str:
        """`right`, `left`, or '' of what lies in the middle."""
        sides = {"right": (_LUNGS[0], _KIDNEYS[0]), "left": (_LUNGS[1], _KIDNEYS[1])}
        return next((side for side, organs in sides.items() if self.organ in organs), "")

    @property
    def zone(self) -> str:
        """`upper`, `middle` or `lower` part of its lung; '' elsewhere."""
        if self.organ not in _LUNGS:
            return ""
        return "lower" if self.centre[2] < 40 else "middle" if self.centre[2] < 110 else "upper"

    @property
    def large(self) -> bool:
        """Whether it is of the larger half of its kind."""
        return self.radius > sum(KINDS[self.kind].radius) / 2


def plan_lesions(rng: np.random.Generator, canvas: Canvas) -> list[Lesion]:
    """Draw three to six findings at different depths of a scan, the first two in one organ and of different kinds."""
    count = int(rng.choice((3, 4, 5, 6), p=(0.25, 0.35, 0.25, 0.15)))
    for _ in range(_TRIES):
        lesions = _pair(rng, canvas)
        for _ in range(_TRIES):
            if len(lesions) in (0, count):
                break
            new = _place(rng, canvas, _kind(rng, {lesion.kind for lesion in lesions}))
            if new and all(abs(new.centre[2] - old.centre[2]) >= APART for old in lesions):
                lesions.append(new)
        if len(lesions) >= 3:
            return lesions
    raise RuntimeError("no room for three findings in this scan")


def draw_lesion(rng: np.random.Generator, canvas: Canvas) -> Lesion:
    """Draw a finding as those of a scan are drawn."""
    while (found := _place(rng, canvas, _kind(rng, set()))) is None:
        pass
    return found


def _pair(rng: np.random.Generator, canvas: Canvas) -> list[Lesion]:
    """Return two findings of different kinds in one organ, far from each other; none where there is no room."""
    first = _place(rng, canvas, _kind(rng, set()))
    if first is None:
        return []
    others = [name for name, kind in KINDS.items() if first.organ in kind.organs and name != first.kind]
    for _ in range(_TRIES // 4):
        if not others:
            return []
        second = _place(rng, canvas, others[int(rng.integers(len(others)))], first.organ)
        if second and abs(second.centre[2] - first.centre[2]) >= PAIR_APART:
            return [first, second]
    return []


def _kind(rng: np.random.Generator, taken: set[str]) -> str:
    """Draw a kind; one that is there already comes again now and then, on another side or of another size."""
    weights = np.array([kind.weight * (0.4 if name in taken else 1) for name, kind in KINDS.items()])
    return list(KINDS)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _place(rng: np.random.Generator, canvas: Canvas, name: str, organ: Organ | None = None) -> Lesion | None:
    """Draw where a finding lies: any depth of its organ in the scan, then a place of the organ there."""
    kind = KINDS[name]
    organ = kind.organs[int(rng.integers(len(kind.organs)))] if organ is None else organ
    radius, phase = float(rng.uniform(*kind.radius)), float(rng.uniform(0, 2 * np.pi))
    grid, mask = canvas.grid, canvas.organ == organ
    depths = grid.z[:, 0, 0]
    areas = mask.sum((1, 2))
    if not areas.any():
        return None
    at_floor = kind.shape == "fluid"  # a lung's lowest slices are thin, and fluid gathers there
    reach = depths[areas > (0 if at_floor else 0.25 * areas.max())]
    margin = 0.75 * min(radius, 14.0)
    inside = (max(float(reach[0]), float(depths[0]) + margin), min(float(reach[-1]), float(depths[-1]) - margin))
    if at_floor:
        inside = (inside[0], canvas.torso.domes[organ == Organ.LEFT_LUNG] - 12)
    if inside[1] <= inside[0]:
        return None
    z = float(rng.uniform(*inside))
    centre = (
        (AORTA[0], AORTA[1]) if organ == Organ.AORTA else _spot(rng, grid, mask[np.abs(depths - z).argmin()], radius)
    )
    return None if centre is None else Lesion(name, organ, (*centre, z), radius, phase)


def _spot(rng: np.random.Generator, grid: Grid, mask: NDArray[np.bool_], radius: float) -> tuple[float, float] | None:
    """Return a place of an organ in one slice, as far inside as the radius asks for, or as can be."""
    pixel = float(np.hypot(grid.x[0, 0, 1] - grid.x[0, 0, 0], grid.y[0, 0, 1] - grid.y[0, 0, 0]))
    away = ndimage.distance_transform_edt(mask) * pixel
    rows, columns = np.nonzero(away > min(0.6 * radius, 0.8 * float(away.max())))
    if not len(rows):
        return None
    at = int(rng.integers(len(rows)))
    return float(grid.x[0, rows[at], columns[at]]), float(grid.y[0, rows[at], columns[at]])


def paint_lesion(canvas: Canvas, lesion: Lesion, contrast: float = 1.0) -> tuple[float, float] | None:
    """Paint a finding with a share of its own density.

    Returns:
        The indices of the first slice that shows it and of the one after the last; None where none does.
    """
    kind = KINDS[lesion.kind]
    reach = 1.4 * max(lesion.radius, 15.0) + (40.0 if kind.shape == "fluid" else 4.0)
    window = canvas.grid.window(lesion.centre, (reach + 40 * (kind.shape == "fluid"),) * 3)
    if window is None:
        return None
    part, hu = canvas.grid.within(window), canvas.hu[window]
    mask, value = _SHAPES[kind.shape](canvas, lesion, part, window)
    if kind.shape in ("haze", "mesh"):  # vessels still show through
        value = np.maximum(value, hu)
    if kind.shape in ("solid", "airspace", "cavity", "bulla"):  # and not through these
        hu = np.minimum(hu, np.float32(LUNG)) if lesion.organ in _LUNGS else hu
    canvas.hu[window] = canvas.hu[window] + mask * np.float32(contrast) * (value - hu)
    shown = np.flatnonzero((mask > 0.5).any((1, 2)))
    return (window[0].start + int(shown[0]), window[0].start + int(shown[-1]) + 1) if len(shown) else None


Shaped = tuple[Array, Array]


def _away(lesion: Lesion, part: Grid, flat: tuple[float, float, float] = (1, 1, 1), rough: float = 0.0) -> Array:
    """Distance to the middle in units of the radius, along axes that `flat` shortens, wavy by `rough`."""
    x, y, z = (
        (axis - np.float32(at)) / np.float32(lesion.radius * share)
        for axis, at, share in zip((part.x, part.y, part.z), lesion.centre, flat, strict=True)
    )
    away = np.sqrt(x * x + y * y + z * z)
    if rough:
        turn = np.arctan2(y, x)
        wave = np.sin(3 * turn + lesion.phase + z) + 0.7 * np.sin(5 * turn - 2 * lesion.phase + 2 * z)
        away = away * (1 + np.float32(rough) * wave)
    return np.asarray(away, np.float32)


def _solid(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    kind, away = KINDS[lesion.kind], _away(lesion, part, rough=0.04)
    value = np.float32(kind.hu) + np.float32(kind.rim) * smooth(away - 0.72, 0.12)
    return smooth((1 - away) * lesion.radius, 2.5), value


def _cavity(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, rough=0.05)
    value = np.float32(KINDS[lesion.kind].hu) - np.float32(1000) * smooth(0.6 - away, 0.1)
    return smooth((1 - away) * lesion.radius, 2.5), value


def _bulla(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part)
    value = np.float32(KINDS[lesion.kind].hu) + np.float32(900) * smooth(away - 0.82, 0.08)
    return smooth((1 - away) * lesion.radius, 2.5), value


def _haze(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, (1.1, 1.0, 0.9), 0.13)
    mask = smooth((1 - away) * lesion.radius, 6.0) * _own(canvas, lesion, window)
    return mask, np.full_like(away, KINDS[lesion.kind].hu)


def _airspace(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, (1.1, 1.0, 0.9), 0.14)
    turn = np.arctan2(part.y - np.float32(lesion.centre[1]), part.x - np.float32(lesion.centre[0]))
    branches = smooth(0.32 - np.abs(np.sin(1.5 * (turn - lesion.phase))), 0.2) * smooth(0.7 - away, 0.1)
    value = np.float32(KINDS[lesion.kind].hu) - np.float32(700) * branches
    return smooth((1 - away) * lesion.radius, 4.0) * _own(canvas, lesion, window), value


def _band(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, (1.0, 0.6, 0.2))
    mask = smooth((1 - away) * lesion.radius * 0.2, 2.0) * _own(canvas, lesion, window)
    return mask, np.full_like(away, KINDS[lesion.kind].hu)


def _mesh(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, rough=0.1)
    waves = [
        np.sin(2 * np.pi / 15 * (axis - at) + lesion.phase)
        for axis, at in zip((part.x, part.y), lesion.centre[:2], strict=True)
    ]
    net = smooth(np.maximum(*waves) - 0.55, 0.3)
    value = np.float32(LUNG - 60) + np.float32(KINDS[lesion.kind].hu - LUNG + 350) * net * np.ones_like(away)
    return smooth((1 - away) * lesion.radius, 4.0) * _own(canvas, lesion, window), value


def _fluid(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    """Free fluid: what lies behind a level in the lower part of the lung's space."""
    level = np.float32(-88 + 0.75 * lesion.radius)
    top = np.float32(lesion.centre[2] + 1.2 * lesion.radius)
    mask = smooth(level - part.y, 4.0) * smooth(top - part.z + 0.4 * (level - part.y), 6.0)
    mask = mask * _own(canvas, lesion, window)
    return mask, np.full_like(mask, KINDS[lesion.kind].hu)


def _plaque(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    dx, dy = part.x - np.float32(lesion.centre[0]), part.y - np.float32(lesion.centre[1])
    wall = smooth(3.2 - np.abs(np.hypot(dx, dy) - AORTA[2] + 1), 1.5) * smooth(
        np.cos(np.arctan2(dy, dx) - lesion.phase) - 0.2, 0.2
    )
    mask = wall * smooth(lesion.radius - np.abs(part.z - np.float32(lesion.centre[2])), 2.0)
    return mask, np.full_like(mask, KINDS[lesion.kind].hu)


def _bulge(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    away = _away(lesion, part, (1, 1, 1.1))
    value = np.float32(canvas.blood) - np.float32(0.8 * canvas.torso.contrast) * smooth(away - 0.7, 0.1)  # thrombus
    return smooth((1 - away) * lesion.radius, 2.5), value


def _ring(canvas: Canvas, lesion: Lesion, part: Grid, window: tuple[slice, ...]) -> Shaped:
    dx, dy = part.x - np.float32(lesion.centre[0]), part.y - np.float32(lesion.centre[1])
    mask = smooth(2.2 - np.abs(np.hypot(dx, dy) - AORTA[2] + 1), 1.5)
    mask = mask * smooth(lesion.radius - np.abs(part.z - np.float32(lesion.centre[2])), 2.0)
    return mask, np.full_like(mask, KINDS[lesion.kind].hu)


def _own(canvas: Canvas, lesion: Lesion, window: tuple[slice, ...]) -> Array:
    """One in the organ of a finding, zero elsewhere."""
    return np.asarray(canvas.organ[window] == lesion.organ, np.float32)


_SHAPES = {
    "solid": _solid, "cavity": _cavity, "bulla": _bulla, "haze": _haze, "airspace": _airspace, "band": _band,
    "mesh": _mesh, "fluid": _fluid, "plaque": _plaque, "bulge": _bulge, "ring": _ring,
}  # fmt: skip
