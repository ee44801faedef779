"""Studies to mine triplets from: their entities, patients and splits, in memory or as JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvl.errors import DataError
from ontology.entities import read_rows
from ontology.similarity import Ints, Profile, profile

STATUSES = ("present", "absent", "uncertain", "historical")


@dataclass(frozen=True, slots=True)
class Studies:
    """Studies and what is known of them.

    Attributes:
        ids: One per study, all different.
        profiles: What counts of their entities.
        patients: `(studies,)`, a number per patient.
        splits: `(studies,)`, a number per split.
    """

    ids: Sequence[str | int]
    profiles: Sequence[Profile]
    patients: Ints
    splits: Ints

    @classmethod
    def of(
        cls,
        ids: Sequence[str | int],
        profiles: Sequence[Profile],
        patients: Sequence[object] | None = None,
        splits: Sequence[object] | None = None,
    ) -> Studies:
        """Number patients and splits.

        Args:
            ids: One per study.
            profiles: See `ontology.similarity.profile`.
            patients: Where None, NaN or empty, the study's patient has no other study.
            splits: Those without one are a split of their own.

        Raises:
            DataError: An id is given twice, or there is not one of each per study.
        """
        patients, splits = patients or [None] * len(ids), splits or [None] * len(ids)
        if not len(ids) == len(profiles) == len(patients) == len(splits):
            raise DataError(f"{len(ids)} ids, {len(profiles)} profiles, {len(patients)} patients, {len(splits)} splits")
        rows: dict[str | int, int] = {}
        for row, name in enumerate(ids):
            if rows.setdefault(name, row) != row:
                raise DataError("an id is given twice", where=f"studies {rows[name] + 1} and {row + 1}")
        own = [(row, "study") if _absent(one) else str(one) for row, one in enumerate(patients)]
        return cls(ids, profiles, _numbers(own), _numbers(["" if _absent(one) else str(one) for one in splits]))

    def __len__(self) -> int:
        return len(self.ids)


def read_studies(path: Path) -> Studies:
    """Read studies from the lines that `medvl ontology extract` or another extractor writes.

    Each line has `id` and `entities`, each of these `disease` and `status` and perhaps `adjectives` and `directions`;
    `patient_id` and `split` may follow; other keys are ignored.

    Raises:
        DataError: A line has not this form, or an id is there twice; it names the line.
    """
    lines: dict[str | int, int] = {}
    profiles, patients, splits = [], [], []
    shared: dict[Any, Any] = {}
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        name = row.get("id")
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise DataError("a study without id", where=where, hint='expected {"id", "entities": [...]}')
        if lines and isinstance(name, str) != isinstance(next(iter(lines)), str):
            raise DataError("an id is a number, another is text", where=where, hint="expected ids of one kind")
        if lines.setdefault(name, number) != number:
            raise DataError(f"the id was there in line {lines[name]}", where=where, hint="expected a line per study")
        found = _profile(row, where)
        profiles.append({disease: shared.setdefault(terms, terms) for disease, terms in found.items()})
        patients.append(row.get("patient_id"))
        splits.append(row.get("split"))
    return Studies.of(list(lines), profiles, patients, splits)


def _profile(row: Mapping[str, Any], where: str) -> Profile:
    hint = 'expected "entities": [{"disease", "status", "adjectives": [...], "directions": [...]}]'
    if "entities" not in row:
        named = ", ".join(sorted(map(str, row))[:6])
        raise DataError(f"a study without entities; its keys are: {named}", where=where, hint=hint)
    try:
        for entity in row["entities"]:
            status, lists = entity["status"], (entity.get("adjectives", []), entity.get("directions", []))
            if status not in STATUSES:
                raise DataError("unknown status", where=where, hint=f"expected one of: {', '.join(STATUSES)}")
            if not isinstance(entity["disease"], str) or not all(isinstance(terms, list) for terms in lists):
                raise TypeError
            if not all(isinstance(term, str) for terms in lists for term in terms):
                raise TypeError
        return profile(row["entities"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("not entities", where=where, hint=hint) from error


def _absent(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _numbers(names: Iterable[object]) -> Ints:
    known: dict[object, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
