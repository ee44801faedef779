"""Records on disk: one Parquet file with a schema that is checked on write and on read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.records import PhraseRecord, check_records
from medvl.errors import DataError
from medvl.io.atomic import replacing

_TEXT, _BOXES = pa.string(), pa.list_(pa.list_(pa.float64(), 4))
SCHEMA = pa.schema(
    [
        *(
            pa.field(name, _TEXT, nullable=False)
            for name in ("image", "path", "phrase", "patient_id", "study_id", "split", "source", "row")
        ),
        pa.field("abnormal", pa.bool_()),
        pa.field("labels", pa.list_(_TEXT), nullable=False),
        pa.field("boxes", _BOXES, nullable=False),
        pa.field("extra_boxes", _BOXES),
        pa.field("attributes", pa.map_(_TEXT, _TEXT), nullable=False),
    ]
)
_FINGERPRINT = b"medvl.fingerprint"


def _column(path: Path, field: pa.Field, values: list[Any]) -> pa.Array:
    """Convert one column, or tell the first row that does not fit."""
    for row, value in enumerate(values):
        if value is None and not field.nullable:
            raise _misfit(path, row, field, "nothing")
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError):
        for row, value in enumerate(values):
            try:
                pa.array([value], field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError):
                raise _misfit(path, row, field, type(value).__name__) from None
        raise


def _misfit(path: Path, row: int, field: pa.Field, found: str) -> DataError:
    return DataError(
        f"column {field.name!r} does not fit the record schema",
        where=f"{path}, row {row + 1}",
        hint=f"expected {field.type}, found {found}",
    )


def _check_values(path: Path, records: Sequence[PhraseRecord]) -> None:
    """Refuse a table that holds an unusable record."""
    fatal = [problem for problem in check_records(records) if problem.fatal]
    if fatal:
        number = next((i for i, record in enumerate(records, 1) if record.row == fatal[0].where), 0)
        raise DataError(
            f"the table holds {len(fatal)} unusable rows, the first of kind {fatal[0].code!r}",
            where=f"{path}, row {number} (read from {fatal[0].where})",
            hint=fatal[0].message,
        )


def write_records(path: str | Path, records: Sequence[PhraseRecord], fingerprint: str) -> None:
    """Write records as Parquet, atomically.

    Args:
        path: The file to write; its folder is made.
        records: What to write.
        fingerprint: What the records were made from (`Loaded.fingerprint`); kept in the file.

    Raises:
        DataError: A value does not fit the schema, or a record is unusable.
    """
    path = Path(path)
    columns = []
    for field in SCHEMA:
        values = [getattr(record, field.name) for record in records]
        if pa.types.is_map(field.type):
            values = [list(value.items()) if isinstance(value, dict) else value for value in values]
        columns.append(_column(path, field, values))
    _check_values(path, records)
    table = pa.table(columns, schema=SCHEMA.with_metadata({_FINGERPRINT: fingerprint.encode()}))
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")


def _checked_table(path: Path) -> pa.Table:
    """Read a Parquet file and compare its schema with ours, column by column."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError("the record table does not exist", where=str(path)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("this is not a readable Parquet file", where=str(path), hint=str(error)[:120]) from None
    for field in SCHEMA:
        if field.name not in table.column_names:
            raise DataError(f"column {field.name!r} is missing", where=str(path), hint=f"expected {field.type}")
        column = table.column(field.name)
        if not column.type.equals(field.type):
            raise _misfit(path, 0, field, str(column.type))
        if column.null_count and not field.nullable:
            raise _misfit(path, column.is_null().to_pylist().index(True), field, "nothing")
    return table


def read_records(path: str | Path) -> list[PhraseRecord]:
    """Read records that `write_records` wrote.

    Raises:
        DataError: The file is missing or damaged, its schema is another one, or a record is unusable; names the
            file, the row, the column and what was expected.
    """
    path = Path(path)
    rows = _checked_table(path).select(SCHEMA.names).to_pylist()
    records = [
        PhraseRecord(
            **{
                **row,
                "labels": tuple(row["labels"]),
                "boxes": tuple(map(tuple, row["boxes"])),
                "extra_boxes": None if row["extra_boxes"] is None else tuple(map(tuple, row["extra_boxes"])),
                "attributes": dict(row["attributes"]),
            }
        )
        for row in rows
    ]
    _check_values(path, records)
    return records


def read_fingerprint(path: str | Path) -> str:
    """Return the fingerprint that `write_records` kept in a file ('' where there is none)."""
    metadata = pq.read_schema(path).metadata or {}
    return bytes(metadata.get(_FINGERPRINT, b"")).decode()
