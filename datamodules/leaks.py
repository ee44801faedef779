"""Patients whom another dataset tests on must not be trained on: who they are, and whether a training set holds them.

MS-CXR and Chest ImaGenome are both cut from MIMIC-CXR, with splits of their own: a model that is pre-trained on one
may have seen the test images of the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import cell
from datamodules.sources.rows import Table, read_table
from datamodules.sources.splits import split_word
from medvl.errors import DataError

Guard = str | Path | PhraseSource
_PREFIXED = re.compile(r"[A-Za-z]+[-_ ]?(?=\d+$)")
_PATIENT_COLUMNS = ("subject_id", "patient_id", "patientid", "subject", "patient")
_MIMIC_PATH = re.compile(r"(?:^|/)p(\d+)/s\d+")


def patient_key(name: object) -> str:
    """Return what two spellings of one patient have in common: `p10000032` and `10000032.0` are `10000032`."""
    return _PREFIXED.sub("", cell(name).removesuffix(".0")).lower()


def held_out(guard: Guard) -> frozenset[str]:
    """Return the patients (as `patient_key`) who must not be trained on.

    Args:
        guard: A source, of which the patients of val and test count; or a table, of which those count whose `split` is
            not the training one, and all where it has no such column. Its patients stand in a column `subject_id`,
            `patient_id` or the like, or in paths such as `files/p10/p10000032/s50414267/x.jpg`.

    Raises:
        DataError: The table cannot be read, or a row of it names no patient.
    """
    if isinstance(guard, PhraseSource):
        return frozenset(patient_key(r.patient_id) for r in guard.read().records if r.split != "train")
    path = Path(guard).expanduser()
    if path.is_dir() or path.suffix.lower() == ".json":
        hint = "name the CSV, for example MS_CXR_Local_Alignment_v1.1.0.csv or images_to_avoid.csv"
        raise DataError("a guard is a table, with a row per image", where=str(path), hint=hint)
    return _patients(read_table(path))


def _patients(table: Table) -> frozenset[str]:
    lower = {name.lower(): name for name in reversed(table.columns)}
    column = next((lower[name] for name in _PATIENT_COLUMNS if name in lower), None)
    split, place = lower.get("split"), lower.get("path", "")
    found = set()
    for row in table.rows:
        if split is not None and split_word(row.cells.get(split)) == "train":
            continue
        in_path = _MIMIC_PATH.search(cell(row.cells.get(place)))
        key = patient_key(row.cells.get(column)) if column else in_path[1] if in_path else ""
        if row.fault or not key:
            raise DataError(
                "this row names no patient, so nobody can be kept apart",
                where=f"{table.path}: {row.where}",
                hint=f"expected a column {' or '.join(_PATIENT_COLUMNS[:2])}, or paths with p10000032/s50414267",
            )
        found.add(key)
    return frozenset(found)


def name_of(guard: Guard) -> str:
    """Return what an error may call a guard."""
    return guard.name if isinstance(guard, PhraseSource) else str(guard)


def held_out_problems(records: Iterable[PhraseRecord], guards: Sequence[Guard]) -> list[Problem]:
    """Return one fatal problem per training record of a patient whom a guard holds out."""
    train, found = [record for record in records if record.split == "train"], []
    for guard in guards:
        kept, name = held_out(guard), Path(name_of(guard)).name
        message = f"this row's patient is in train, but held out by {name}; expected such patients in no training set"
        found += [Problem("patient-held-out", r.row, message) for r in train if patient_key(r.patient_id) in kept]
    return found


def refuse_held_out(source: PhraseSource, records: Iterable[PhraseRecord], guards: Sequence[Guard]) -> None:
    """Raise where a training set holds patients whom a guard holds out.

    Raises:
        DataError: With how many pairs and patients it is, and how to leave them out.
    """
    train = [(record, patient_key(record.patient_id)) for record in records if record.split == "train"]
    for guard in guards:
        kept = held_out(guard)
        caught = [key for _, key in train if key in kept]
        if caught:
            name = name_of(guard)
            raise DataError(
                f"{len(caught)} training pairs are of {len(set(caught))} patients held out for evaluation",
                where=f"{source.name}, against {name}",
                hint=source.how_to_leave_out(name),
                command=f"medvl data check {source.name} FOLDER --guard {name} --output FILE, which lists the rows",
            )
