"""Depths drawn across the planes of a CT: coronal, sagittal and the depth profile side by side, to one scale in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from medvl.io.volume import DepthAxis, Volume
from medvl.located import LocatedSentence, LocatedVolume
from medvl.viz import ties
from medvl.viz.page import data_uri, escape
from medvl.viz.planes import WINDOWS, Plane, coronal, sagittal

STYLE = """
.levels path { vector-effect: non-scaling-stroke; fill: none; }
.level .span { fill: var(--k); fill-opacity: var(--fill); stroke: var(--k); stroke-opacity: .6; }
.level .span { stroke-width: 1px; stroke-dasharray: 2 5; vector-effect: non-scaling-stroke; }
.level .edge { stroke: #000a; stroke-width: 4px; }
.level .median { stroke: var(--k); stroke-width: 2px; }
.level .profile { fill: var(--k); fill-opacity: calc(2 * var(--fill)); stroke: var(--k); stroke-width: 1.5px; }
.level .extent { fill: var(--k); }
.level .tag { fill: var(--k); }
.level .number { fill: #10131a; font-weight: 700; text-anchor: middle; }
.levels text { font-family: system-ui, sans-serif; }
.levels .name, .levels .tick { fill: #a2adba; font-size: inherit; }
.levels .side { fill: #e8ecf1; font-weight: 700; }
.levels .rule { stroke: #313a45; stroke-width: 1px; }
"""
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # mm between ticks
_TALL = 0.28  # height of the profile over the drawing's width at least: a thin stack of slices is spread out there


class Levels:
    """Where things lie in the drawing, in mm to the right and down; the profile's depths may be stretched.

    Args:
        depth: Of the volume's slices.
        front: The coronal plane.
        side: The sagittal plane.
    """

    def __init__(self, depth: DepthAxis, front: Plane, side: Plane) -> None:
        self.low, self.high = depth.z(-0.5), depth.z(depth.count - 0.5)
        self.length = self.high - self.low
        self.unit = (front.width + side.width + self.length / 4) / 62
        self.side = front.width + 1.5 * self.unit
        self.planes = self.side + side.width
        self.tags = self.planes + 3 * self.unit
        self.profile = self.tags + 7 * self.unit
        self.ticks = self.profile + 24 * self.unit
        self.width = self.ticks + 9 * self.unit
        self.stretch = max(1.0, _TALL * self.width / self.length)
        self.top = 5 * self.unit
        self.bottom = self.top + self.length * self.stretch
        self.height = self.bottom + 5 * self.unit
        self.head = (self.top + self.bottom - self.length) / 2
        self.feet = self.head + self.length

    def down(self, z: float) -> float:
        """Return how far down a depth lies in the planes; beyond the scan, their edge."""
        return self.head + self.high - min(max(z, self.low), self.high)

    def along(self, z: float) -> float:
        """Return how far down it lies in the profile."""
        return self.top + (self.down(z) - self.head) * self.stretch


def draw_levels(volume: Volume, located: LocatedVolume) -> tuple[str, float]:
    """Draw the depths of the sentences that were found across the planes.

    Returns:
        SVG, and its width over its height.
    """
    front, side = coronal(volume), sagittal(volume)
    at = Levels(volume.depth, front, side)
    found = [(n, one) for n, one in enumerate(located.sentences, start=1) if one.found]
    most = max((max(one.profile.density) for _, one in found), default=0.0)
    tags = apart([at.along(one.mm) for _, one in found], 3.6 * at.unit, 2 * at.unit, at.height - 2 * at.unit)
    parts = [_pictures(at, front, side), _rules(at, most)]
    parts += [_level(at, n, one, tag, most, lane) for lane, ((n, one), tag) in enumerate(zip(found, tags, strict=True))]
    label = "Coronal and sagittal planes and the depth profile, with the depth of each sentence"
    view = f'viewBox="0 0 {at.width:.2f} {at.height:.2f}" font-size="{2.2 * at.unit:.2f}"'
    view += f' style="--fill: {0.3 / (1 + len(found)):.3f}"'  # many bands over each other must not hide the planes
    return f'<svg class="levels" {view} role="img" aria-label="{label}">{"".join(parts)}</svg>', at.width / at.height


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Return places moved to lie at least `least` from each other and, if they all fit, between `low` and `high`."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [places[i] for i in order]
    for i in range(len(moved)):
        moved[i] = max(moved[i], low + i * least, moved[i - 1] + least if i else -math.inf)
    for i in reversed(range(len(moved))):
        after = moved[i + 1] - least if i + 1 < len(moved) else high
        moved[i] = min(moved[i], after)
    back = dict(zip(order, moved, strict=True))
    return [back[i] for i in range(len(places))]


def _pictures(at: Levels, front: Plane, side: Plane) -> str:
    parts = []
    for x, plane, name, ends in ((0.0, front, "coronal", "RL"), (at.side, side, "sagittal", "AP")):
        place = f'x="{x:.2f}" y="{at.head:.2f}" width="{plane.width:.2f}" height="{plane.height:.2f}"'
        parts += [
            f'<image class="window-{window}" {place} preserveAspectRatio="none" '
            f'href="{data_uri(plane.picture(limits), lossless=True)}"/>'
            for window, limits in WINDOWS.items()
        ]
        middle, line = x + plane.width / 2, at.feet + 3 * at.unit
        parts.append(_text(middle, at.head - 1.6 * at.unit, name, "name", "middle"))
        parts.append(_text(x + at.unit, line, ends[0], "side", "start"))
        parts.append(_text(x + plane.width - at.unit, line, ends[1], "side", "end"))
    return "".join(parts)


def _rules(at: Levels, most: float) -> str:
    """Draw the profile's frame: what of the planes it spreads out, ticks in mm, and what its width means."""
    ends = ((at.head, at.top), (at.feet, at.bottom))
    parts = [_path("rule", (at.planes, y), (at.profile, spread), (at.ticks, spread)) for y, spread in ends]
    step = next((step for step in _STEPS if step * at.stretch >= 3.2 * at.unit), _STEPS[-1])
    for tick in range(math.ceil(at.low / step) * step, math.floor(at.high) + 1, step):
        y, named = at.along(tick), f"{tick:g}".replace("-", "−")
        parts.append(_path("rule", (at.profile, y), (at.ticks, y)))
        parts.append(_text(at.ticks + at.unit, y + 0.8 * at.unit, named, "tick", "start"))
    parts.append(_text(at.ticks + at.unit, at.top - 1.6 * at.unit, "mm", "name", "start"))
    middle = (at.profile + at.ticks) / 2
    parts.append(_text(middle, at.top - 1.6 * at.unit, "depth profile", "name", "middle"))
    if most:
        text = f"peak {1000 * most:.0f} % per cm"
        parts.append(_text(at.ticks, at.bottom + 3 * at.unit, text, "tick", "end"))
    return "".join(parts)


def _level(at: Levels, n: int, one: LocatedSentence, tag: float, most: float, lane: int) -> str:
    """Draw one sentence: interval, profile, extents, median, and its number between planes and profile."""
    wide, high, level = (2 + 1.2 * len(str(n))) * at.unit, 3.2 * at.unit, at.along(one.mm)
    spans = [
        _bar("span", 0, at.planes, at.down(one.high_mm), at.down(one.low_mm)),
        _bar("span", at.profile, at.ticks, at.along(one.high_mm), at.along(one.low_mm)),
    ]
    x = at.profile - (0.8 + 0.9 * (lane % 3)) * at.unit
    extents = [_bar("extent", x, x + 0.6 * at.unit, at.along(high), at.along(low)) for low, high in one.extents_mm]
    planes = ((0.0, at.down(one.mm)), (at.planes, at.down(one.mm)))
    lines = [
        _path("edge", *planes),
        _path("median", *planes, (at.tags, tag), (at.tags + wide, tag), (at.profile, level), (at.ticks, level)),
    ]
    number = (
        f'<rect class="tag" x="{at.tags:.2f}" y="{tag - high / 2:.2f}" width="{wide:.2f}" height="{high:.2f}" '
        f'rx="{high / 4:.2f}"/>{_text(at.tags + wide / 2, tag + 0.8 * at.unit, str(n), "number", "middle")}'
    )
    drawn = "".join([*spans, _profile(at, one, most), *extents, *lines, number])
    title = f"{n}: {one.snippet}"
    return f'<g class="level {ties.classes(n)}" tabindex="0"><title>{escape(title)}</title>{drawn}</g>'


def _profile(at: Levels, one: LocatedSentence, most: float) -> str:
    """Draw the density as steps, from the frame's left edge to the right."""
    room, edges = at.ticks - at.profile - 1.5 * at.unit, one.profile.edges
    points = [(at.profile, at.along(edges[0]))]
    for (low, high), density in zip(pairwise(edges), one.profile.density, strict=True):
        x = at.profile + room * density / most
        points += [(x, at.along(low)), (x, at.along(high))]
    return _path("profile", *points, (at.profile, at.along(edges[-1])))


def _bar(name: str, x0: float, x1: float, top: float, bottom: float) -> str:
    place = f'x="{x0:.2f}" y="{top:.2f}" width="{x1 - x0:.2f}" height="{bottom - top:.2f}"'
    return f'<rect class="{name}" {place}/>'


def _path(name: str, *points: tuple[float, float]) -> str:
    return f'<path class="{name}" d="M{" ".join(f"{x:.2f} {y:.2f}" for x, y in points)}"/>'


def _text(x: float, y: float, text: str, name: str, anchor: str) -> str:
    return f'<text class="{name}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'
