"""Rows of CSV text, and what betrays a damaged file: a cut end, an open quote, cells too few or too many, NULs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medvl.errors import DataError

_LONGEST_CELL = 16 << 20
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ENDS = ("\n", "\r")


def decoded(content: bytes, path: Path) -> str:
    """Return the text of a table in UTF-8, UTF-16 with its mark, or what spreadsheets write on Windows.

    Raises:
        DataError: It is in two encodings at once, and either would misread some of its words; names the line.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or _UTF8.search(content):
            line = content.count(b"\n", 0, error.start) + 1
            hint = f"not {encoding} here, but elsewhere; save it anew as UTF-8"
            raise DataError("the table mixes encodings", where=f"{path}:{line}", hint=hint) from None
        return content.decode("cp1252")


class _Kept(Iterator[str]):
    """Lines on their way into a reader; keeps those of the row that it is at."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.row: list[str] = []

    def __next__(self) -> str:
        line = next(self._lines)
        self.row.append(line)
        return line


def csv_rows(lines: Iterable[str], delimiter: str, where: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield the first line, the cells and the fault ('' if none) of every row that is not blank, the header first.

    A row has a fault when it has more cells than the header, or ends before the last column that has a name: a
    delimiter or a quote is gone, and cells stand under the wrong columns.

    Raises:
        DataError: The text ends within a row: it is cut off, or a quote is open. Raised after the last row.
    """
    csv.field_size_limit(_LONGEST_CELL)
    kept, header, last = _Kept(lines), list[str](), list[str]()
    reader = csv.reader(kept, delimiter=delimiter)
    start = line = 1
    for number, cells in enumerate(reader):
        start, line = line, reader.line_num + 1
        last, kept.row = kept.row, []
        if not number:
            header = [name.strip() for name in cells]
            yield start, header, ""
        elif cells:
            yield start, cells, _fault(cells, header, last)
    if last:
        _refuse_cut(last, delimiter, header, f"{where}:{start}")


def _fault(cells: Sequence[str], header: Sequence[str], lines: Sequence[str]) -> str:
    if any("\0" in line for line in lines):
        return "the row holds a NUL; is the file damaged?"
    if _least(header) <= len(cells) <= len(header):
        return ""
    over = f", over {len(lines)} lines" if len(lines) > 1 else ""
    return f"{len(cells)} cells under {len(header)} columns{over}; is a delimiter or a quote missing?"


def _least(header: Sequence[str]) -> int:
    """Return how many cells reach the last column that has a name."""
    return max((place for place, name in enumerate(header, 1) if name), default=0)


def _refuse_cut(lines: Sequence[str], delimiter: str, header: Sequence[str], where: str) -> None:
    """Raise when the last row of a table is only its beginning."""
    hint = "is the file whole, and is every quote closed?"
    try:
        cells = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError("the table ends within a quoted cell", where=where, hint=hint) from None
        return
    if cells and len(cells) < _least(header) and not lines[-1].endswith(_ENDS):
        raise DataError("the table ends in the middle of a row", where=where, hint=hint)
