"""Cells of tables, whoever wrote them: what is nothing, what is a number, what is a box."""

from __future__ import annotations

import math
from json import JSONDecodeError

from datamodules.records import Box
from medvl.text.untrusted import parse_json

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


def box_list(value: object) -> tuple[Box, ...] | None:
    """Return the boxes of a cell: a list of lists, one flat list of four, the JSON of either, or nothing.

    Returns:
        The boxes, empty where the cell says nothing; None where it cannot be read as boxes.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value.replace("(", "[").replace(")", "]")) if cell(value) else None
        except JSONDecodeError:
            return None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if not isinstance(value, list | tuple):
        return None
    if len(value) == 4 and not any(isinstance(item, list | tuple) for item in value):
        value = [value]
    boxes = [box_tuple(item) for item in value]
    return tuple(box for box in boxes if box is not None) if None not in boxes else None
