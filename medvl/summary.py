"""What a task tells the report of its test: headline figures, tables and worst cases, in no task's own terms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

from medvl.errors import DataError
from medvl.io.atomic import write_text
from medvl.metrics.bootstrap import Interval
from medvl.text.untrusted import parse_json

SUMMARY = "summary.json"


class Row(NamedTuple):
    """A row of a table: its name, figures or words, and whether it is a part of a row above."""

    name: str
    cells: tuple[Interval | str, ...]
    part: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Figures of a column whose name ends in `, mm` have one decimal, others three.

    Attributes:
        title: Heading.
        note: What it shows.
        columns: Names of the columns, without that of the row names.
        rows: The rows.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class Case(NamedTuple):
    """What was asked, and what became of it."""

    text: str
    note: str


@dataclass(frozen=True)
class Summary:
    """What a test found.

    Attributes:
        tiles: The figures to begin with.
        tables: Further figures.
        cases: The worst answers, worst first.
        terms: What the names mean.
    """

    tiles: Mapping[str, Interval]
    tables: Sequence[Table] = ()
    cases: Sequence[Case] = ()
    terms: Mapping[str, str] | None = None


def alone(value: float) -> Interval:
    """Return a figure without an interval."""
    return Interval(value, math.nan, math.nan)


def tested(metrics: Mapping[str, SupportsFloat]) -> dict[str, float]:
    """Return the metrics of a test, without `test/`; those without a value are left out."""
    values = {name.removeprefix("test/"): float(one) for name, one in metrics.items() if name.startswith("test/")}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def write_summary(path: Path, summary: Summary) -> Path:
    """Write a summary as JSON; what has no value is null."""
    return write_text(path, [json.dumps(_plain(asdict(summary)), ensure_ascii=False, allow_nan=False), "\n"])


def read_summary(path: Path) -> Summary | None:
    """Read what `write_summary` wrote; None where nobody did.

    Raises:
        DataError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        known = parse_json(path.read_text(encoding="utf-8"))
        tables = [
            Table(one["title"], one["note"], tuple(one["columns"]), tuple(_row(*row) for row in one["rows"]))
            for one in known["tables"]
        ]
        tiles = {name: _interval(value) for name, value in known["tiles"].items()}
        return Summary(tiles, tables, [Case(*one) for one in known["cases"]], known["terms"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError("not readable as test left it", where=str(path), command="medvl test --run RUN") from error


def _row(name: str, cells: list[Any], part: bool) -> Row:
    return Row(name, tuple(cell if isinstance(cell, str) else _interval(cell) for cell in cells), part)


def _interval(values: list[float | None]) -> Interval:
    mean, low, high = (math.nan if value is None else float(value) for value in values)
    return Interval(mean, low, high)


def _plain(value: Any) -> Any:
    """Return mappings, lists, words and finite numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
