"""Write a synthetic dataset in the layout of VinDr-CXR 1.0.0: three readers in train, one voice in test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.records import Box
from datamodules.twins.dicom import write_dicom
from datamodules.twins.readers import redrawn
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import TwinStudy, make_study, study_plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

LOCAL = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion",
)  # fmt: skip
_OTHER = {"train": "Other diseases", "test": "Other disease"}  # as the real tables have it
_CLASSES = {
    "aortic elongation": "Aortic enlargement",
    "atelectasis": "Atelectasis",
    "bronchiectasis": "Other lesion",
    "bulla": "Lung cyst",
    "calcified granuloma": "Calcification",
    "cardiomegaly": "Cardiomegaly",
    "cavitation": "Lung cavity",
    "consolidation": "Consolidation",
    "fibrosis": "Pulmonary fibrosis",
    "hiatal hernia": "Other lesion",
    "hilar enlargement": "Enlarged PA",
    "interstitial pattern": "ILD",
    "mass": "Nodule/Mass",
    "nodule": "Nodule/Mass",
    "pleural effusion": "Pleural effusion",
    "pleural thickening": "Pleural thickening",
    "pneumothorax": "Pneumothorax",
    "rib fracture": "Rib fracture",
}  # a pacemaker is no finding there
_SUSPECTED = {"Consolidation": "Pneumonia", "Nodule/Mass": "Lung tumor", "Lung cavity": "Tuberculosis"}
_READERS = 17
_MISSED = 0.12  # share of the boxes that a reader does not draw
_INVENTED = 0.06  # share of readings with a box where nothing is
_INVERTED = 0.15  # share of images stored as MONOCHROME1
_SPACINGS = (0.125, 0.139, 0.143, 0.168, 0.175, 0.2)


@dataclass(frozen=True)
class _Written:
    """The rows of one image in both tables."""

    boxes: list[dict[str, Any]]
    labels: list[dict[str, Any]]


@twin_writer("vindr-cxr")
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
    """Write a twin of VinDr-CXR: `train` and `test` of DICOM images, `annotations` of two tables each.

    Three of 17 readers box each train image, differing in edges, misses and inventions. Test holds what was painted.

    Arguments as in `twin_writer`.
    """
    for name in ("train", "test", "annotations"):
        (folder / name).mkdir()
    tables = folder / "annotations"
    parts = ["test" if split == "test" else "train" for _, _, split in study_plan(studies, seed)]
    jobs = [(str(folder / part), index, seed, difficulty, size, appearance) for index, part in enumerate(parts)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    for part in ("train", "test"):
        mine = [study for study, other in zip(written, parts, strict=True) if other == part]
        reader = ["rad_id"] if part == "train" else []
        boxes = ["image_id", *reader, "class_name", "x_min", "y_min", "x_max", "y_max"]
        labels = ["image_id", *reader, *LOCAL, "COPD", *_SUSPECTED.values(), _OTHER[part], "No finding"]
        write_csv(tables / f"annotations_{part}.csv", [row for study in mine for row in study.boxes], boxes)
        write_csv(tables / f"image_labels_{part}.csv", [row for study in mine for row in study.labels], labels)


def findings(study: TwinStudy) -> list[tuple[str, Box]]:
    """Return what is painted in a study, as VinDr-CXR would name it: a class for each box."""
    named = ((_CLASSES.get(label), finding) for finding in study.findings for label in finding.labels[:1])
    return [(name, box) for name, finding in named if name for box in finding.boxes]


def image_id(index: int, seed: int) -> str:
    """Return the name of an image."""
    return hashlib.sha256(f"vindr/{seed}/{index}".encode()).hexdigest()[:32]


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> _Written:
    study, image = make_study(index, seed, difficulty, size, appearance), image_id(index, seed)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 2])
    inverted, spacing = bool(rng.random() < _INVERTED), float(_SPACINGS[int(rng.integers(len(_SPACINGS)))])
    path = Path(folder) / f"{image}.dicom"
    write_dicom(path, study.image, sex=study.sex, age=study.age, spacing=spacing, monochrome1=inverted)
    part, painted = path.parent.name, findings(study)
    if part == "test":
        readings = {"": painted}
    else:
        who = sorted(rng.choice(_READERS, 3, replace=False).tolist())
        readings = {f"R{number + 1}": _reading(painted, rng) for number in who}
    height, width = study.image.shape
    boxes, labels = [], []
    for reader, marks in readings.items():
        ids = {"image_id": image} | ({"rad_id": reader} if reader else {})
        boxes += [ids | _row(name, box, width, height) for name, box in marks] or [ids | {"class_name": "No finding"}]
        labels.append(ids | _labels([name for name, _ in marks], part))
    return _Written(boxes, labels)


def _reading(painted: Sequence[tuple[str, Box]], rng: np.random.Generator) -> list[tuple[str, Box]]:
    """Return what one reader makes of it."""
    marks = [(name, redrawn(box, rng)) for name, box in painted if rng.random() >= _MISSED]
    if rng.random() < _INVENTED:
        x, y, w, h = rng.uniform((0.15, 0.15, 0.08, 0.08), (0.6, 0.6, 0.25, 0.25)).tolist()
        marks.append((LOCAL[int(rng.integers(len(LOCAL)))], (x, y, x + w, y + h)))
    return marks


def _row(name: str, box: Box, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    pixels = (x1 * width, y1 * height, x2 * width, y2 * height)
    corners = zip(("x_min", "y_min", "x_max", "y_max"), pixels, strict=True)
    return {"class_name": name, **{side: f"{value:.3f}" for side, value in corners}}


def _labels(names: list[str], part: str) -> dict[str, int]:
    """Return the 28 labels of an image as one reader gives them: findings, suspected diseases, or none of all."""
    suspected = {_SUSPECTED.get(name) or (_OTHER[part] if name == "Cardiomegaly" else "") for name in names}
    given = set(names) | suspected or {"No finding"}
    columns = (*LOCAL, "COPD", *_SUSPECTED.values(), _OTHER[part], "No finding")
    return {column: int(column in given) for column in columns}
