"""The report's pages of a task's own figures, and of the signs of failure that a run shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from medvl.metrics.bootstrap import Interval
from medvl.signatures import Finding
from medvl.summary import Row, Summary
from medvl.viz.page import escape, folded, section, table


def tiles(figures: Iterable[tuple[str, Interval]]) -> str:
    """Return the figures to begin with; those without a value are left out."""
    shown = "".join(_tile(name, value) for name, value in figures if not math.isnan(value.mean))
    return f'<dl class="tiles">{shown}</dl>' if shown else ""


def terms(known: Mapping[str, str]) -> str:
    """Return what names mean."""
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in known.items())
    return folded("What the metrics mean", f'<dl class="terms">{entries}</dl>' if known else "")


def tables(summary: Summary) -> str:
    """Return a task's tables, each a section, and what their names mean."""
    parts = [
        section(one.title, table(escape(one.note), ["", *one.columns], [_cells(row, one.columns) for row in one.rows]))
        for one in summary.tables
        if one.rows
    ]
    return "".join(parts) + terms(summary.terms or {})


def worst(summary: Summary) -> str:
    """Return a task's worst cases."""
    rows = "".join(
        f'<figure class="case"><figcaption><q>{escape(one.text)}</q><small>{escape(one.note)}</small></figcaption>'
        "</figure>\n"
        for one in summary.cases
    )
    return section("Worst cases", f'<div class="cases">{rows}</div>' if rows else "")


def signs(found: Sequence[Finding]) -> str:
    """Return the signs of failure: those seen with what to do next, and what was looked for in vain."""
    if not found:
        return ""
    seen = [one for one in found if one.severity != "healthy"]
    notices = "".join(
        f'<div class="notice"><strong>{escape(one.name[:1].upper() + one.name[1:])}</strong> ({one.severity}): '
        f"{escape(one.evidence)}.<br>Next: {escape(one.advice)}.</div>"
        for one in seen
    )
    vain = [one for one in found if one.severity == "healthy"]
    rows = [(one.name, [f'<div style="text-align:left">{escape(one.evidence)}</div>'], False) for one in vain]
    quiet = "" if seen else f'<p class="quiet">None of the {len(vain)} that this run can be judged by.</p>'
    looked = folded(f"Looked for in vain: {len(vain)}", table("", ["", "Evidence"], rows) if rows else "")
    return section("Signs of failure", notices, quiet, looked)


def figure(value: Interval, millimetres: bool) -> str:
    """Return a figure with its interval as HTML; a dash where the metric is not defined."""
    if math.isnan(value.mean):
        return "–"
    digits = 1 if millimetres else 3
    known = not math.isnan(value.low)
    bounds = f"<small>{value.low:.{digits}f} to {value.high:.{digits}f}</small>" if known else ""
    return f"{value.mean:.{digits}f}{bounds}"


def _tile(name: str, value: Interval) -> str:
    digits = 1 if name.endswith(", mm") else 2
    known = not math.isnan(value.low)
    bounds = f"<small>{value.low:.{digits}f} to {value.high:.{digits}f}</small>" if known else ""
    return (
        f'<div class="card"><dt>{escape(name)}</dt><dd><span class="figure">{value.mean:.{digits}f}</span> '
        f"{bounds}</dd></div>"
    )


def _cells(row: Row, columns: Sequence[str]) -> tuple[str, list[str], bool]:
    shown = [
        escape(cell) if isinstance(cell, str) else figure(cell, column.endswith(", mm"))
        for cell, column in zip(row.cells, columns, strict=True)
    ]
    return row.name, shown, row.part
