"""Cells of tables, whoever wrote them: what is nothing, what is a number, what is a box."""

from __future__ import annotations

import math

from datamodules.records import Box

_NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>"}


def cell(value: object) -> str:
    """Return a table cell as text; empty for every way of writing nothing (None, NaN, `nan`, `null`, blanks)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text.lower() in _NOTHING else text


def number(value: object) -> float:
    """Return a cell as a number; NaN for what is none."""
    try:
        return float(cell(value) or "nan")
    except ValueError:
        return math.nan


def box_tuple(values: object) -> Box | None:
    """Return four numbers as a box, or None when `values` is not four of anything."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    x1, y1, x2, y2 = map(number, values)
    return x1, y1, x2, y2
