"""Pathology of the synthetic films: which findings there are, where they lie, how large they are, what they look like.

A finding is planned as lesions (pure geometry in the body frame); the same geometry gives the painted density and the box.

Sizes, places and counts follow public annotation tables (shares of image width and height, 10/50/90 % quantiles; NIH
`BBox_List_2017`, RSNA `stage_2_train_labels`, VinDr `vinbigdata-train`, as shipped inside the torchxrayvision wheel):
nodule w .05/.07/.10; mass w .07/.12/.31, h .08/.14/.36; effusion w .10/.20/.31, h .09/.27/.59; pneumothorax w .09/.20/.31,
h .08/.20/.52, centre y .15/.25/.61; pneumonia w .16/.22/.57, h .16/.27/.50; RSNA opacity w .14/.21/.29, h .14/.29/.55, with 1, 2
and 3 or more boxes in 43, 54 and 3 % of positive films; atelectasis w .10/.17/.32, h .06/.11/.22; about half of all boxes lie
on each side; an abnormal VinDr film names 2/3/5 kinds (quartiles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from datamodules.twins.anatomy import Anatomy, Array, Grid, smooth

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Lesion:
    """One place of a finding: a shape, its numbers, and the words for where it is and how large.

    `side` is `right`, `left` or `midline` (the patient's); `zone` is `upper`, `middle`, `lower` or empty; `grade` 0, 1, 2 is size.
    """

    shape: str
    side: str
    zone: str
    grade: int
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A planned finding: its kind and lesions, with a box for each in [0, 1] of the image."""

    kind: str
    lesions: tuple[Lesion, ...]
    boxes: tuple[Box, ...]


# --- shapes: masks in [0, 1] over a grid ------------------------------------------------------------------------------


def _own_side(grid: Grid, lesion: Lesion) -> Array:
    x = grid.xy[0]
    return np.asarray((x > 0) if lesion.side == "left" else (x < 0), dtype=np.float32)


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
        mask = mask * smooth(grid.lung, 0.012) * _own_side(grid, lesion)
    return mask


def _fluid(grid: Grid, lesion: Lesion) -> Array:
    """Free pleural fluid: everything in the lung space below a meniscus that rises towards the chest wall."""
    n = lesion.numbers
    y = grid.xy[1]
    t = np.clip((grid.reach - 0.13) / (grid.wall - 0.13), 0, 1)
    level = np.float32(n["level"]) - np.float32(n["rise"]) * (t**3)
    return smooth(y - level, 0.02) * smooth(grid.lung, 0.012) * _own_side(grid, lesion)


def _air(grid: Grid, lesion: Lesion) -> Array:
    """Pleural air: between the chest wall and the edge of a lung that has drawn back from it."""
    n = lesion.numbers
    y = grid.xy[1]
    gap = np.float32(n["gap"]) * smooth(np.float32(n["end"]) - y, 0.25)
    inner = grid.body.wall((y - np.float32(n["drop"])) / (1 - np.float32(n["drop"]))) - gap
    return smooth(grid.reach - inner, 0.008) * smooth(grid.lung, 0.01) * smooth(np.float32(n["end"]) - y, 0.04) * _own_side(grid, lesion)


def _rind(grid: Grid, lesion: Lesion) -> Array:
    """Pleura thickened along the chest wall between two heights."""
    n = lesion.numbers
    y = grid.xy[1]
    middle, half = (n["top"] + n["end"]) / 2, (n["end"] - n["top"]) / 2
    along = np.sqrt(np.clip(1 - ((y - np.float32(middle)) / np.float32(half)) ** 2, 0, 1))
    depth = grid.wall - grid.reach
    return smooth(np.float32(n["thick"]) * along - depth, 0.008) * (along > 0) * smooth(grid.lung, 0.012) * _own_side(grid, lesion)


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
    return smooth(1 - (u**4 + v**4) ** np.float32(0.25), 0.06)


_SHAPES: dict[str, Callable[[Grid, Lesion], Array]] = {
    "blob": _blob, "fluid": _fluid, "air": _air, "rind": _rind, "heart": _heart, "slab": _slab,
}  # fmt: skip


def mask_of(grid: Grid, lesion: Lesion) -> Array:
    """Where a lesion is: (height, width) in [0, 1]; its box is around the values above one half."""
    return np.asarray(_SHAPES[lesion.shape](grid, lesion), dtype=np.float32)


def box_of(grid: Grid, lesion: Lesion) -> Box | None:
    """The tight box (xyxy in [0, 1]) of the part of a lesion that is on the film; None where too little of it is."""
    shown = (mask_of(grid, lesion) > 0.5) & grid.field
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if len(rows) < 3 or len(columns) < 3:
        return None
    height, width = shown.shape
    return (
        float(columns[0] / width), float(rows[0] / height), float((columns[-1] + 1) / width), float((rows[-1] + 1) / height),
    )  # fmt: skip


# --- planners: a kind's lesions ---------------------------------------------------------------------------------------


def _zone(y: float) -> str:
    return "upper" if y < 0.36 else "middle" if y < 0.64 else "lower"


def _grade(value: float, low: float, high: float) -> int:
    return int(np.clip(3 * (value - low) / (high - low), 0, 2))


def _sides(rng: np.random.Generator, both: float) -> list[str]:
    if rng.random() < both:
        return ["right", "left"]
    return ["right" if rng.random() < 0.5 else "left"]


def _spot(rng: np.random.Generator, body: Anatomy, side: str, a: float, b: float, y0: float = 0.1, y1: float = 0.9) -> tuple[float, float]:
    """A point in the lung of that side, with room for most of (a, b), and not behind the heart."""
    sign = 1 if side == "left" else -1
    x = y = 0.0
    for _ in range(24):
        y = float(rng.uniform(y0, y1))
        row = np.float32([y])
        low = float(body.medial(row, np.array([side == "left"]))[0]) + 0.75 * a
        high = float(body.wall(row)[0]) - 0.75 * a
        x = sign * float(rng.uniform(min(low, high), max(low, high)))
        at = np.float32([x])
        if float(body.cardiac(at, row)[0]) < -0.15 and y + 0.7 * b < float(body.dome(at)[0]):
            break
    return x, y


def _blobs(
    rng: np.random.Generator, body: Anatomy, side: str, size: tuple[float, float], tall: tuple[float, float] = (0.85, 1.15),
    rough: float = 0.06, soft: float = 0.15, span: tuple[float, float] = (0.1, 0.9),
) -> Lesion:  # fmt: skip
    full = float(np.exp(rng.uniform(np.log(size[0]), np.log(size[1]))))
    a, b = full / 2, full / 2 * float(rng.uniform(*tall))
    x, y = _spot(rng, body, side, a, b, *span)
    numbers = {
        "x": x, "y": y, "a": a, "b": b, "tilt": float(rng.uniform(-0.5, 0.5)), "rough": rough,
        "phase": float(rng.uniform(0, 6.28)), "soft": soft, "seed": float(rng.integers(1 << 30)),
    }  # fmt: skip
    return Lesion("blob", side, _zone(y), _grade(np.log(full), np.log(size[0]), np.log(size[1])), numbers)


def _several(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    return 1 + int(np.searchsorted(np.cumsum(shares), rng.random()))


def _nodule(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.72, 0.14, 0.1))
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.085, 0.145), rough=0.03, soft=0.12) for _ in range(count)]


def _mass(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.18, 0.36), rough=0.06, soft=0.08, span=(0.14, 0.85))]


def _granuloma(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.85, 0.15))
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.08, 0.105), rough=0.05, soft=0.08) for _ in range(count)]


def _cavity(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, _sides(rng, 0)[0], (0.17, 0.3), rough=0.05, soft=0.08, span=(0.12, 0.7))]


def _bulla(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    return [_blobs(rng, body, s, (0.2, 0.4), rough=0.02, soft=0.05, span=(0.1, 0.8)) for s in _sides(rng, 0.15)]


def _consolidation(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    count = _several(rng, (0.62, 0.3, 0.08))
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
        length, thick = float(rng.uniform(0.24, 0.42)), float(rng.uniform(0.022, 0.034))
        sign = 1 if side == "left" else -1
        x, y = _spot(rng, body, side, length / 2, 0.05, 0.35, 0.92)
        tilt = sign * float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.7))
        numbers = {"x": x, "y": y, "a": length / 2, "b": thick, "tilt": tilt, "soft": 0.3}
        lesions.append(Lesion("blob", side, _zone(y), _grade(length, 0.24, 0.42), numbers))
    return lesions


def _effusion(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.25):
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
        thick = float(rng.uniform(0.055, 0.085))
        numbers = {"top": top, "end": top + length, "thick": thick}
        lesions.append(Lesion("rind", side, _zone(top + length / 2), _grade(length, 0.2, 0.5), numbers))
    return lesions


def _hilum(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    lesions = []
    for side in _sides(rng, 0.25):
        sign = 1 if side == "left" else -1
        full = float(rng.uniform(0.15, 0.27))
        x, y = sign * float(rng.uniform(0.15, 0.2)), float(rng.uniform(0.32, 0.54))
        numbers = {
            "x": x, "y": y, "a": full / 2, "b": full / 2 * float(rng.uniform(0.95, 1.4)), "rough": 0.09,
            "phase": float(rng.uniform(0, 6.28)), "soft": 0.12,
        }  # fmt: skip
        lesions.append(Lesion("blob", side, "", _grade(full, 0.15, 0.27), numbers))
    return lesions


def _cardiomegaly(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    size = float(rng.uniform(1.2, 1.5))
    return [Lesion("heart", "midline", "", _grade(size, 1.2, 1.5), {"size": size})]


def _aorta(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    full = float(rng.uniform(0.2, 0.3))
    numbers = {
        "x": float(rng.uniform(0.06, 0.12)), "y": float(rng.uniform(0.2, 0.31)), "a": full / 2,
        "b": full / 2 * float(rng.uniform(0.9, 1.35)), "soft": 0.06, "inside": 0.0,
    }  # fmt: skip
    return [Lesion("blob", "midline", "", _grade(full, 0.2, 0.3), numbers)]


def _hernia(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    full = float(rng.uniform(0.18, 0.34))
    numbers = {
        "x": float(rng.uniform(-0.06, 0.14)), "y": max(body.domes) - float(rng.uniform(0.06, 0.2)), "a": full / 2,
        "b": full / 2 * float(rng.uniform(0.8, 1.1)), "soft": 0.06, "inside": 0.0,
    }  # fmt: skip
    return [Lesion("blob", "midline", "", _grade(full, 0.18, 0.34), numbers)]


def _fracture(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    side = _sides(rng, 0)[0]
    sign = 1 if side == "left" else -1
    y = float(rng.uniform(0.2, 0.8))
    wall = float(body.wall(np.float32([y]))[0])
    numbers = {
        "x": sign * (wall - float(rng.uniform(0.0, 0.06))), "y": y, "a": 0.055, "b": float(rng.uniform(0.05, 0.065)),
        "tilt": sign * 0.6, "soft": 0.25, "inside": 0.0, "rough": 0.1, "phase": float(rng.uniform(0, 6.28)),
    }  # fmt: skip
    return [Lesion("blob", side, _zone(y), 0, numbers)]


def _pacemaker(rng: np.random.Generator, body: Anatomy) -> list[Lesion]:
    side = "left" if rng.random() < 0.6 else "right"
    sign = 1 if side == "left" else -1
    x, y = sign * float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.05, 0.3))
    numbers = {"x": x, "y": y, "a": float(rng.uniform(0.07, 0.09)), "b": float(rng.uniform(0.06, 0.08)), "tilt": sign * float(rng.uniform(-0.4, 0.4))}
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
    "pneumothorax": Kind(0.9, -0.1, "air", _pneumothorax),
    "consolidation": Kind(1.5, 0.36, "fluffy", _consolidation),
    "nodule": Kind(1.4, 0.3, "solid", _nodule),
    "mass": Kind(1.0, 0.36, "solid", _mass),
    "atelectasis": Kind(1.1, 0.24, "solid", _atelectasis),
    "interstitial pattern": Kind(1.1, 0.26, "net", _interstitial),
    "fibrosis": Kind(0.9, 0.36, "lines", _fibrosis),
    "pleural thickening": Kind(1.0, 0.34, "solid", _thickening),
    "calcified granuloma": Kind(0.9, 0.75, "solid", _granuloma),
    "cavitation": Kind(0.7, 0.36, "ring", _cavity),
    "bulla": Kind(0.7, -0.14, "bubble", _bulla),
    "bronchiectasis": Kind(0.7, 0.3, "lines", _bronchiectasis),
    "hilar enlargement": Kind(0.6, 0.36, "solid", _hilum),
    "rib fracture": Kind(0.7, 0.42, "solid", _fracture),
    "pacemaker": Kind(0.7, 1.0, "metal", _pacemaker),
    "hiatal hernia": Kind(0.4, 0.34, "level", _hernia),
    "aortic elongation": Kind(0.3, 0.36, "solid", _aorta),
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
