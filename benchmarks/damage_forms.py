"""Data sets to damage: a small twin of every format, what lies where in it, and how it is trained on."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.damage import Anatomy, Spot
from datamodules.catalog import SOURCES
from datamodules.grounding import GroundingData
from datamodules.intake import OnError
from datamodules.reports import ReportData
from datamodules.shared import SourceData
from datamodules.sources.base import Source
from datamodules.twins import TWINS
from datamodules.volumes import VolumeData

STUDIES, SIZE, VOXELS = 10, 48, 24
SCANS = 6
CAP = 0.6  # of the rows of so small a data set, that one fault may cost; past it training refuses to go on


@dataclass(frozen=True)
class Form:
    """A format.

    Attributes:
        source: Its name in `medvl data list`.
        data: Its datamodule.
        anatomy: What lies where.
        write: Writes it into a folder.
        table: The file that names it, where that is no folder.
        options: Of its source.
        dealt: Whether it has no splits of its own, so that patients are dealt anew after each loss.
    """

    source: str
    data: Callable[..., SourceData[Any, Any]]
    anatomy: Anatomy
    write: Callable[[Path], None]
    table: str = ""
    options: dict[str, Any] | None = None
    dealt: bool = False

    def read(self, root: Path) -> Source[Any]:
        """Return the source of a copy of it."""
        source: Source[Any] = _found(SOURCES[self.source].class_path)(root / self.table, **self.options or {})
        return source

    def module(self, root: Path, on_error: OnError, cache: str = "memory") -> SourceData[Any, Any]:
        """Return the datamodule of a copy of it, in batches so large that an epoch has two steps at most."""
        options: dict[str, Any] = {"on_error": on_error, "max_quarantine": CAP, "batch_size": 4}
        if self.data is not VolumeData:
            options |= {"image_size": 32, "cache": cache}
        else:
            options |= {"spacing": (8.0, 8.0, 8.0)}
        return self.data(self.read(root), **options)


def _found(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _twin(format: str, *unwanted: str, size: int = SIZE) -> Callable[[Path], None]:
    """Return what writes a twin, without the forms of its table that would hide the one meant."""

    def write(folder: Path) -> None:
        _found(TWINS[format])(folder, SCANS if size == VOXELS else STUDIES, seed=0, workers=0, size=size)
        for pattern in (*unwanted, "twin*.json*"):
            for path in folder.glob(pattern):
                path.unlink()

    return write


def _own_reports(folder: Path) -> None:
    """Write a table of one's own over the images of a MIMIC-CXR."""
    _twin("mimic-cxr")(folder)
    records = FORMS["mimic-cxr"].read(folder).read().records
    rows = [
        {"image": image, "text": one.text, "patient_id": one.patient_id, "study_id": one.study_id, "split": one.split,
         "labels": json.dumps(one.labels)}
        for one in records
        for image in one.images
    ]  # fmt: skip
    _write(folder / "table.csv", rows)


def _own_volumes(folder: Path) -> None:
    """Write a table of one's own over the volumes of a CT-RATE."""
    _twin("ct-rate", size=VOXELS)(folder)
    rows = [
        {"volume": volume, "text": one.text, "patient_id": one.patient_id, "study_id": one.study_id, "split": one.split,
         "labels": json.dumps(one.labels), "snippets": json.dumps([
             {"text": s.text, "intervals": [list(i) for i in s.intervals]} for s in one.snippets if not s.volume])}
        for one in FORMS["ct-rate"].read(folder).read().records
        for volume in one.volumes
    ]  # fmt: skip
    _write(folder / "dataset" / "table.csv", rows)
    os.rename(folder / "dataset" / "table.csv", folder / "dataset" / "volumes.csv")


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


_MINE = {"image": "filename", "phrase": "notes", "boxes": "regions", "patient_id": "subject", "split": "fold"}
_MIMIC = "mimic-cxr-2.0.0-"
_SLICES = {"image": "image", "text": "phrase", "boxes": "boxes", "patient": "patient_id", "split": "split"}
_REPORTS = {"image": "image", "text": "text", "patient": "patient_id", "study": "study_id", "split": "split"}
_MASTER = {"image": "ImageID", "patient": "PatientID", "study": "StudyID"}
_OPTIONAL = frozenset({"study", "labels"})

FORMS: dict[str, Form] = {
    "padchest-gr": Form(
        "padchest-gr",
        GroundingData,
        Anatomy(
            "png",
            "PadChest_GR/*.png",
            (Spot("master_table.csv", _MASTER | {"split": "split"}),),
            ("grounded_reports*.json",),
        ),
        _twin("padchest-gr"),
    ),
    "ms-cxr": Form(
        "ms-cxr",
        GroundingData,
        Anatomy(
            "jpeg",
            "files/*/*/*/*.jpg",
            (Spot("*.csv", {"image": "path", "text": "label_text", "split": "split", "sides": "x y w h"}),),
            shaped=True,
        ),
        _twin("ms-cxr", "*.json"),
    ),
    "ms-cxr-0.1": Form(
        "ms-cxr",
        GroundingData,
        Anatomy("jpeg", "files/*/*/*/*.jpg", (), ("MS_CXR*.json",), shaped=True),
        _twin("ms-cxr-0.1", "*.csv"),
        dealt=True,
    ),
    "vindr-cxr": Form(
        "vindr-cxr",
        GroundingData,
        Anatomy(
            "dicom",
            "t*/*.dicom",
            (
                Spot(
                    "annotations/annotations_train.csv",
                    {"image": "image_id", "text": "class_name", "sides": "x_min y_min x_max y_max"},
                ),
                Spot("annotations/image_labels_train.csv", {"image": "image_id", "label": "Cardiomegaly"}),
            ),
        ),
        _twin("vindr-cxr"),
        options={"absent": 0},  # findings said to be absent are drawn anew when a row is lost
    ),
    "rsna": Form(
        "rsna",
        GroundingData,
        Anatomy(
            "dicom",
            "stage_2_train_images/*.dcm",
            (
                Spot(
                    "stage_2_train_labels.csv",
                    {"image": "patientId", "sides": "x y width height", "label": "Target"},
                ),
                Spot("stage_2_detailed_class_info.csv", {"image": "patientId", "text": "class"}),
            ),
            ("pneumonia-*.json",),
            shaped=True,
        ),
        _twin("rsna"),
        dealt=True,
    ),
    "imagenome": Form(
        "imagenome",
        GroundingData,
        Anatomy(
            "jpeg",
            "files/*/*/*/*.jpg",
            (
                Spot(
                    "silver_dataset/splits/train.csv",
                    {"image": "path", "patient": "subject_id", "study": "study_id"},
                ),
            ),
            ("silver_dataset/scene_graph/*.json",),
        ),
        _twin("imagenome"),
        options={"workers": 0},
    ),
    "table": Form(
        "table",
        GroundingData,
        Anatomy(
            "png",
            "images/*.png",
            (Spot("table.csv", {role: _MINE[name] for role, name in _SLICES.items() if name in _MINE}
                  | {"text": "notes"}),),
        ),
        _twin("table", "table.parquet", "table.jsonl", "rows.csv"),
        "table.csv",
        {"columns": _MINE, "box_format": "xyxy_px"},
    ),
    "ct-slices": Form(
        "table",
        GroundingData,
        Anatomy("png", "slices/*.png", (Spot("table.csv", _SLICES),)),
        _twin("ct-slices"),
        "table.csv",
        {"box_format": "xyxy_px"},
    ),
    "mimic-cxr": Form(
        "mimic-cxr",
        ReportData,
        Anatomy(
            "jpeg",
            "files/*/*/*/*.jpg",
            (
                Spot(
                    f"{_MIMIC}split.csv.gz",
                    {"image": "dicom_id", "patient": "subject_id", "study": "study_id", "split": "split"},
                ),
                Spot(f"{_MIMIC}metadata.csv.gz", {"image": "dicom_id"}),
                Spot(f"{_MIMIC}chexpert.csv.gz", {"study": "study_id", "label": "Support Devices"}),
            ),
            ("files/*/*/*.txt",),
        ),
        _twin("mimic-cxr"),
    ),
    "chexpert": Form(
        "chexpert",
        ReportData,
        Anatomy(
            "jpeg",
            "train/*/*/*.jpg",
            (
                Spot("train.csv", {"image": "Path", "label": "Support Devices"}),
                Spot("df_chexpert_plus_*.csv", {"image": "path_to_image", "text": "report"}),
            ),
        ),
        _twin("chexpert"),
    ),
    "padchest": Form(
        "padchest",
        ReportData,
        Anatomy(
            "png",
            "**/*.png",
            (
                Spot(
                    "PADCHEST*",
                    _MASTER | {"text": "Report", "label": "Labels"},
                ),
            ),
        ),
        _twin("padchest"),
        dealt=True,
    ),
    "openi": Form(
        "openi",
        ReportData,
        Anatomy("png", "NLMCXR_png/*.png", (), ("**/*.xml",)),
        _twin("openi"),
        dealt=True,
    ),
    "reports": Form(
        "reports",
        ReportData,
        Anatomy("jpeg", "files/*/*/*/*.jpg", (Spot("table.csv", _REPORTS | {"labels": "labels"}, _OPTIONAL),)),
        _own_reports,
        "table.csv",
    ),
    "ct-rate": Form(
        "ct-rate",
        VolumeData,
        Anatomy(
            "nifti",
            "dataset/*/*/*/*.nii.gz",
            (
                Spot(
                    "dataset/radiology_text_reports/train_reports.csv",
                    {"image": "VolumeName", "text": "Findings_EN"},
                ),
                Spot(
                    "dataset/multi_abnormality_labels/train_predicted_labels.csv",
                    {"image": "VolumeName", "label": "Cardiomegaly"},
                ),
                Spot("dataset/metadata/train_metadata.csv", {"image": "VolumeName"}),
            ),
            ("snippets.jsonl",),
            optional=("snippets.jsonl",),
        ),
        _twin("ct-rate", size=VOXELS),
    ),
    "volume-table": Form(
        "volume-table",
        VolumeData,
        Anatomy(
            "nifti",
            "dataset/*/*/*/*.nii.gz",
            (Spot("dataset/volumes.csv", _REPORTS | {"image": "volume", "labels": "labels"}, _OPTIONAL | {"text"}),),
        ),
        _own_volumes,
        "dataset/volumes.csv",
    ),
}  # fmt: skip
"""Every format that has a twin or is a table of one's own."""
