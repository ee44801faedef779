"""Tables of snippets: what `medvl data mine-snippets` writes, what twins plant, and the cells of own tables."""

from __future__ import annotations

from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from datamodules.records import Interval, Problem, Snippet
from datamodules.sources.cells import cell, number
from datamodules.sources.rows import read_table
from medvl.text.untrusted import parse_json

FILE = "snippets.jsonl"


def read_snippets(path: Path) -> Iterator[tuple[str, Snippet] | Problem]:
    """Yield the volume or study that each row names, and the snippet, or what is wrong with the row.

    Columns are `volume`, `text`, `intervals` (`[[low, high], [low, high, weight], ...]` in mm; none: not in this scan),
    and, if known, `organ`, `finding`, and `only`: whether the depths hold for this volume alone. What `medvl data
    mine-snippets --series` writes is read too (`id` and `snippet` in place of the first two); there, a sentence without
    depths is one whose images were not found, and is left out.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    table = read_table(path)
    mined = "references" in table.columns
    about, words = ("id", "snippet") if mined else ("volume", "text")
    table.require(about, words, "intervals")
    for row in table.rows:
        if row.fault:
            yield Problem("row-unreadable", row.where, row.fault)
            continue
        volume = cell(row.cells.get(about))
        only = cell(row.cells.get("only")).lower() in ("true", "1", "yes")
        found = snippet_of({**row.cells, "text": row.cells.get(words)}, row.where, volume if only else "")
        if isinstance(found, Problem):
            yield found
        elif not volume:
            yield Problem("snippet-volume", row.where, "no volume is named")
        elif mined and not found.present:
            message = "the images that this sentence points to were not found; left out"
            yield Problem("snippet-unlinked", row.where, message, fatal=False)
        else:
            yield volume, found


def snippets_of(value: Any, where: str) -> Iterator[Snippet | Problem]:
    """Yield the snippets of a cell: a list of objects with `text` and `intervals`, or its JSON; or what is wrong."""
    if isinstance(value, str):
        try:
            value = parse_json(value) if cell(value) else None
        except JSONDecodeError as error:
            yield Problem("snippets-unreadable", where, f"the snippets are no JSON: {error.msg}")
            return
    if value is None or (isinstance(value, float) and value != value):
        return
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        message = 'expected a list such as [{"text": ..., "intervals": [[low, high]]}], in mm'
        yield Problem("snippets-unreadable", where, message)
        return
    for item in value:
        yield snippet_of(item, where, cell(item.get("volume")))


def snippet_of(cells: dict[str, Any], where: str, volume: str = "") -> Snippet | Problem:
    """Return the snippet of a row or of an object, or the problem that it is."""
    intervals = intervals_of(cells.get("intervals"))
    if intervals is None:
        message = "the intervals cannot be read; expected [[low, high], ...] or [[low, high, weight], ...] in mm"
        return Problem("interval-unreadable", where, message)
    organ, finding = cell(cells.get("organ")), cell(cells.get("finding"))
    return Snippet(cell(cells.get("text")), intervals, organ, finding, volume, where)


def intervals_of(value: Any) -> tuple[Interval, ...] | None:
    """Return the intervals of a cell: pairs, triples, objects of low, high and weight, or one flat pair.

    Returns:
        The intervals, empty where the cell says nothing; None where it cannot be read.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value) if cell(value) else None
        except JSONDecodeError:
            return None
    if value is None or (isinstance(value, float) and value != value):
        return ()
    if not isinstance(value, list | tuple):
        return None
    value = [[item.get(key, 1) for key in Interval._fields] if isinstance(item, dict) else item for item in value]
    if value and not any(isinstance(item, list | tuple) for item in value):
        value = [value]
    if any(not isinstance(item, list | tuple) or len(item) not in (2, 3) for item in value):
        return None
    return tuple(Interval(*map(number, item)) for item in value)
