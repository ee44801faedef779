"""Charts as PNG, for documents that show no SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvl.viz.chart import Line

_COLOURS = ("#0b6bcb", "#c2570c", "#0a7a55", "#a8328a", "#7a6a00", "#3d8fb5", "#8a4b2a", "#555555")  # as style.py's
_MARKS = "osD^vPX*"
_TICKS = 10  # more values than these stand too close to be named each


def line_figure(
    path: Path,
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    intervals: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
    x_log: bool = False,
) -> Path:
    """Draw up to eight lines, told apart by colour and mark; the horizontal axis has a tick at each point, if few.

    Args:
        path: The PNG to write.
        title: Heading of the figure.
        lines: The lines.
        x_label: Under the horizontal axis.
        y_label: Beside the vertical axis.
        intervals: Low and high bounds of each line, drawn as bars; none if empty.
        x_log: Whether the horizontal axis is logarithmic.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for i, line in enumerate(lines):
        style: dict[str, Any] = {
            "color": _COLOURS[i % 8],
            "marker": _MARKS[i % 8],
            "label": line.name,
            "linewidth": 1.8,
        }
        if intervals:
            low, high = intervals[i]
            below, above = ([abs(a - b) for a, b in zip(bound, line.y, strict=True)] for bound in (low, high))
            axes.errorbar(line.x, line.y, yerr=[below, above], capsize=3, **style)
        else:
            axes.plot(line.x, line.y, **style)
    if x_log:
        axes.set_xscale("log")
    ticks = sorted({x for line in lines for x in line.x})
    if len(ticks) <= _TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def bar_figure(
    path: Path, title: str, bars: Mapping[str, tuple[float, float, float]], x_label: str, chance: float | None = None
) -> Path:
    """Draw a lying bar for each name, with its interval.

    Args:
        path: The PNG to write.
        title: Heading of the figure.
        bars: Value, low and high by name, from top to bottom.
        x_label: Under the values.
        chance: Where a dashed line stands; none if not given.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(6.4, 1.4 + 0.35 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    means, lows, highs = zip(*bars.values(), strict=True)
    errors = [[abs(mean - bound) for mean, bound in zip(means, bounds, strict=True)] for bounds in (lows, highs)]
    axes.barh(list(bars), means, xerr=errors, capsize=3, color=_COLOURS[0], ecolor=_COLOURS[7])
    axes.invert_yaxis()
    if chance is not None:
        axes.axvline(chance, color=_COLOURS[1], linestyle="--")
        x_label += " (dashed: chance)"  # a legend would lie on the bars
    axes.set(title=title, xlabel=x_label)
    axes.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
