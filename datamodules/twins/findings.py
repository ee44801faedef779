"""Pathology of the synthetic films: which findings there are, where they lie, how large they are, what they look like.

A finding is planned as lesions: pure geometry in the body frame, which gives both the painted density and the box.

Sizes, places and counts follow public annotation tables (NIH `BBox_List_2017`, RSNA `stage_2_train_labels`, VinDr
`vinbigdata-train`, as shipped inside the torchxrayvision wheel). Their 10/50/90 % quantiles, as shares of the image:
nodule w .05/.07/.10; mass w .07/.12/.31, h .08/.14/.36; effusion w .10/.20/.31, h .09/.27/.59; pneumothorax
w .09/.20/.31, h .08/.20/.52, centre y .15/.25/.61; pneumonia w .16/.22/.57, h .16/.27/.50; RSNA opacity w .14/.21/.29,
h .14/.29/.55, with 1, 2 and 3 or more boxes in 43, 54 and 3 % of positive films; atelectasis w .10/.17/.32,
h .06/.11/.22. About half of all boxes lie on each side; an abnormal VinDr film names 2/3/5 kinds (quartiles).
Two departures, on purpose: the smallest boxes are larger (a side of about .06, to be seen at 128 pixels), and kinds
whose place the name gives away (enlarged heart, aorta, hernia) are rare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datamodules.twins.anatomy import Anatomy, Grid
from datamodules.twins.shapes import Box, Lesion, box_of


@dataclass(frozen=True, slots=True)
class Finding:
    """A planned finding: its kind and lesions, with a box for each in [0, 1] of the image."""

    kind: str
    lesions: tuple[Lesion, ...]
    boxes: tuple[Box, ...]


_SIGN = {"right": -1, "left": 1, "midline": 1}
_LUNGS = ("right", "left")
_SMALLEST = 0.042  # shortest side of a box, as a share of the image's
LARGE_HEART = (1.2, 1.5)  # sizes of an enlarged heart


def _zone(y: float) -> str:
    return "upper" if y < 0.36 else "middle" if y < 0.64 else "lower"


def _grade(value: float, low: float, high: float) -> int:
    return int(np.clip(3 * (value - low) / (high - low), 0, 2))


def _spot(
    rng: np.random.Generator, body: Anatomy, side: str, a: float, b: float, span: tuple[float, float]
) -> tuple[float, float]:
    """A point in the lung of that side, with room for most of (a, b), and not behind the heart."""
    x = y = 0.0
    for _ in range(24):
        y = float(rng.uniform(*span))
        inner, outer = body.margins(y, side == "left")
        low, high = inner + 0.75 * a, outer - 0.75 * a
        x = _SIGN[side] * float(rng.uniform(min(low, high), max(low, high)))
        if body.shows(x, y, 0.7 * b):
            break
    return x, y


# --- where: the sides of a finding's lesions --------------------------------------------------------------------------

Sides = Callable[[np.random.Generator], list[str]]


def _sided(both: float = 0.0, left: float = 0.5) -> Sides:
    """One lesion, or one on each side with a share of `both`."""

    def draw(rng: np.random.Generator) -> list[str]:
        if rng.random() < both:
            return ["right", "left"]
        return ["left" if rng.random() < left else "right"]

    return draw


def _scattered(*shares: float) -> Sides:
    """One, two, ... lesions with these shares, each on a side of its own."""

    def draw(rng: np.random.Generator) -> list[str]:
        count = min(len(shares), 1 + int(np.searchsorted(np.cumsum(shares), rng.random())))
        return [_LUNGS[int(rng.integers(2))] for _ in range(count)]

    return draw


def _midline(rng: np.random.Generator) -> list[str]:
    return ["midline"]


# --- what: one lesion on a side ---------------------------------------------------------------------------------------

Planner = Callable[[np.random.Generator, Anatomy, str], Lesion]


def _blob(
    size: tuple[float, float],
    tall: tuple[float, float] = (0.85, 1.15),
    rough: float = 0.05,
    soft: float = 0.08,
    span: tuple[float, float] = (0.1, 0.9),
) -> Planner:
    """A roundish lesion anywhere in the lung: widths, height over width, waviness, softness, range of heights."""

    def draw(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
        full = float(np.exp(rng.uniform(np.log(size[0]), np.log(size[1]))))
        a, b = full / 2, full / 2 * float(rng.uniform(*tall))
        x, y = _spot(rng, body, side, a, b, span)
        tilt, phase = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0, 6.28))
        numbers = {"x": x, "y": y, "a": a, "b": b, "tilt": tilt, "rough": rough, "phase": phase, "soft": soft}
        return Lesion("blob", side, _zone(y), _grade(np.log(full), np.log(size[0]), np.log(size[1])), numbers)

    return draw


def _central(
    x: tuple[float, float], y: tuple[float, float], size: tuple[float, float], tall: tuple[float, float], inside: bool
) -> Planner:
    """A roundish lesion at its own place: ranges of |x|, y (from the dome where negative), width, height over width."""

    def draw(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
        full, at = float(rng.uniform(*size)), float(rng.uniform(*y))
        numbers = {
            "x": _SIGN[side] * float(rng.uniform(*x)),
            "y": at if at > 0 else max(body.domes) + at,
            "a": full / 2,
            "b": full / 2 * float(rng.uniform(*tall)),
            "rough": 0.06 if inside else 0.0,
            "phase": float(rng.uniform(0, 6.28)),
            "soft": 0.08,
            "inside": float(inside),
        }
        return Lesion("blob", side, "", _grade(full, *size), numbers)

    return draw


def _band(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    length, thick = float(rng.uniform(0.26, 0.44)), float(rng.uniform(0.024, 0.036))
    x, y = _spot(rng, body, side, length / 2, 0.05, (0.35, 0.92))
    tilt = float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.7))
    numbers = {"x": x, "y": y, "a": length / 2, "b": thick, "tilt": tilt, "soft": 0.3}
    return Lesion("blob", side, _zone(y), _grade(length, 0.26, 0.44), numbers)


def _fluid(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    depth = float(np.exp(rng.uniform(np.log(0.04), np.log(0.55))))
    level = body.domes[side == "left"] + 0.06 - depth
    return Lesion(
        "fluid", side, "lower", _grade(depth, 0.0, 0.5), {"level": level, "rise": float(rng.uniform(0.08, 0.2))}
    )


def _air(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    end, gap = float(rng.uniform(0.25, 1.0)), float(rng.uniform(0.05, 0.16))
    numbers = {"end": end, "gap": gap, "drop": float(rng.uniform(0.05, 0.16))}
    return Lesion("air", side, "upper" if end < 0.5 else "", _grade(end + 2 * gap, 0.35, 1.2), numbers)


def _rind(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    length, thick = float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.07, 0.1))
    top = float(rng.uniform(0.03, 0.95 - length))
    numbers = {"top": top, "end": top + length, "thick": thick}
    return Lesion("rind", side, _zone(top + length / 2), _grade(length, 0.2, 0.5), numbers)


def _callus(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    y, tall, phase = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.056, 0.07)), float(rng.uniform(0, 6.28))
    x = _SIGN[side] * (body.margins(y, side == "left")[1] - float(rng.uniform(0.0, 0.06)))
    numbers = {"x": x, "y": y, "a": 0.062, "b": tall, "tilt": _SIGN[side] * 0.6, "rough": 0.1, "phase": phase}
    return Lesion("blob", side, _zone(y), 0, {**numbers, "soft": 0.25, "inside": 0.0})


def _generator(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    x, y = _SIGN[side] * float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.05, 0.3))
    a, b, tilt = float(rng.uniform(0.07, 0.09)), float(rng.uniform(0.06, 0.08)), float(rng.uniform(-0.4, 0.4))
    return Lesion("slab", side, "", 0, {"x": x, "y": y, "a": a, "b": b, "tilt": tilt})


def _heart(rng: np.random.Generator, body: Anatomy, side: str) -> Lesion:
    """The heart of a body that has been given a large one; of another, a large one that is never painted."""
    size = body.heart[0] if body.heart[0] > LARGE_HEART[0] else float(rng.uniform(*LARGE_HEART))
    return Lesion("heart", side, "", _grade(size, *LARGE_HEART), {"size": size})


# --- kinds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        weight: How often it is planned, about in proportion.
        density: Attenuation it adds at difficulty 0.29; negative where it is lucent.
        texture: How it is painted.
        sides: Draws the sides of its lesions.
        lesion: Plans one lesion.
    """

    weight: float
    density: float
    texture: str
    sides: Sides
    lesion: Planner


KINDS: dict[str, Kind] = {
    "pleural effusion": Kind(1.5, 0.5, "solid", _sided(0.3), _fluid),
    "pneumothorax": Kind(0.9, -0.16, "air", _sided(), _air),
    "consolidation": Kind(
        1.5, 0.36, "fluffy", _scattered(0.6, 0.32, 0.08), _blob((0.24, 0.46), (0.75, 1.4), 0.09, 0.3, (0.15, 0.85))
    ),
    "nodule": Kind(1.4, 0.3, "solid", _scattered(0.66, 0.2, 0.1, 0.04), _blob((0.095, 0.155), rough=0.03, soft=0.12)),
    "mass": Kind(1.0, 0.36, "solid", _sided(), _blob((0.18, 0.36), rough=0.06, span=(0.14, 0.85))),
    "atelectasis": Kind(1.1, 0.24, "solid", _sided(0.15), _band),
    "interstitial pattern": Kind(
        1.1, 0.32, "net", _sided(0.35), _blob((0.34, 0.54), (0.9, 1.5), 0.05, 0.35, (0.25, 0.85))
    ),
    "fibrosis": Kind(0.9, 0.36, "lines", _sided(0.12), _blob((0.2, 0.36), (0.8, 1.3), 0.06, 0.25, (0.1, 0.7))),
    "pleural thickening": Kind(1.0, 0.34, "solid", _sided(0.15), _rind),
    "calcified granuloma": Kind(0.9, 0.75, "solid", _scattered(0.82, 0.18), _blob((0.09, 0.115))),
    "cavitation": Kind(0.7, 0.36, "ring", _sided(), _blob((0.17, 0.3), span=(0.12, 0.7))),
    "bulla": Kind(0.7, -0.17, "bubble", _sided(0.15), _blob((0.2, 0.4), rough=0.02, soft=0.05, span=(0.1, 0.8))),
    "bronchiectasis": Kind(0.7, 0.3, "lines", _sided(0.15), _blob((0.22, 0.36), (0.8, 1.2), 0.04, 0.3, (0.3, 0.85))),
    "hilar enlargement": Kind(
        0.6, 0.36, "solid", _sided(0.2), _central((0.15, 0.24), (0.3, 0.52), (0.15, 0.27), (0.95, 1.4), inside=True)
    ),
    "rib fracture": Kind(0.7, 0.5, "broken", _sided(), _callus),
    "pacemaker": Kind(0.7, 1.0, "metal", _sided(left=0.6), _generator),
    "hiatal hernia": Kind(
        0.4, 0.2, "level", _midline, _central((-0.06, 0.14), (-0.2, -0.06), (0.18, 0.34), (0.8, 1.1), inside=False)
    ),
    "aortic elongation": Kind(
        0.3, 0.32, "solid", _midline, _central((0.06, 0.12), (0.2, 0.31), (0.2, 0.3), (0.9, 1.35), inside=False)
    ),
    "cardiomegaly": Kind(0.3, 0.0, "none", _midline, _heart),
}


def draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """Different kinds by weight, in an order that says nothing about them (Gumbel top-k, then shuffled)."""
    names = list(KINDS)
    keys = np.log([KINDS[name].weight for name in names]) + rng.gumbel(size=len(names))
    chosen = [names[i] for i in np.argsort(-keys)[:count]]
    return [chosen[i] for i in rng.permutation(count)]


def _overlap(one: Box, others: list[Box]) -> float:
    """The largest share of the smaller box that is common to `one` and another."""
    most = 0.0
    for other in others:
        w, h = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
        if w > 0 and h > 0:
            most = max(most, w * h / min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)))
    return most


def plan_finding(rng: np.random.Generator, grid: Grid, kind: str, taken: list[Box]) -> Finding | None:
    """Plan one finding away from the boxes that are taken; None when there is no room for it.

    How many lesions there are, and on which sides, is drawn once: trying again must not favour what is easy to place.
    """
    lesions: list[Lesion] = []
    boxes: list[Box] = []
    for side in KINDS[kind].sides(rng):
        for attempt in range(14):
            lesion = KINDS[kind].lesion(rng, grid.body, side)
            box = box_of(grid, lesion)
            if box is None or min(box[2] - box[0], box[3] - box[1]) < _SMALLEST:
                continue
            if _overlap(box, taken + boxes) <= 0.15 + 0.05 * attempt:
                lesions.append(lesion)
                boxes.append(box)
                break
        else:
            return None
    return Finding(kind, tuple(lesions), tuple(boxes))
