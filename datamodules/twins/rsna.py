"""Write a synthetic dataset in the layout of stage 2 of the RSNA Pneumonia Detection Challenge."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image

from datamodules.records import Box
from datamodules.twins.dicom import write_dicom
from datamodules.twins.folder import eight_bits
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import TwinStudy, make_study
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

_SIDE = 1024  # boxes are in pixels of such a square, and so is every real image
_OPAQUE = {"consolidation", "interstitial pattern", "atelectasis"}  # what makes one think of pneumonia
_SPACINGS = (0.139, 0.143, 0.168, 0.171, 0.194)
_COLUMNS = ["patientId", "x", "y", "width", "height", "Target"]


@dataclass(frozen=True)
class _Written:
    """One image: its rows in the table of boxes, its class, and whose it is."""

    rows: list[dict[str, Any]]
    kind: str
    patient: str


@twin_writer("rsna")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    mapping: bool = True,
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of the RSNA challenge: DICOM images, a table of boxes, one of classes, and RSNA's one of patients.

    Arguments as in `twin_writer`, but images are squares of `size` pixels, 1,024 by default; boxes are those of 1,024
    px all the same. `mapping` adds the table that names NIH's patients; the challenge's archive lacks it.
    """
    (folder / "stage_2_train_images").mkdir()
    images, side = str(folder / "stage_2_train_images"), size or _SIDE
    jobs = [(images, index, seed, difficulty, side, appearance) for index in range(studies)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    rows = [row for study in written for row in study.rows]
    kinds = [{"patientId": row["patientId"], "class": study.kind} for study in written for row in study.rows]
    write_csv(folder / "stage_2_train_labels.csv", rows, _COLUMNS)
    write_csv(folder / "stage_2_detailed_class_info.csv", kinds, ["patientId", "class"])
    if mapping:
        path = folder / "pneumonia-challenge-dataset-mappings_2018.json"
        path.write_text(json.dumps(_mapping(written), indent=1), encoding="utf-8")


def boxes(study: TwinStudy) -> list[Box]:
    """Return the opacities painted in a study."""
    return [box for finding in study.findings if finding.labels[0] in _OPAQUE for box in finding.boxes]


def image_id(index: int, seed: int) -> str:
    """Return the name of an image, which the challenge calls `patientId`."""
    return str(UUID(hashlib.sha256(f"rsna/{seed}/{index}".encode()).hexdigest()[:32]))


def _write_study(folder: str, index: int, seed: int, difficulty: float, side: int, appearance: Appearance) -> _Written:
    study, image = make_study(index, seed, difficulty, side, appearance), image_id(index, seed)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 3])
    # NIH made squares of its films by stretching them, which leaves boxes in shares of the image as they are.
    square = Image.fromarray(eight_bits(study.image)).resize((side, side), Image.Resampling.BILINEAR)
    write_dicom(
        Path(folder) / f"{image}.dcm",
        np.asarray(square),
        patient=image,
        sex=study.sex,
        age=study.age,
        view=study.view,
        spacing=_SPACINGS[int(rng.integers(len(_SPACINGS)))],
    )
    found = boxes(study)
    ill = any(finding.boxes for finding in study.findings)
    kind = "Lung Opacity" if found else "No Lung Opacity / Not Normal" if ill else "Normal"
    rows = [{"patientId": image, **_pixels(box), "Target": 1} for box in found] or [{"patientId": image, "Target": 0}]
    return _Written(rows, kind, study.patient_id)


def _pixels(box: Box) -> dict[str, float]:
    x1, y1, x2, y2 = (float(round(value * _SIDE)) for value in box)
    return {"x": x1, "y": y1, "width": max(x2 - x1, 1.0), "height": max(y2 - y1, 1.0)}


def _mapping(written: list[_Written]) -> list[dict[str, Any]]:
    """Return RSNA's table: of each image its NIH name, which begins with the patient."""
    seen: dict[str, int] = {}
    entries = []
    for study in written:
        number = seen[study.patient] = seen.get(study.patient, -1) + 1
        entries.append(
            {
                "img_id": f"{int(study.patient):08d}_{number:03d}.png",
                "subset_img_id": study.rows[0]["patientId"],
                "subset_group": "train",
                "orig_labels": [],
            }
        )
    return entries
