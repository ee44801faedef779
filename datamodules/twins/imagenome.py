"""Write a synthetic dataset in the layout of Chest ImaGenome over MIMIC-CXR-JPG, weak labels and faults included."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sources.graph_files import SUFFIX
from datamodules.twins.mimic import dicom_of, mimic_path, save_jpeg
from datamodules.twins.scanner import Appearance
from datamodules.twins.scene_graphs import NOISE, TwinGraph, twin_graph
from datamodules.twins.studies import make_study, plan, study_plan
from datamodules.twins.writer import twin_writer, write_csv
from medvl.errors import ConfigError, nearest
from medvl.io.workers import run_all

_SPLIT = {"train": "train", "val": "valid", "test": "test"}
_COLUMNS = ("subject_id", "study_id", "dicom_id", "path", "ViewPosition")
_GOLD_SHARE = 0.08  # of patients, at least one where there are four
_GOLD_COLUMNS = (
    "patient_id", "study_id", "image_id", "row_id", "sentence", "bbox", "coord224", "coord_original", "relation",
    "context", "categoryID", "label_name", "attribute", "section",
)  # fmt: skip


@dataclass(frozen=True)
class _Written:
    """One study: its row in a split, what was planted in its graph, and its rows of the gold table."""

    row: dict[str, str]
    pairs: list[dict[str, str]]
    faults: list[dict[str, str]]
    gold: list[dict[str, Any]]


@twin_writer("imagenome")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    noise: list[str] | None = None,
    zipped: bool = False,
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of Chest ImaGenome: scene graphs, splits, gold table, JPEG images under `files/p10/...`.

    A few patients are the gold ones: they stand in `images_to_avoid.csv` and, as in the real dataset, in the splits.
    `noise.json` lists what was planted: `pairs` (image, phrase, anatomy, kind `redundant`, `negated`, `normal` or
    `non-diagnostic`) and `faults` of format (image, anatomy, kind as the source's problem code).

    Arguments as in `twin_writer`; studies and patients are those of the `ms-cxr` twin of that seed, split otherwise.
    `noise` names what to plant, of `redundant`, `negated`, `non-diagnostic` and `format` (default all; `none` for
    nothing); `zipped` gives the graphs as `scene_graph.zip`.

    Raises:
        ConfigError: An unknown kind of noise.
    """
    kinds = list(NOISE) if noise is None else [kind for kind in noise if kind != "none"]
    for kind in kinds:
        if kind not in NOISE:
            raise ConfigError(f"unknown noise {kind!r}", hint=nearest(kind, (*NOISE, "none")))
    silver = folder / "silver_dataset"
    (silver / "scene_graph").mkdir(parents=True)
    jobs = [(str(folder), index, seed, difficulty, size, kinds, appearance) for index in range(studies)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    splits = [split for _, _, split in study_plan(studies, seed)]
    _write_tables(folder, written, splits, _gold_patients(studies, seed))
    if zipped:
        _pack(silver / "scene_graph")


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, noise: list[str], appearance: Appearance
) -> _Written:
    study, dicom = make_study(index, seed, difficulty, size, appearance), dicom_of(index, seed)
    path = mimic_path(study.patient_id, study.study_id, dicom)
    save_jpeg(Path(folder), path, study.image)
    shape = (study.image.shape[0], study.image.shape[1])
    made = twin_graph(plan(index, seed), dicom, shape, np.random.default_rng([seed & 0xFFFFFFFF, index, 2]), noise)
    if made.graph is not None:
        target = Path(folder) / "silver_dataset" / "scene_graph" / f"{dicom}{SUFFIX}"
        target.write_text(json.dumps(made.graph, indent=4), encoding="utf-8")
    values = (study.patient_id, study.study_id, dicom, path.replace(".jpg", ".dcm"), made.view)
    return _Written(
        dict(zip(_COLUMNS, values, strict=True)),
        [{"image": dicom, **pair} for pair in made.pairs],
        [{"image": dicom, **fault} for fault in made.faults],
        _gold_rows(made, study.patient_id, study.study_id, dicom),
    )


def _gold_rows(made: TwinGraph, patient: str, study: str, dicom: str) -> list[dict[str, Any]]:
    """Return the rows of the gold table for a study: one per sentence, true anatomy and attribute."""
    rows = []
    objects = {entry["bbox_name"]: entry for entry in (made.graph or {}).get("objects", [])}
    for number, (text, tokens, names) in enumerate(made.gold):
        for name in (name for name in names if name in objects):
            coarse, fine = ([objects[name][f"{p}{s}"] for s in ("x1", "y1", "x2", "y2")] for p in ("", "original_"))
            for token in tokens:
                category, context, label = token.split("|")
                values = (
                    patient, study, f"{dicom}.dcm", f"{study}|{number}", text, name, str(coarse), str(fine),
                    int(context == "yes"), context, category, label, token, "finalreport",
                )  # fmt: skip
                rows.append(dict(zip(_GOLD_COLUMNS, values, strict=True)))
    return rows


def _gold_patients(studies: int, seed: int) -> frozenset[str]:
    patients = sorted({patient for _, patient, _ in study_plan(studies, seed)})
    count = max(1, round(_GOLD_SHARE * len(patients))) if len(patients) > 3 else 0
    order = np.random.default_rng([seed & 0xFFFFFFFF, 3]).permutation(len(patients))
    return frozenset(patients[i] for i in order[:count])


def _write_tables(folder: Path, written: list[_Written], splits: list[str], gold: frozenset[str]) -> None:
    place = folder / "silver_dataset" / "splits"
    place.mkdir()
    for split, name in _SPLIT.items():
        rows = [one.row for one, own in zip(written, splits, strict=True) if own == split]
        write_csv(place / f"{name}.csv", [{"": str(i), **row} for i, row in enumerate(rows)], ("", *_COLUMNS))
    write_csv(place / "images_to_avoid.csv", [w.row for w in written if w.row["subject_id"] in gold], _COLUMNS)
    firsts = {one.row["subject_id"]: one for one in reversed(written) if one.row["subject_id"] in gold}
    rows = [row for one in firsts.values() for row in one.gold]
    (folder / "gold_dataset").mkdir()
    write_csv(
        folder / "gold_dataset" / "gold_object_attribute_with_coordinates.txt", rows, _GOLD_COLUMNS, delimiter="\t"
    )
    planted = {"pairs": [p for one in written for p in one.pairs], "faults": [f for one in written for f in one.faults]}
    (folder / "noise.json").write_text(json.dumps(planted, indent=1), encoding="utf-8")


def _pack(folder: Path) -> None:
    """Put the graphs into a zip beside their folder, which goes."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(f"{folder.name}/{path.name}"), path.read_bytes(), zipfile.ZIP_DEFLATED)
    shutil.rmtree(folder)
