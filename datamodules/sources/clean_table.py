"""The table of cleaned pairs, which `medvl data clean` writes: the user's own table format, and what else is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from json import JSONDecodeError
from pathlib import Path

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.cells import box_list, cell
from datamodules.sources.graph_files import GraphImage
from datamodules.sources.rows import Row, read_table
from medvl.io.atomic import replacing
from medvl.text.untrusted import parse_json

COLUMNS = (
    "image", "phrase", "boxes", "patient_id", "study_id", "split", "sex", "age", "view",
    "abnormal", "labels", "locations", "context", "row",
)  # fmt: skip
"""The first nine are what `PhraseTable` reads (`box_format: xyxy_norm`); `row` is where the pair came from."""
_ABNORMAL = {True: "yes", False: "no", None: ""}
_ATTRIBUTES = ("sex", "age", "view", "locations", "context")


def write_pairs(path: Path, records: Iterable[PhraseRecord]) -> Path:
    """Write pairs as Parquet, in their order, whole or not at all; return `path`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_cells(record) for record in records]
    table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS})
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")
    return path


def _cells(record: PhraseRecord) -> dict[str, str]:
    known = {name: record.attributes.get(name, "") for name in _ATTRIBUTES}
    return known | {
        "image": record.path,
        "phrase": record.phrase,
        "boxes": json.dumps(record.boxes) if record.boxes else "",
        "patient_id": record.patient_id,
        "study_id": record.study_id,
        "split": record.split,
        "abnormal": _ABNORMAL[record.abnormal],
        "labels": json.dumps(record.labels),
        "row": record.row,
    }


def cleaned_records(path: Path, images: Sequence[GraphImage]) -> Iterator[PhraseRecord | Problem]:
    """Yield the pairs of a cleaned table whose image is among `images`, which tell patient, study and split.

    Raises:
        DataError: The file is no such table.
    """
    table = read_table(path)
    table.require(*COLUMNS)
    known, elsewhere = {image.path: image for image in images}, 0
    for row in table.rows:
        image = known.get(cell(row.cells.get("image")))
        if row.fault:
            yield Problem("row-unreadable", row.where, row.fault)
        elif image is None:
            elsewhere += 1
        else:
            yield _record(row, image)
    if elsewhere:
        lost = f"{elsewhere:,} cleaned pairs are left out: their image is in no split, or its patient or view is out"
        yield Problem("pairs-excluded", path.name, lost, fatal=False)


def _record(row: Row, image: GraphImage) -> PhraseRecord | Problem:
    boxes, labels = box_list(row.cells["boxes"]), _labels(row.cells["labels"])
    if boxes is None or labels is None:
        message = "expected boxes and labels as JSON lists, as `medvl data clean` writes them"
        return Problem("row-unreadable", row.where, message)
    told = cell(row.cells["abnormal"])
    return PhraseRecord(
        image=image.dicom,
        path=image.path,
        phrase=cell(row.cells["phrase"]),
        boxes=boxes,
        patient_id=image.patient,
        study_id=image.study,
        split=image.split,
        source="imagenome",
        abnormal=told == "yes" if told else None,
        labels=labels,
        attributes={name: text for name in _ATTRIBUTES if (text := cell(row.cells[name]))},
        row=row.where,
    )


def _labels(value: object) -> tuple[str, ...] | None:
    try:
        found = parse_json(cell(value) or "[]")
    except JSONDecodeError:
        return None
    return tuple(map(str, found)) if isinstance(found, list) else None
