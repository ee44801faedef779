"""Write a synthetic dataset in the layout of MIMIC-CXR-JPG 2.1.0 with the reports of MIMIC-CXR."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.twins.mimic import dicom_of, mimic_path, save_jpeg
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import make_study, plan, study_plan
from datamodules.twins.wording import factors_of, tell, typed
from datamodules.twins.writer import twin_writer
from medvl.io.workers import run_all

FACTORS = "twin_factors.jsonl"
_SPLIT = {"train": "train", "val": "validate", "test": "test"}
_METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip


@twin_writer("mimic-cxr")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of MIMIC-CXR-JPG: JPEG images, reports beside their folders, tables of splits, views and labels.

    A third of the studies has a lateral (the frontal squeezed, which only has to be left out), a tenth another frontal,
    a few an image of no known view. Labels are what the report says; `twin_factors.jsonl` has what was painted
    (`findings`: disease, side, severity, zone) and what the report states of it (`stated`) per study.

    Arguments as in `twin_writer`.
    """
    plans = study_plan(studies, seed)
    jobs = [(str(folder), index, split, seed, difficulty, size, appearance) for index, _, split in plans]
    written = run_all(_write_study, jobs, workers, "writing studies")
    images = [image for study in written for image in study["images"]]
    split = ("dicom_id", "study_id", "subject_id", "split")
    _write_gz(folder / "mimic-cxr-2.0.0-split.csv.gz", split, images)
    _write_gz(folder / "mimic-cxr-2.0.0-metadata.csv.gz", _METADATA, images)
    _write_gz(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *CHEXPERT), written)
    with (folder / FACTORS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(study["factors"]) + "\n" for study in written)


def _write_gz(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a gzipped CSV, the same bytes each time."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        lines = [",".join(columns)]
        lines += [",".join(str(row.get(column, "")) for column in columns) for row in rows]
        packed.write(("\n".join(lines) + "\n").encode())


def _write_study(
    folder: str, index: int, split: str, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> dict[str, Any]:
    """Write the images and the report of a study; return its rows."""
    study, painted = make_study(index, seed, difficulty, size, appearance), plan(index, seed).painted
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 6])
    prior = bool(rng.random() < 0.4)
    told = tell(rng, painted, prior=prior)
    ids = {"subject_id": study.patient_id, "study_id": study.study_id}
    report = Path(folder) / f"files/p{study.patient_id[:2]}/p{study.patient_id}/s{study.study_id}.txt"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(typed(rng, told, prior), encoding="utf-8")
    views = [(str(rng.choice(["PA", "AP"])), study.image)]
    if rng.random() < 1 / 3:
        views.insert(int(rng.integers(2)), (str(rng.choice(["LATERAL", "LL"])), study.image[:, ::2]))
    if rng.random() < 0.1:
        views.append(("AP", make_study(index, seed, difficulty, size, "shifted").image))
    if rng.random() < 0.05:
        views.append(("", study.image))
    images = []
    for number, (view, pixels) in enumerate(views):
        dicom = dicom_of(index * 8 + number, seed)
        save_jpeg(Path(folder), mimic_path(study.patient_id, study.study_id, dicom), pixels)
        rows, columns = pixels.shape
        extra = {"ViewPosition": view, "Rows": rows, "Columns": columns, "StudyDate": 21800101 + index % 28}
        images.append({"dicom_id": dicom, **ids, "split": _SPLIT[split], **extra, "StudyTime": "120000.000"})
    factors = {
        **ids,
        "split": split,
        "findings": [factors_of(finding) for finding in painted],
        "stated": [asdict(stated) for stated in told.stated],
    }
    labels = {name: f"{value}.0" for name, value in told.labels.items()}
    return {**ids, **labels, "images": images, "factors": factors}
