"""Line charts as inline SVG that takes its colours from the page, so that it is legible in light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 44
_POINTS = 240  # more than a line of this width can show


@dataclass(frozen=True)
class Line:
    """One line of a chart: finite points, x ascending."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    marker: tuple[float, str] | None = None,
) -> str:
    """Draw up to eight lines in one chart.

    Args:
        title: Heading of the figure.
        lines: Lines; empty ones are left out. A long one is averaged down to what can be seen.
        x_label: Under the horizontal axis.
        y_range: Range of the vertical axis; that of the data if not given.
        marker: Position on the horizontal axis, and the text beside it.

    Returns:
        A `<figure>` with its legend; empty when there is nothing to draw.
    """
    shown = [_thin(line) for line in lines if len(line.x)]
    if not shown:
        return ""
    xs, ys = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*shown, strict=True))
    x_ticks, y_ticks = _ticks(xs.min(), xs.max()), _ticks(*(y_range or (ys.min(), ys.max())))
    x_low, x_high = xs.min(), xs.max() if xs.max() > xs.min() else xs.min() + 1
    y_low, y_high = y_range or (y_ticks[0], y_ticks[-1])

    def across(x: float) -> float:
        return float(_LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT))

    def down(y: float) -> float:
        return float(_HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM))

    parts = []
    for tick in y_ticks:
        y = down(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_plain(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            place = f'x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}"'
            parts.append(f'<text class="tick" {place} text-anchor="middle">{_plain(tick)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{_text(x_label)}</text>')
    if marker:
        parts.append(_marker(across(min(max(marker[0], x_low), x_high)), marker[1]))
    for i, (line_x, line_y) in enumerate(shown):
        points = [(across(x), down(min(max(y, y_low), y_high))) for x, y in zip(line_x, line_y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line s{i % 8}" points="{path}"/>')
        parts += [f'<circle class="dot s{i % 8}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points[-1:]]
    names = [line.name for line in lines if len(line.x)]
    last = [f"{name} ends at {y[-1]:.3g}" for name, (_, y) in zip(names, shown, strict=True)]
    keys = "".join(f'<li><i class="key s{i % 8}"></i>{_text(name)}</li>' for i, name in enumerate(names))
    return (
        f'<figure class="chart"><figcaption>{_text(title)}</figcaption><ul class="keys">{keys}</ul>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text(title)}: {_text("; ".join(last))}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _marker(x: float, text: str) -> str:
    right = x > _WIDTH * 0.7
    place = (
        f'x="{x + (-6 if right else 6):.1f}" y="{_HEIGHT - _BOTTOM - 8}" text-anchor="{"end" if right else "start"}"'
    )
    line = f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
    return f'{line}<text class="tick" {place}>{_text(text)}</text>'


def _thin(line: Line) -> tuple[list[float], list[float]]:
    """Average neighbours until a line has few enough points."""
    pieces = min(len(line.x), _POINTS)
    xs, ys = (np.array_split(np.asarray(values, dtype=np.float64), pieces) for values in (line.x, line.y))
    return [float(part.mean()) for part in xs], [float(part.mean()) for part in ys]


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that span `low` to `high`, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        low, high = low - abs(low or 1) / 2, high + abs(high or 1) / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
