"""Write a synthetic dataset as someone's own table, in each of the forms that `PhraseTable` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from datamodules.sources.grouping import BoxFormat
from datamodules.twins.folder import eight_bits
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import make_study, study_plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

COLUMNS = {"image": "filename", "phrase": "notes", "boxes": "regions", "patient_id": "subject", "split": "fold"}
_SPLIT = {"train": "training", "val": "dev", "test": "test"}


@twin_writer("table")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    box_format: BoxFormat = "xyxy_px",
    appearance: Appearance = "plain",
) -> None:
    """Write PNG images and the same table four times: `table.{csv,parquet,jsonl}` and `rows.csv`.

    The columns are called `filename, notes, regions, subject, fold` (`COLUMNS` maps them) and stand among others.
    `rows.csv` has a box per row in columns `x, y, w, h` in pixels and semicolons between its cells.

    Arguments as in `twin_writer`; `box_format` is the convention of `regions`.
    """
    (folder / "images").mkdir()
    plans = study_plan(studies, seed)
    jobs = [(str(folder), index, split, seed, difficulty, size, box_format, appearance) for index, _, split in plans]
    phrases = [row for rows in run_all(_write_study, jobs, workers, "writing studies") for row in rows]
    rows = [{key: value for key, value in row.items() if key != "pixels"} for row in phrases]
    write_csv(folder / "table.csv", [row | {"regions": json.dumps(row["regions"])} for row in rows], dialect="excel")
    write_csv(folder / "rows.csv", [one for row in phrases for one in _box_rows(row)], delimiter=";", dialect="excel")
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "table.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_study(
    folder: str,
    index: int,
    split: str,
    seed: int,
    difficulty: float,
    size: int | None,
    box_format: str,
    appearance: Appearance,
) -> list[dict[str, Any]]:
    study = make_study(index, seed, difficulty, size, appearance)
    name = f"images/{index:06d}.png"
    Image.fromarray(eight_bits(study.image)).save(Path(folder) / name, compress_level=1)
    height, width = study.image.shape
    return [
        {
            "id": f"{index}-{number}",
            "filename": name,
            "notes": finding.sentence_en,
            "regions": [_in_format(box, box_format, height, width) for box in finding.boxes],
            "subject": study.patient_id,
            "fold": _SPLIT[split],
            "pixels": [_in_format(box, "xywh_px", height, width) for box in finding.boxes],
        }
        for number, finding in enumerate(study.findings)
    ]


def _in_format(box: tuple[float, float, float, float], box_format: str, height: int, width: int) -> list[float]:
    """Convert a box from xyxy in [0, 1]."""
    shape, _, unit = box_format.partition("_")
    sx, sy = (width, height) if unit == "px" else (1, 1)
    x1, y1, x2, y2 = box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy
    if shape == "xywh":
        return [x1, y1, x2 - x1, y2 - y1]
    if shape == "cxcywh":
        return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    return [x1, y1, x2, y2]


def _box_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a phrase as one row per box; one row with empty cells where it has none."""
    plain = {key: value for key, value in row.items() if key not in ("regions", "pixels")}
    return [plain | dict(zip("xywh", box, strict=True)) for box in row["pixels"] or [[None] * 4]]
