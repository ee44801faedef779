"""Findings of a chest slice: their shapes, where they can be, and the boxes around them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from datamodules.twins.anatomy import Array, smooth
from datamodules.twins.ct_body import LUNG, Section, Trunk
from datamodules.twins.shapes import Box

_PLAN_SIDE = 224  # boxes are measured on masks of this size, whatever the image's
_TRIES = 12


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        shape: `blob` in a lung, `fluid`, `air`, `vessel` or `bone`.
        radius: Least and greatest radius of a blob, or depth of the others.
        hu: Hounsfield units inside.
        count: Chances of one, two and three at once.
        rough: How wavy its outline is.
        clear: Whether the lung's markings are gone in it.
        bronchi: Whether airways show in it as dark lines.
    """

    shape: str
    radius: tuple[float, float]
    hu: float
    count: tuple[float, ...] = (1.0,)
    rough: float = 0.0
    clear: bool = True
    bronchi: bool = False


KINDS = {
    "nodule": Kind("blob", (0.035, 0.065), 40.0, (0.6, 0.25, 0.15), 0.05),
    "mass": Kind("blob", (0.11, 0.17), 45.0, (1.0,), 0.14),
    "consolidation": Kind("blob", (0.12, 0.2), 10.0, (0.75, 0.25), 0.2, bronchi=True),
    "ground glass": Kind("blob", (0.13, 0.24), -560.0, (0.6, 0.4), 0.2, clear=False),
    "bulla": Kind("blob", (0.07, 0.13), -985.0, (0.7, 0.3)),
    "effusion": Kind("fluid", (0.14, 0.36), 12.0, (0.7, 0.3)),
    "pneumothorax": Kind("air", (0.1, 0.24), -995.0, (0.85, 0.15)),
    "aneurysm": Kind("vessel", (0.115, 0.16), 0.0),
    "bone lesion": Kind("bone", (0.04, 0.06), 950.0, (1.0,), 0.15),
}
"""Ground glass, aneurysm and bone lesion have no counterpart on the twins of films; the others share their words."""


@dataclass(frozen=True, slots=True)
class CtLesion:
    """One place of a finding: its side (`left`, `right` or `midline`, the patient's) and the numbers of its shape."""

    kind: str
    side: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CtFinding:
    """A kind of finding with all its places and their boxes (xyxy in [0, 1])."""

    kind: str
    lesions: tuple[CtLesion, ...]
    boxes: tuple[Box, ...]


def mask_of(section: Section, lesion: CtLesion) -> Array:
    """Where a lesion is: `(side, side)` in [0, 1]; its box is around the values above one half."""
    n, shape = lesion.numbers, KINDS[lesion.kind].shape
    if shape == "fluid":
        return section.lung_of(lesion.side) * (1 - section.shifted_thorax(-n["depth"]))
    if shape == "air":
        return section.lung_of(lesion.side) * (1 - section.shifted_thorax(n["depth"]))
    if shape == "vessel":
        return section.disc(section.trunk.vessel, (n["radius"], n["radius"]))
    blob = _blob(section, n)
    return blob * (section.spine if shape == "bone" else section.lung_of(lesion.side))


def _blob(section: Section, n: dict[str, float]) -> Array:
    dx, dy = section.x - np.float32(n["x"]), section.y - np.float32(n["y"])
    away, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    wave = np.sin(3 * angle + n["phase"]) + 0.6 * np.sin(5 * angle + 2.3 * n["phase"])
    edge = np.float32(n["radius"]) * (1 + np.float32(n["rough"]) * wave)
    return smooth(np.asarray(edge - away, dtype=np.float32), 0.012)


def plan_findings(rng: np.random.Generator, trunk: Trunk, kinds: list[str]) -> list[CtFinding]:
    """Plan these kinds apart from each other; one for which there is no room is left out."""
    section = Section(trunk, _PLAN_SIDE)
    taken = np.zeros((_PLAN_SIDE, _PLAN_SIDE), dtype=np.bool_)
    planned = []
    for kind in kinds:
        count = 1 + int(rng.choice(len(KINDS[kind].count), p=KINDS[kind].count))
        placed: list[tuple[CtLesion, Box]] = []
        for _ in range(_TRIES):
            lesion = _draw(rng, section, kind, [one.side for one, _ in placed])
            inside = mask_of(section, lesion) > 0.5
            box = _box(inside)
            if box is None or (inside & taken).any():
                continue
            taken |= ndimage.binary_dilation(inside, iterations=4)
            placed.append((lesion, box))
            if len(placed) == count:
                break
        if placed:
            planned.append(CtFinding(kind, *(tuple(part) for part in zip(*placed, strict=True))))
    return planned


def _draw(rng: np.random.Generator, section: Section, kind: str, sides: list[str]) -> CtLesion:
    what = KINDS[kind]
    size = float(rng.uniform(*what.radius))
    if what.shape in ("fluid", "air"):
        other = {"left": "right", "right": "left"}
        side = other[sides[0]] if sides else ("left", "right")[int(rng.integers(2))]
        return CtLesion(kind, side, {"depth": size})
    if what.shape == "vessel":
        return CtLesion(kind, "midline", {"radius": size})
    wave = {"radius": size, "rough": what.rough, "phase": float(rng.uniform(0, 6.28))}
    if what.shape == "bone":
        x, y = section.trunk.spine
        place = {"x": x + float(rng.uniform(-0.05, 0.05)), "y": y + float(rng.uniform(-0.03, 0.03))}
        return CtLesion(kind, "midline", place | wave)
    side = ("left", "right")[int(rng.integers(2))]
    depth = ndimage.distance_transform_edt(section.lung_of(side) > 0.5) * (2 / section.side)
    rows, columns = np.nonzero(depth > min(0.5 * size, 0.9 * float(depth.max())))
    at = int(rng.integers(len(rows)))
    place = {"x": float(section.x[rows[at], columns[at]]), "y": float(section.y[rows[at], columns[at]])}
    return CtLesion(kind, side, place | wave)


def _box(inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Box | None:
    """Return the tight box of the largest part, None where that is hardly there."""
    parts, count = ndimage.label(ndimage.binary_opening(inside, np.ones((3, 3))))
    if not count:
        return None
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    rows, columns = np.nonzero(parts == largest)
    side = float(len(inside))
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    x1, y1, x2, y2 = (float(edge) / side for edge in edges)
    return (x1, y1, x2, y2) if min(x2 - x1, y2 - y1) > 0.02 else None


def paint_findings(hu: Array, section: Section, findings: list[CtFinding], contrast: float) -> Array:
    """Paint findings into a slice; `contrast` is the share of their own density that they have."""
    for finding in findings:
        for lesion in finding.lesions:
            hu = _paint(hu, section, lesion, np.float32(contrast))
    return hu


def _paint(hu: Array, section: Section, lesion: CtLesion, contrast: np.float32) -> Array:
    kind, mask = KINDS[lesion.kind], mask_of(section, lesion)
    value = np.float32(section.trunk.contrast if kind.shape == "vessel" else kind.hu)
    under = np.minimum(hu, np.float32(LUNG)) if kind.clear and kind.shape in ("blob", "air") else hu
    added = under + contrast * (value - under)
    if not kind.clear:  # vessels still show through
        added = np.maximum(hu, added)
    if kind.bronchi:
        added = added - np.float32(700) * contrast * _bronchi(section, lesion.numbers)
    hu = np.asarray(hu + mask * (added - hu), dtype=np.float32)
    if value < LUNG:  # the thin wall of a bulla, the edge of a collapsed lung
        rim = ndimage.gaussian_gradient_magnitude(mask, 0.006 * section.side)
        hu += np.float32(380) * rim / max(float(rim.max()), 1e-6) * (section.lung_of(lesion.side) > 0.5)
    return hu


def _bronchi(section: Section, n: dict[str, float]) -> Array:
    """Branches from the middle of a blob, thinner than their distance."""
    dx, dy = section.x - np.float32(n["x"]), section.y - np.float32(n["y"])
    away = np.hypot(dx, dy)
    across = away * np.abs(np.sin(1.5 * (np.arctan2(dy, dx) - n["phase"])))
    return smooth(np.float32(0.012) - across, 0.008) * (away < 0.75 * n["radius"])
