"""Patients whom another dataset tests on must not be trained on: whether a training set holds them.

MS-CXR and Chest ImaGenome are both cut from MIMIC-CXR, with splits of their own: a model that is pre-trained on one
may have seen the test images of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.patients import patient_key, patients_held_out
from medvl.errors import DataError

Guard = str | Path | PhraseSource


def held_out(guard: Guard) -> frozenset[str]:
    """Return the patients, as `patient_key`, who must not be trained on: of a source, those of val and test."""
    if isinstance(guard, PhraseSource):
        return frozenset(patient_key(r.patient_id) for r in guard.read().records if r.split != "train")
    return patients_held_out(guard)


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
