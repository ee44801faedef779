"""Reports in, entities out: the records, and their JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TextIO

from medvl.errors import DataError
from medvl.text.sections import readable
from medvl.text.untrusted import parse_json

PASSED_ON = ("patient_id", "split")


@dataclass(frozen=True, slots=True)
class Entity:
    """A finding in a report.

    Attributes:
        disease: Canonical name.
        status: `present`, `absent`, `uncertain` or `historical`.
        adjectives: Canonical names, in the canon's order.
        directions: Likewise.
        span: Characters of the report's text, end exclusive.
        sentence: Which sentence of the report, from 0.
    """

    disease: str
    status: str
    adjectives: tuple[str, ...]
    directions: tuple[str, ...]
    span: tuple[int, int]
    sentence: int

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to JSON."""
        return {
            "disease": self.disease,
            "status": self.status,
            "adjectives": list(self.adjectives),
            "directions": list(self.directions),
            "span": list(self.span),
            "sentence": self.sentence,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Entity:
        """Make an entity of what was read from JSON.

        Raises:
            KeyError, TypeError, ValueError: It is not one.
        """
        start, end = row["span"]
        adjectives, directions = tuple(map(str, row["adjectives"])), tuple(map(str, row["directions"]))
        return cls(
            str(row["disease"]),
            str(row["status"]),
            adjectives,
            directions,
            (int(start), int(end)),
            int(row["sentence"]),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """A report to read.

    Attributes:
        id: Of the study, as given.
        text: All of it; findings, newline, impression where they came apart.
        parts: Ranges of characters that are read one by one, so that no sentence crosses from one to the next.
        passed_on: `patient_id` and `split`, where given.
    """

    id: str | int
    text: str
    parts: tuple[tuple[int, int], ...]
    passed_on: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, id: str | int, findings: str = "", impression: str = "", **passed_on: Any) -> Report:
        """Make a report of its two sections."""
        text = f"{findings}\n{impression}"
        ends = len(findings), len(text)
        return cls(id, text, ((0, ends[0]), (ends[0] + 1, ends[1])), passed_on)


def read_reports(path: Path, sections: bool = True) -> Iterator[Report]:
    """Read reports from JSON lines: `id` and `text`, or `id`, `findings` and `impression` (either may be empty).

    Args:
        path: The file.
        sections: Of a `text` with headings, read findings and impression alone (see `medvl.text.sections`).

    Raises:
        DataError: A line is not JSON or not a report; it names the line.
    """
    for number, row in read_rows(path):
        yield _report(row, f"{path}:{number}", sections)


def read_entities(path: Path) -> Iterator[tuple[dict[str, Any], list[Entity]]]:
    """Read what `write_entities` wrote: each row, and its entities.

    Raises:
        DataError: A line is not JSON or not of this form; it names the line.
    """
    for number, row in read_rows(path):
        try:
            yield row, [Entity.from_dict(entity) for entity in row["entities"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "not a row of entities", where=f"{path}:{number}", hint='expected {"id", "entities": [...]}'
            ) from error


def write_entities(file: TextIO, rows: Iterable[tuple[Report, list[Entity]]]) -> Iterator[tuple[Report, list[Entity]]]:
    """Write one line per report as it comes, and pass it on."""
    for report, entities in rows:
        row = {"id": report.id, **report.passed_on, "entities": [entity.as_dict() for entity in entities]}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        yield report, entities


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number (from 1) and object of each line that is not blank.

    Raises:
        DataError: There is no such file, it is not UTF-8, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line, f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=str(path), hint="save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", where=str(path)) from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg} at column {error.colno}", where=where) from error
    if not isinstance(row, dict):
        raise DataError(f"expected an object, found {type(row).__name__}", where=where)
    return row


def _report(row: Mapping[str, Any], where: str, sections: bool) -> Report:
    if not isinstance(row.get("id"), str | int) or row["id"] == "":
        raise DataError(
            "a report without id", where=where, hint='expected {"id", "text"} or {"id", "findings", "impression"}'
        )
    passed_on = {name: row[name] for name in PASSED_ON if name in row}
    if "text" in row:
        text = _text(row, "text", where)
        parts = readable(text) if sections else ((0, len(text)),)
        return Report(row["id"], text, parts, passed_on)
    if "findings" not in row and "impression" not in row:
        raise DataError("a report without text", where=where, hint="expected text, or findings and impression")
    return Report.of(row["id"], _text(row, "findings", where), _text(row, "impression", where), **passed_on)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    """Return a text; null, NaN and absence are empty."""
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise DataError(f"{name} is no text but {type(value).__name__}", where=where)
    return value
