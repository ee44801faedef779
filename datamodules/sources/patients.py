"""Patients by whatever name a dataset has for them, and those whom a table holds out."""

from __future__ import annotations

import re
from pathlib import Path

from datamodules.sources.cells import cell
from datamodules.sources.ct_rate_tables import patient_of_volume
from datamodules.sources.rows import read_table
from datamodules.sources.splits import split_word
from medvl.errors import DataError

UNGUARDED = "patients-unguarded"
"""Code of the remark that a list of patients who ought never to be trained on is not there to be obeyed."""

_PREFIXED = re.compile(r"[A-Za-z]+[-_ ]?(?=\d+$)")
_COLUMNS = ("subject_id", "patient_id", "patientid", "subject", "patient")
_VOLUMES = ("volumename", "name", "volume")  # of CT-RATE's volumes, in its own tables and in those made of it
_MIMIC_PATH = re.compile(r"(?:^|/)p(\d+)/s\d+")


def patient_key(name: object) -> str:
    """Return what two spellings of one patient have in common: `p10000032` and `10000032.0` are `10000032`."""
    return _PREFIXED.sub("", cell(name).removesuffix(".0")).lower()


def patients_held_out(table: str | Path) -> frozenset[str]:
    """Return the patients, as `patient_key`, whom a table keeps from training.

    Those count whose `split` is not the training one, and all where there is no such column. Patients stand in a column
    `subject_id`, `patient_id` or the like, in paths such as `files/p10/p10000032/s50414267/x.jpg`, or in the names of
    CT-RATE's volumes, which RadGenome-ChestCT and ReXGroundingCT use as well.

    Raises:
        DataError: The table cannot be read, or a row of it names no patient.
    """
    path = Path(table).expanduser()
    if path.is_dir() or path.suffix.lower() == ".json":
        hint = "name a CSV such as images_to_avoid.csv; what has none goes under --data.guard_sources, as a source"
        raise DataError("expected a table of patients to hold out, with a row per image", where=str(path), hint=hint)
    read = read_table(path)
    lower = {name.lower(): name for name in reversed(read.columns)}
    column = next((lower[name] for name in _COLUMNS if name in lower), None)
    split, place = lower.get("split"), lower.get("path", "")
    volume = next((lower[name] for name in _VOLUMES if name in lower), "")
    found = set()
    for row in read.rows:
        if split is not None and split_word(row.cells.get(split)) == "train":
            continue
        in_path = _MIMIC_PATH.search(cell(row.cells.get(place)))
        named = in_path[1] if in_path else patient_of_volume(row.cells.get(volume))
        key = patient_key(row.cells.get(column)) if column else named
        if row.fault or not key:
            raise DataError(
                "this row names no patient, so nobody can be kept apart",
                where=f"{path}: {row.where}",
                hint=f"expected a column {' or '.join(_COLUMNS[:2])}, or paths with p10000032/s50414267",
            )
        found.add(key)
    return frozenset(found)
