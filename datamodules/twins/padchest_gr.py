"""Write a synthetic dataset in the layout of PadChest-GR, quirks included."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.twins.readers import redrawn
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import TwinFinding, TwinStudy, make_study, study_plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

REPORTS = "grounded_reports_20240819.json"
IMAGES = "PadChest_GR"
IMAGES_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_SPLIT = {"train": "train", "val": "validation", "test": "test"}
_COLUMNS = (
    "StudyID", "ImageID", "PatientID", "split", "label", "label_group", "boxes_count", "prior_imageID",
    "PatientSex_DICOM", "PatientAge", "sentence_en", "sentence_es",
)  # fmt: skip
_IMAGE_COLUMNS = (
    "", "ImageID", "ImageDir", "StudyID", "PatientID", "PatientSex_DICOM", "Projection", "Pediatric",
    "Manufacturer_DICOM",
)  # fmt: skip
_SCANNERS = ("ImagingDynamicsCompanyLtd", "PhilipsMedicalSystems")  # half of PadChest's images each


@dataclass(frozen=True)
class _Written:
    """One study: its entry in the JSON, its rows of the master table (without split and prior image) and of images."""

    entry: dict[str, Any]
    rows: list[dict[str, Any]]
    images: list[dict[str, Any]]
    patient: str


@twin_writer("padchest-gr")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    zipped: bool = False,
    appearance: Appearance = "plain",
    unseen_test: bool = False,
) -> None:
    """Write a twin of PadChest-GR: reports as JSON, a master table, 16-bit PNG images; and PadChest's table of images.

    Arguments as in `twin_writer`; `zipped` gives the master table as `master_table.csv.zip`; with `unseen_test` the
    English sentences of the test split say findings and places by synonyms that train and val never show
    ("bibasilar", "blunted angle"), about the same images.
    """
    (folder / IMAGES).mkdir()
    splits = [split for _, _, split in study_plan(studies, seed)]
    unseen = [unseen_test and split == "test" for split in splits]
    jobs = [(str(folder / IMAGES), i, seed, difficulty, size, appearance, unseen[i]) for i in range(studies)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    reports = json.dumps([study.entry for study in written], ensure_ascii=False, indent=1)
    (folder / REPORTS).write_text(reports, encoding="utf-8")
    images = [{"": number} | row for number, row in enumerate(row for study in written for row in study.images)]
    write_csv(folder / IMAGES_TABLE, images, _IMAGE_COLUMNS)
    _write_master(folder, _master_rows(written, splits), zipped)


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, appearance: Appearance, unseen: bool
) -> _Written:
    study = make_study(index, seed, difficulty, size, appearance, unseen)
    digits = str(int(hashlib.sha256(f"{seed}/{index}".encode()).hexdigest(), 16))
    study_id = f"{digits[:22]}{study.study_id}"
    image_id = f"{study_id}_{digits[22:24]}-{digits[24:27]}-{digits[27:30]}.png"
    Image.fromarray(study.image).save(Path(folder) / image_id, compress_level=1)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 1])
    findings = [_finding(finding, rng) for finding in study.findings]
    rows = [row for finding in study.findings for row in _rows(study, finding, rng)]
    ids = {"StudyID": study_id, "ImageID": image_id}
    images = _image_rows(study, ids, np.random.default_rng([seed & 0xFFFFFFFF, index, 2]))
    return _Written({**ids, "findings": findings}, [{**ids, **row} for row in rows], images, study.patient_id)


def _image_rows(study: TwinStudy, ids: dict[str, str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return what PadChest's table says of a study: its image, and often a lateral one that PadChest-GR leaves out.

    The scanner is drawn apart from the film, so nothing in the picture goes with its name.
    """
    common = {
        "ImageDir": int(rng.integers(55)),
        "StudyID": ids["StudyID"],
        "PatientID": study.patient_id,
        "PatientSex_DICOM": study.sex,
        "Pediatric": "No",
        "Manufacturer_DICOM": _SCANNERS[int(rng.integers(2))],
    }
    bedside = study.view == "AP" and rng.random() < 0.8
    rows = [common | {"ImageID": ids["ImageID"], "Projection": "AP_horizontal" if bedside else study.view}]
    if rng.random() < 0.4:
        rows.append(common | {"ImageID": ids["ImageID"].replace(".png", "-1.png"), "Projection": "L"})
    return rows


def _finding(finding: TwinFinding, rng: np.random.Generator) -> dict[str, Any]:
    entry = {
        "sentence_en": finding.sentence_en,
        "sentence_es": finding.sentence_es,
        "abnormal": finding.abnormal,
    }
    if not finding.abnormal and rng.random() < 0.8:
        return entry  # most normal findings come without the keys below
    second = [list(redrawn(box, rng)) for box in finding.boxes]
    return entry | {
        "boxes": [list(box) for box in finding.boxes],
        "extra_boxes": second if rng.random() < 0.8 else [],
        "labels": list(finding.labels),
        "locations": list(finding.locations),
        "progression": None,
    }


def _rows(study: TwinStudy, finding: TwinFinding, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the rows of the master table for one finding: one per label, the sentence repeated."""
    return [
        {
            "PatientID": study.patient_id,
            "label": label,
            "label_group": label if finding.abnormal else "Normal",
            "boxes_count": len(finding.boxes),
            "PatientSex_DICOM": study.sex,
            "PatientAge": float(study.age) if rng.random() < 0.97 else None,  # NaN in a few rows, not in whole studies
            "sentence_en": finding.sentence_en,
            "sentence_es": finding.sentence_es,
        }
        for label in finding.labels or ("Normal",)
    ]


def _master_rows(written: list[_Written], splits: list[str]) -> list[dict[str, Any]]:
    """Return all rows of the master table, with the split and the patient's previous image."""
    rows = []
    previous: dict[str, str] = {}
    for study, split in zip(written, splits, strict=True):
        known = {"split": _SPLIT[split], "prior_imageID": previous.get(study.patient)}
        rows += [row | known for row in study.rows]
        previous[study.patient] = study.entry["ImageID"]
    return rows


def _write_master(folder: Path, rows: list[dict[str, Any]], zipped: bool) -> None:
    table = folder / "master_table.csv"
    write_csv(table, rows, _COLUMNS)
    if zipped:
        with zipfile.ZipFile(folder / f"{table.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(table.name), table.read_bytes())
        table.unlink()
