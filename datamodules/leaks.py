"""Patients whom another dataset tests on must not be trained on: whether a training set holds them.

MS-CXR and Chest ImaGenome are both cut from MIMIC-CXR, RadGenome-ChestCT and ReXGroundingCT from CT-RATE, with splits
of their own: a model that is pre-trained on one may have seen the test images of the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datamodules.records import AnyRecord, Problem, leaks
from datamodules.sources.base import Source
from datamodules.sources.patients import patients_held_out
from medvl.errors import DataError

Guard = str | Path | Source[Any]


def held_out(guard: Guard) -> dict[str, set[str]]:
    """Return the patients, as `patient_key`, who must not be trained on, each with their cohorts ('' for unknown).

    Of a source they are those of val and test.
    """
    if not isinstance(guard, Source):
        return {key: {""} for key in patients_held_out(guard)}
    found: dict[str, set[str]] = defaultdict(set)
    for record in guard.read().records:
        if record.split != "train":
            cohort, key = guard.patient_of(record)
            found[key].add(cohort)
    return found


def name_of(guard: Guard) -> str:
    """Return what an error may call a guard."""
    return guard.name if isinstance(guard, Source) else str(guard)


def _caught(source: Source[AnyRecord], records: Iterable[AnyRecord], guard: Guard) -> list[AnyRecord]:
    """Return the training records of patients whom a guard holds out; the same id in another cohort is another person.

    Where the cohort of either is not known, they are taken for the same.
    """
    kept = held_out(guard)

    def is_kept(cohort: str, key: str) -> bool:
        return key in kept and (not cohort or bool(kept[key] & {"", cohort}))

    return [record for record in records if record.split == "train" and is_kept(*source.patient_of(record))]


def held_out_problems(
    source: Source[AnyRecord], records: Sequence[AnyRecord], guards: Sequence[Guard]
) -> list[Problem]:
    """Return one fatal problem per training record of a patient whom a guard holds out."""
    found = []
    for guard in guards:
        name = Path(name_of(guard)).name
        message = f"this row's patient is in train, but held out by {name}; expected such patients in no training set"
        found += [Problem("patient-held-out", r.row, message) for r in _caught(source, records, guard)]
    return found


def refuse_held_out(source: Source[AnyRecord], records: Sequence[AnyRecord], guards: Sequence[Guard]) -> None:
    """Raise where a training set holds patients whom a guard holds out.

    Raises:
        DataError: With how many pairs and patients it is, and how to leave them out.
    """
    for guard in guards:
        caught = _caught(source, records, guard)
        if caught:
            name, part = name_of(guard), source.part_of(caught[0])
            raise DataError(
                f"{len(caught)} training pairs are of {len({r.patient_id for r in caught})} patients held out for "
                "evaluation",
                where=f"{part.name}, against {name}",
                hint=part.how_to_leave_out(name),
                command=f"medvl data check {part.name} FOLDER --guard {name} --output FILE, which lists the rows",
            )


def audit(sources: Sequence[Source[Any]]) -> dict[tuple[str, str], list[Problem]]:
    """Return what each of several data sets trains on of the patients whom each, itself too, keeps for val and test.

    Returns:
        By the names of the one that trains and the one that holds out: a fatal problem per training record.
    """
    records = [source.read().records for source in sources]
    return {
        (one.name, other.name): held_out_problems(one, own, [other]) if one is not other else leaks(own)
        for one, own in zip(sources, records, strict=True)
        for other in sources
    }
