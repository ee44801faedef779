"""CT-RATE's names, classes and metadata, for every source that is made of its volumes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.sources.cells import cell, number
from datamodules.sources.rows import stream_columns
from medvl.text.untrusted import parse_json

COHORT = "ct-rate"
CLASSES = (
    "Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion",
    "Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis", "Lung nodule",
    "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern",
    "Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening",
)  # fmt: skip
BROKEN = frozenset(
    {
        "train_11755_a_2", "train_11755_a_3", "train_11755_a_4", "train_1267_a_4", "train_3821_a_5", "train_9792_a_1",
        "train_9792_a_2",
    }
)  # fmt: skip
"""Volumes that RadFinder's authors (github.com/lmb-freiburg/radfinder) found damaged."""
TABLE_WORDS = {"train": "train", "valid": "validation"}  # in the names of the tables of reports and metadata
_NAME = re.compile(r"(?P<study>(?P<patient>(?P<split>train|valid)_\d+)_[a-z]+)_(?P<number>\d+)$")
_ATTRIBUTES = {"PatientSex": "sex", "PatientAge": "age", "Manufacturer": "scanner", "ConvolutionKernel": "kernel"}
_GEOMETRY = (
    "RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing", "ImageOrientationPatient", "ImagePositionPatient",
)  # fmt: skip
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from DICOM's LPS


class VolumeName(NamedTuple):
    """`train_1_a_2` taken apart: `train`, patient `train_1`, study `train_1_a`, reconstruction 2."""

    split: str
    patient: str
    study: str
    number: int
    name: str

    def path(self, suffix: str = "") -> str:
        """Return its file below `dataset`; `suffix` is `_fixed` for the second edition."""
        return f"{self.split}{suffix}/{self.patient}/{self.study}/{self.name}.nii.gz"


def volume_name(text: object) -> VolumeName | None:
    """Take the name of a volume, with or without folders and suffix, apart; None where it is none of CT-RATE's."""
    stem = cell(text).replace("\\", "/").rpartition("/")[2]
    name = stem.removesuffix(".gz").removesuffix(".nii")
    found = _NAME.fullmatch(name)
    return VolumeName(found["split"], found["patient"], found["study"], int(found["number"]), name) if found else None


def patient_of_volume(text: object) -> str:
    """Return the patient of a volume, of a study or of that patient's own name; '' where it is none of CT-RATE's.

    `train_7` and `valid_7` are two people, whom their numbers alone would take for one.
    """
    found = re.match(r"(?:train|valid)_\d+", cell(text).replace("\\", "/").rpartition("/")[2])
    return found[0] if found else ""


@dataclass(frozen=True)
class Declared:
    """What the metadata say of a volume.

    Attributes:
        attributes: `sex`, `age`, `scanner`, `kernel`, where they say it.
        rescale: Slope and intercept of the stored values, None where they are missing.
        affine: From stored `(i, j, k, 1)` to RAS mm, None where a part of it is missing.
    """

    attributes: dict[str, str] = field(default_factory=dict)
    rescale: tuple[float, float] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None


def read_metadata(path: Path, geometry: bool) -> dict[str, Declared]:
    """Return what the metadata say of each volume; without `geometry` the attributes alone.

    Raises:
        DataError: The table is damaged, or lacks a column.
    """
    found = {}
    columns = (*_ATTRIBUTES, *(_GEOMETRY if geometry else ()))
    for _, name, *values in stream_columns(path, "VolumeName", *columns):
        told = {ours: cell(value) for ours, value in zip(_ATTRIBUTES.values(), values, strict=False) if cell(value)}
        rest = values[len(_ATTRIBUTES) :]
        parsed = volume_name(name)
        if parsed:
            found[parsed.name] = Declared(told, *_geometry(rest)) if geometry else Declared(told)
    return found


def _geometry(values: list[str]) -> tuple[tuple[float, float] | None, tuple[tuple[float, ...], ...] | None]:
    slope, intercept = number(values[0]), number(values[1])
    plane, step = _numbers(values[2], 2), number(values[3])
    axes, origin = _numbers(values[4], 6), _numbers(values[5], 3)
    rescale = (slope, intercept) if np.isfinite([slope, intercept]).all() and slope else None
    if plane is None or axes is None or origin is None or not np.isfinite(step):
        return rescale, None
    along, down = axes[:3], axes[3:]
    affine = np.eye(4)
    affine[:3] = np.stack([along * plane[0], down * plane[1], np.cross(along, down) * step, origin], axis=1)
    return rescale, tuple(map(tuple, (_RAS @ affine).tolist()))


def _numbers(text: str, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return the numbers of a cell such as `[0.7, 0.7]`."""
    try:
        values = np.array(parse_json(cell(text).replace("(", "[").replace(")", "]").replace("'", "")), np.float64)
    except (ValueError, TypeError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def read_labels(path: Path) -> dict[str, dict[str, int]]:
    """Return the labels of each volume; a cell that is not a whole number becomes 9, which no label may be.

    Raises:
        DataError: The table is damaged, or lacks a column.
    """
    return {
        parsed.name: _labels(values)
        for _, name, *values in stream_columns(path, "VolumeName", *CLASSES)
        if (parsed := volume_name(name))
    }


def _labels(values: Iterable[str]) -> dict[str, int]:
    told = {name: (cell(value), number(value)) for name, value in zip(CLASSES, values, strict=True)}
    return {name: int(value) if value in (-1, 0, 1) else 9 for name, (text, value) in told.items() if text}
