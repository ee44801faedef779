"""Pathology of the synthetic films: which findings there are, where they lie, how large they are, what they look like.

A finding is planned as lesions (pure geometry in the body frame); the same geometry gives the painted density and the
box.

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


def _zone(y: float) -> str:
    return "upper" if y < 0.36 else "middle" if y < 0.64 else "lower"


def _grade(value: float, low: float, high: float) -> int:
    return int(np.clip(3 * (value - low) / (high - low), 0, 2))


def _sides(rng: np.random.Generator, both: float) -> list[str]:
    if rng.random() < both:
        return ["right", "left"]
    return ["right" if rng.random() < 0.5 else "left"]


def _spot(
    rng: np.random.Generator, body: Anatomy, side: str, a: float, b: float, y0: float = 0.1, y1: float = 0.9
) -> tuple[float, float]:
    """A point in the lung of that side, with room for most of (a, b), and not behind the heart."""
    sign = 1 if side == "left" else -1
    x = y = 0.0
    for _ in range(24):
        y = float(rng.uniform(y0, y1))
        inner, outer = body.margins(y, side == "left")
        low, high = inner + 0.75 * a, outer - 0.75 * a
        x = sign * float(rng.uniform(min(low, high), max(low, high)))
        if body.shows(x, y, 0.7 * b):
            break
    return x, y


def _blobs(
    rng: np.random.Generator,
    body: Anatomy,
    side: str,
    size: tuple[float, float],
    tall: tuple[float, float] = (0.85, 1.15),
    rough: float = 0.06,
    soft: float = 0.15,
    span: tuple[float, float] = (0.1, 0.9),
) -> Lesion:
    full = float(np.exp(rng.uniform(np.log(size[0]), np.log(size[1]))))
    a, b = full / 2, full / 2 * float(rng.uniform(*tall))
    x, y = _spot(rng, body, side, a, b, *span)
    numbers = {
        "x": x,
        "y": y,
        "a": a,
        "b": b,
        "tilt": float(rng.uniform(-0.5, 0.5)),
        "rough": rough,
        "phase": float(rng.uniform(0, 6.28)),
        "soft": soft,
        "seed": float(rng.integers(1 << 30)),
    }
    return Lesion("blob", side, _zone(y), _grade(np.log(full), np.log(size[0]), np.log(size[1])), numbers)


def _several(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    return 1 + int(np.searchsorted(np.cumsum(shares), rng.random()))


def _nodule(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.6, 0.22, 0.12))
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.095, 0.155), rough=0.03, soft=0.12) for _ in range(count)]


def _mass(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.18, 0.36), rough=0.06, soft=0.08, span=(0.14, 0.85))]


def _granuloma(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.78, 0.22))
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.09, 0.115), rough=0.05, soft=0.08) for _ in range(count)]


def _cavity(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.17, 0.3), rough=0.05, soft=0.08, span=(0.12, 0.7))]


def _bulla(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, s, (0.2, 0.4), rough=0.02, soft=0.05, span=(0.1, 0.8)) for s in _sides(rng, 0.2)]


def _consolidation(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.58, 0.34, 0.08))
    first = _sides(rng, 0)[0]
    sides = [first, "left" if first == "right" else "right", first]
    return [_blobs(rng, body, s, (0.24, 0.46), (0.75, 1.4), 0.09, 0.3, (0.15, 0.85)) for s in sides[:count]]


def _interstitial(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, s, (0.34, 0.54), (0.9, 1.5), 0.05, 0.35, (0.25, 0.85)) for s in _sides(rng, 0.4)]


def _fibrosis(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    span = (0.1, 0.35) if rng.random() < 0.6 else (0.35, 0.85)
    return [_blobs(rng, body, s, (0.2, 0.36), (0.8, 1.3), 0.06, 0.25, span) for s in _sides(rng, 0.15)]


def _bronchiectasis(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, s, (0.22, 0.36), (0.8, 1.2), 0.04, 0.3, (0.3, 0.85)) for s in _sides(rng, 0.2)]


def _atelectasis(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.15):
        length, thick = float(rng.uniform(0.26, 0.44)), float(rng.uniform(0.024, 0.036))
        sign = 1 if side == "left" else -1
        x, y = _spot(rng, body, side, length / 2, 0.05, 0.35, 0.92)
        tilt = sign * float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.7))
        numbers = {"x": x, "y": y, "a": length / 2, "b": thick, "tilt": tilt, "soft": 0.3}
        lesions.append(Lesion("blob", side, _zone(y), _grade(length, 0.24, 0.42), numbers))
    return lesions


def _effusion(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.32):
        floor = body.domes[side == "left"]
        depth = float(np.exp(rng.uniform(np.log(0.04), np.log(0.55))))
        numbers = {"level": floor + 0.06 - depth, "rise": float(rng.uniform(0.08, 0.2))}
        lesions.append(Lesion("fluid", side, "lower", _grade(depth, 0.0, 0.5), numbers))
    return lesions


def _pneumothorax(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    side = _sides(rng, 0)[0]
    end, gap = float(rng.uniform(0.25, 1.0)), float(rng.uniform(0.05, 0.16))
    numbers = {"end": end, "gap": gap, "drop": float(rng.uniform(0.05, 0.16))}
    return [Lesion("air", side, "upper" if end < 0.5 else "", _grade(end + 2 * gap, 0.35, 1.2), numbers)]


def _thickening(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.2):
        length = float(rng.uniform(0.2, 0.5))
        top = float(rng.uniform(0.03, 0.95 - length))
        thick = float(rng.uniform(0.07, 0.1))
        numbers = {"top": top, "end": top + length, "thick": thick}
        lesions.append(Lesion("rind", side, _zone(top + length / 2), _grade(length, 0.2, 0.5), numbers))
    return lesions


def _hilum(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.25):
        sign = 1 if side == "left" else -1
        full = float(rng.uniform(0.15, 0.27))
        x, y = sign * float(rng.uniform(0.15, 0.24)), float(rng.uniform(0.3, 0.52))
        numbers = {
            "x": x,
            "y": y,
            "a": full / 2,
            "b": full / 2 * float(rng.uniform(0.95, 1.4)),
            "rough": 0.09,
            "phase": float(rng.uniform(0, 6.28)),
            "soft": 0.12,
        }
        lesions.append(Lesion("blob", side, "", _grade(full, 0.15, 0.27), numbers))
    return lesions


def _cardiomegaly(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    size = body.heart[0] if body.heart[0] > 1.15 else float(rng.uniform(1.2, 1.5))
    return [Lesion("heart", "midline", "", _grade(size, 1.2, 1.5), {"size": size})]


def _aorta(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    full = float(rng.uniform(0.2, 0.3))
    numbers = {
        "x": float(rng.uniform(0.06, 0.12)),
        "y": float(rng.uniform(0.2, 0.31)),
        "a": full / 2,
        "b": full / 2 * float(rng.uniform(0.9, 1.35)),
        "soft": 0.06,
        "inside": 0.0,
    }
    return [Lesion("blob", "midline", "", _grade(full, 0.2, 0.3), numbers)]


def _hernia(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    full = float(rng.uniform(0.18, 0.34))
    numbers = {
        "x": float(rng.uniform(-0.06, 0.14)),
        "y": max(body.domes) - float(rng.uniform(0.06, 0.2)),
        "a": full / 2,
        "b": full / 2 * float(rng.uniform(0.8, 1.1)),
        "soft": 0.06,
        "inside": 0.0,
    }
    return [Lesion("blob", "midline", "", _grade(full, 0.18, 0.34), numbers)]


def _fracture(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    side = _sides(rng, 0)[0]
    sign = 1 if side == "left" else -1
    y = float(rng.uniform(0.2, 0.8))
    wall = body.margins(y, side == "left")[1]
    numbers = {
        "x": sign * (wall - float(rng.uniform(0.0, 0.06))),
        "y": y,
        "a": 0.062,
        "b": float(rng.uniform(0.056, 0.07)),
        "tilt": sign * 0.6,
        "soft": 0.25,
        "inside": 0.0,
        "rough": 0.1,
        "phase": float(rng.uniform(0, 6.28)),
    }
    return [Lesion("blob", side, _zone(y), 0, numbers)]


def _pacemaker(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    side = "left" if rng.random() < 0.6 else "right"
    sign = 1 if side == "left" else -1
    x, y = sign * float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.05, 0.3))
    numbers = {
        "x": x,
        "y": y,
        "a": float(rng.uniform(0.07, 0.09)),
        "b": float(rng.uniform(0.06, 0.08)),
        "tilt": sign * float(rng.uniform(-0.4, 0.4)),
    }
    return [Lesion("slab", side, "", 0, numbers)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding: how often it is planned, its density (negative: lucent), its texture, how it is planned."""

    weight: float
    density: float
    texture: str
    plan: Callable[[np.random.Generator, Anatomy], list[Lesion]]


KINDS: dict[str, Kind] = {
    "pleural effusion": Kind(1.5, 0.5, "solid", _effusion),
    "pneumothorax": Kind(0.9, -0.16, "air", _pneumothorax),
    "consolidation": Kind(1.5, 0.36, "fluffy", _consolidation),
    "nodule": Kind(1.4, 0.3, "solid", _nodule),
    "mass": Kind(1.0, 0.36, "solid", _mass),
    "atelectasis": Kind(1.1, 0.24, "solid", _atelectasis),
    "interstitial pattern": Kind(1.1, 0.32, "net", _interstitial),
    "fibrosis": Kind(0.9, 0.36, "lines", _fibrosis),
    "pleural thickening": Kind(1.0, 0.34, "solid", _thickening),
    "calcified granuloma": Kind(0.9, 0.75, "solid", _granuloma),
    "cavitation": Kind(0.7, 0.36, "ring", _cavity),
    "bulla": Kind(0.7, -0.17, "bubble", _bulla),
    "bronchiectasis": Kind(0.7, 0.3, "lines", _bronchiectasis),
    "hilar enlargement": Kind(0.6, 0.36, "solid", _hilum),
    "rib fracture": Kind(0.7, 0.5, "broken", _fracture),
    "pacemaker": Kind(0.7, 1.0, "metal", _pacemaker),
    "hiatal hernia": Kind(0.4, 0.2, "level", _hernia),
    "aortic elongation": Kind(0.3, 0.32, "solid", _aorta),
    "cardiomegaly": Kind(0.3, 0.0, "none", _cardiomegaly),
}


def draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """Different kinds by weight, in an order that says nothing about them (Gumbel top-k, then shuffled)."""
    names = list(KINDS)
    keys = np.log([KINDS[name].weight for name in names]) + rng.gumbel(size=len(names))
    chosen = [names[i] for i in np.argsort(-keys)[:count]]
    return [chosen[i] for i in rng.permutation(count)]


def _crowded(boxes: list[Box], taken: list[Box], most: float) -> bool:
    """Whether any two boxes share more than `most` of the smaller one."""
    for i, one in enumerate(boxes):
        for other in taken + boxes[:i]:
            w = min(one[2], other[2]) - max(one[0], other[0])
            h = min(one[3], other[3]) - max(one[1], other[1])
            if w <= 0 or h <= 0:
                continue
            if w * h > most * min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)):
                return True
    return False


def plan_finding(rng: np.random.Generator, grid: Grid, kind: str, taken: list[Box]) -> Finding | None:
    """Plan one finding away from the boxes that are taken; None when there is no room for it."""
    for attempt in range(10):
        lesions = KINDS[kind].plan(rng, grid.body)
        boxes = [box_of(grid, lesion) for lesion in lesions]
        shown = [b for b in boxes if b is not None and min(b[2] - b[0], b[3] - b[1]) >= 0.04]
        if len(shown) == len(lesions) and not _crowded(shown, taken, 0.2 + 0.02 * attempt):
            return Finding(kind, tuple(lesions), tuple(shown))
    return None
