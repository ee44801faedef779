"""Rows of a table file: CSV in any dialect (zipped and gzipped too), Parquet, JSON lines, Excel."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from datamodules.sources.csv_rows import csv_rows, decoded
from datamodules.sources.workbooks import first_sheet
from medvl.errors import DataError, nearest
from medvl.io.bounded import BoundedGzip, read_gzip, read_member
from medvl.text.untrusted import parse_json

_DELIMITERS = ",;\t|"
_FEWEST_ROWS = 1_000_000  # rows that a Parquet of any size may have; beyond, each has a byte of its own


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        where: File and line (CSV, JSON lines, Excel) or file and row number (Parquet), counted from 1.
        cells: Its values by column name.
        fault: What is wrong with the row itself, or ''.
    """

    where: str
    cells: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    """The columns of a table and its rows."""

    path: Path
    columns: list[str]
    rows: list[Row]

    def require(self, *columns: str) -> None:
        """Raise when one of `columns` is not there."""
        for column in columns:
            if column not in self.columns:
                raise DataError(
                    f"column {column!r} is missing", where=str(self.path), hint=nearest(column, self.columns)
                )


def read_table(path: Path) -> Table:
    """Read a table by its suffix: `.parquet`, `.jsonl` or `.ndjson`, `.zip` (one CSV inside), `.gz`, `.xlsx`, else CSV.

    Raises:
        DataError: The file is missing, empty or damaged; names the file and, where there is one, the line.
    """
    if not path.is_file():
        raise DataError("the table does not exist", where=str(path))
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl, ".zip": _zipped, ".gz": _gzipped}
    readers[".xlsx"] = _excel
    try:
        table = readers.get(path.suffix.lower(), _csv)(path)
    except (OSError, EOFError, zlib.error, csv.Error, zipfile.BadZipFile, UnicodeDecodeError, ValueError) as error:
        raise DataError("the table cannot be read", where=str(path), hint=str(error)[:120]) from None
    if not table.columns:
        raise DataError("the table is empty", where=str(path), hint="expected a row of column names first")
    return table


def read_lines(path: Path) -> list[Row]:
    """Read JSON lines, whatever the suffix.

    Raises:
        DataError: The file cannot be read, or a line is no object; names it.
    """
    try:
        rows = _jsonl(path).rows
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the file cannot be read", where=str(path), hint=str(error)[:120]) from None
    for row in rows:
        if row.fault:
            raise DataError(row.fault, where=row.where)
    return rows


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is not JSON; names the line.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except JSONDecodeError as error:
        raise DataError("the file is not valid JSON", where=f"{path}:{error.lineno}", hint=error.msg) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the file cannot be read", where=str(path), hint=str(error)[:120]) from None


def _csv(path: Path) -> Table:
    return _csv_text(path, path.name, path.read_bytes())


def _gzipped(path: Path) -> Table:
    return _csv_text(path, path.name, read_gzip(path))


def _zipped(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.lower().endswith(".csv") and not n.startswith("__MACOSX")]
        if len(names) != 1:
            raise DataError("expected one CSV inside the zip", where=str(path), hint=f"found {len(names)}")
        return _csv_text(path, path.name, read_member(archive, names[0]))


def _csv_text(path: Path, name: str, content: bytes) -> Table:
    text = decoded(content, path)
    rows = csv_rows(io.StringIO(text, newline=""), _delimiter(text), str(path))
    _, columns, _ = next(rows, (1, list[str](), ""))
    found = [Row(f"{name}:{line}", dict(zip(columns, cells, strict=False)), fault) for line, cells, fault in rows]
    return Table(path, columns, found)


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the header into most columns."""
    header = text.lstrip("\r\n").splitlines()[:1] or [""]
    return max(_DELIMITERS, key=lambda mark: len(next(csv.reader(header, delimiter=mark), [])))


def _jsonl(path: Path) -> Table:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where, fault, cells = f"{path.name}:{number}", "", {}
            try:
                cells = parse_json(line)
            except JSONDecodeError as error:
                fault = f"not valid JSON: {error.msg}"
                if not line.endswith("\n"):
                    raise DataError("the file ends in the middle of a line", where=f"{path}:{number}") from None
            if not isinstance(cells, dict):
                cells, fault = {}, "expected one JSON object per line"
            rows.append(Row(where, cells, fault))
    return Table(path, list(dict.fromkeys(key for row in rows for key in row.cells)), rows)


def _parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > max(_FEWEST_ROWS, path.stat().st_size):  # equal rows cost next to nothing
            raise ValueError(f"{file.metadata.num_rows:,} rows in so small a file")
        table = file.read()
    rows = [Row(f"{path.name}:{number}", cells) for number, cells in enumerate(table.to_pylist(), 1)]
    return Table(path, table.column_names, rows)


def _excel(path: Path) -> Table:
    """Read the first sheet of a workbook."""
    sheet = first_sheet(path)
    columns = [str(name).strip() for name in sheet[0]] if sheet else []
    rows = [Row(f"{path.name}:{at}", dict(zip(columns, cells, strict=True))) for at, cells in enumerate(sheet[1:], 2)]
    return Table(path, columns, [row for row in rows if any(str(value).strip() for value in row.cells.values())])


def stream_columns(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Yield `file:line` and the cells of some columns of a plain CSV (or `.csv.gz`), one row at a time.

    For tables of hundreds of thousands of rows, of which `read_table` would keep everything.

    Raises:
        DataError: The file is missing or damaged, or a column is.
    """
    line = 1
    try:
        raw = BoundedGzip(path) if path.suffix == ".gz" else path.open("rb")
        with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:  # type: ignore[type-var]
            rows = csv_rows(file, ",", str(path))
            _, header, _ = next(rows, (1, list[str](), ""))
            Table(path, header, []).require(*columns)
            places = [header.index(column) for column in columns]
            for line, values, fault in rows:
                if fault:
                    raise DataError(fault, where=f"{path}:{line}", hint="mend this row, or take it out")
                yield f"{path.name}:{line}", *(values[i].strip() for i in places)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise DataError("the table cannot be read", where=f"{path}:{line}", hint=str(error)[:120]) from None
