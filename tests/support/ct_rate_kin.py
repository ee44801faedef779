"""Data sets that are made of CT-RATE's volumes, written over some volumes of its twin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np


def rex(twin: Path, folder: Path, split: dict[str, str]) -> Path:
    """Write ReXGroundingCT's layout over some volumes of a twin: one finding in two stretches, one without voxels."""
    (folder / "segmentations").mkdir(parents=True)
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for path, word in split.items():
        volume: Any = nibabel.load(twin / "dataset" / path)  # type: ignore[attr-defined]
        mask = np.zeros((2, *volume.shape), np.uint8)
        mask[0, 3:6, 3:6, 2:5] = 1
        mask[0, 8, 8, 9] = 2
        name = Path(path).name
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), folder / "segmentations" / name)  # type: ignore[no-untyped-call,attr-defined]
        entries[word].append({"name": name, "findings": {"0": "A cyst", "1": "A stone"}})
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def radgenome(twin: Path, folder: Path, paths: Iterable[str]) -> Path:
    """Write RadGenome-ChestCT's layout over some training volumes of a twin: one sentence, one region."""
    root = folder / "dataset"
    masks = root / "train_region_mask"
    lines = ["Volumename,Anatomy,Sentence"]
    for path in paths:
        name = Path(path).name
        scan, study, _ = name.removesuffix(".nii.gz").rsplit("_", 2)
        volume: Any = nibabel.load(twin / "dataset" / path)  # type: ignore[attr-defined]
        mask = np.zeros(volume.shape, np.uint8)
        mask[3:6, 3:6, 2:5] = 1
        region = masks / f"seg_{name.removesuffix('.nii.gz')}" / "lung.nii.gz"
        region.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(mask, volume.affine), region)  # type: ignore[no-untyped-call,attr-defined]
        copy = root / "train_preprocessed" / scan / f"{scan}_{study}" / name
        copy.parent.mkdir(parents=True)
        shutil.copy(twin / "dataset" / path, copy)
        lines.append(f"{name},lung,A nodule.")
    table = root / "radgenome_files" / "train_region_report.csv"
    table.parent.mkdir()
    table.write_text("\n".join(lines) + "\n")
    return folder
