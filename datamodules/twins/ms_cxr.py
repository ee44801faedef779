"""Write a synthetic dataset in the layout of MS-CXR over MIMIC-CXR-JPG, releases 0.1 and 1.1.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from datamodules.sources.splits import hashed_splits
from datamodules.twins.mimic import dicom_of, mimic_path, save_jpeg
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import TwinFinding, make_study, plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

_STEM = {"0.1": "MS_CXR_Local_Alignment_v1.0.0", "1.1.0": "MS_CXR_Local_Alignment_v1.1.0"}
_COLUMNS = ["dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height"]
_CATEGORIES = {
    "atelectasis": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "interstitial pattern": "Edema",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    **dict.fromkeys(("nodule", "mass", "fibrosis", "cavitation"), "Lung Opacity"),
}  # MS-CXR annotates eight findings; the twin's other kinds are left out, as theirs are


@twin_writer("ms-cxr")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    version: Literal["0.1", "1.1.0"] = "1.1.0",
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of MS-CXR: CSV and JSON with a row per box, JPEG images under `files/p10/...`.

    Like MS-CXR it holds no sentence without a box, and so no study without one.

    Arguments as in `twin_writer`; release (`version`) 0.1 has no split column.
    """
    kept: list[list[dict[str, Any]]] = []
    tried = 0
    while len(kept) < studies:
        indices = range(tried, tried := tried + studies - len(kept))
        jobs = [(str(folder), index, seed, difficulty, size, appearance) for index in indices]
        kept += filter(None, run_all(_write_study, jobs, workers, "writing studies"))
    rows = [row for study in kept for row in study]
    if version == "1.1.0":
        splits = hashed_splits(_subject(row) for row in rows)
        rows = [row | {"split": splits[_subject(row)]} for row in rows]
    write_csv(folder / f"{_STEM[version]}.csv", rows)
    _write_coco(folder / f"{_STEM[version]}.json", rows)


def write_v01(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of MS-CXR 0.1; see `write`."""
    write(folder, studies, seed, difficulty, workers, size=size, version="0.1", appearance=appearance)


def _subject(row: dict[str, Any]) -> str:
    return str(row["path"]).split("/")[2]


def _boxed(findings: tuple[TwinFinding, ...]) -> list[tuple[str, TwinFinding]]:
    """Return the findings that have boxes, with the category that MS-CXR has for them."""
    named = ((_CATEGORIES.get(label), finding) for finding in findings if finding.boxes for label in finding.labels[:1])
    return [(category, finding) for category, finding in named if category]


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> list[dict[str, Any]]:
    """Write one image and return its rows; a study without boxes is not written and has none."""
    if not _boxed(plan(index, seed).findings):
        return []
    study, dicom_id = make_study(index, seed, difficulty, size, appearance), dicom_of(index, seed)
    path = mimic_path(study.patient_id, study.study_id, dicom_id)
    save_jpeg(Path(folder), path, study.image)
    height, width = study.image.shape
    rows = []
    for category, finding in _boxed(study.findings):
        for x1, y1, x2, y2 in finding.boxes:
            x, y = round(x1 * width), round(y1 * height)
            w, h = max(round(x2 * width) - x, 1), max(round(y2 * height) - y, 1)
            values = (dicom_id, category, finding.sentence_en, path, x, y, w, h, width, height)
            rows.append(dict(zip(_COLUMNS, values, strict=True)))
    return rows


def _write_coco(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the same rows in COCO form."""
    images = {row["dicom_id"]: row for row in rows}
    numbers = {dicom_id: number for number, dicom_id in enumerate(images)}
    categories = {name: number for number, name in enumerate(sorted({row["category_name"] for row in rows}))}
    content = {
        "images": [
            {
                "id": numbers[dicom_id],
                "file_name": f"{dicom_id}.jpg",
                "path": row["path"],
                "width": row["image_width"],
                "height": row["image_height"],
            }
            for dicom_id, row in images.items()
        ],
        "annotations": [
            {
                "id": number,
                "image_id": numbers[row["dicom_id"]],
                "category_id": categories[row["category_name"]],
                "bbox": [row[side] for side in "xywh"],
                "label_text": row["label_text"],
            }
            | ({"split": row["split"]} if "split" in row else {})
            for number, row in enumerate(rows)
        ],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
