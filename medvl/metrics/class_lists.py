"""Fixed lists of studies with one class each, as CheXpert 5x200 has them: the same for everyone, and provably so.

The published 5x200 was drawn without a seed, so that each group's list is its own. Here a study's place in the draw is
a hash of the seed and its id: it depends on no random generator, library version or order of the file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from medvl.errors import DataError

FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


@dataclass(frozen=True)
class ClassList:
    """Ids by class.

    Attributes:
        ids: Of each class, in order of the draw.
        pools: How many studies each class was drawn from.
        seed: Of the draw.
    """

    ids: dict[str, tuple[str, ...]]
    pools: dict[str, int]
    seed: int

    @property
    def sha256(self) -> str:
        """Hash of classes and ids, whatever their order: two lists with the same hash are the same benchmark."""
        plain = json.dumps({name: sorted(ids) for name, ids in sorted(self.ids.items())}, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()


def draw_class_list(
    ids: Sequence[str],
    labels: Mapping[str, Sequence[float | None]],
    classes: Sequence[str] = FIVE,
    per_class: int = 200,
    seed: int = 0,
    ignored: Sequence[str] = ("No Finding",),
    eligible: Sequence[bool] | None = None,
    patients: Sequence[str] | None = None,
    trained_on: Collection[str] = (),
) -> ClassList:
    """Draw studies that show one of the classes and nothing else.

    One of `classes` is 1 and every other label 0 or blank; an uncertain one (-1) rules a study out.

    Args:
        ids: Of the studies, unique.
        labels: By name, one value a study: 1, 0, -1, NaN or None.
        classes: Those to draw.
        per_class: Studies of each.
        seed: Of the draw.
        ignored: Labels that may have any value.
        eligible: Which studies may be drawn at all, such as frontal ones; by default all.
        patients: Of the studies; when given, no patient is drawn twice.
        trained_on: Patients of a training split, none of whom is drawn.

    Raises:
        DataError: A label is missing or of another length, an id occurs twice, or a class has too few studies.
        ValueError: `trained_on` without `patients`.
    """
    if trained_on and patients is None:
        raise ValueError("trained_on needs the patients of the studies")
    columns = {name: labels[name] for name in labels if name not in ignored}
    _check(ids, columns, classes)
    order = sorted(range(len(ids)), key=lambda row: _place(seed, ids[row]))
    drawn: dict[str, list[str]] = {name: [] for name in classes}
    pools, seen, barred = dict.fromkeys(classes, 0), set[str](), frozenset(trained_on)
    for row in order:
        name = _only(row, columns)
        if name not in drawn or not (eligible is None or eligible[row]) or (patients and patients[row] in barred):
            continue
        pools[name] += 1
        if len(drawn[name]) < per_class and not (patients and patients[row] in seen):
            drawn[name].append(ids[row])
            seen.update([patients[row]] if patients else [])
    for name, found in drawn.items():
        if len(found) < per_class:
            raise DataError(
                f"{name}: {len(found)} studies show it alone, {per_class} are wanted", hint="ask for fewer per class"
            )
    return ClassList({name: tuple(found) for name, found in drawn.items()}, pools, seed)


def _only(row: int, columns: Mapping[str, Sequence[float | None]]) -> str:
    """Return the one label that is 1 where all others are 0 or blank, else nothing."""
    found = ""
    for name, column in columns.items():
        value = column[row]
        if value is None or math.isnan(value) or value == 0:
            continue
        if value != 1 or found:
            return ""
        found = name
    return found


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _check(ids: Sequence[str], columns: Mapping[str, Sequence[float | None]], classes: Sequence[str]) -> None:
    if missing := [name for name in classes if name not in columns]:
        raise DataError(f"no label {missing[0]!r}", hint=f"expected some of: {', '.join(columns)}")
    for name, column in columns.items():
        if len(column) != len(ids):
            raise DataError(f"{name}: {len(column)} labels for {len(ids)} studies")
    if len(set(ids)) != len(ids):
        raise DataError(f"{len(ids) - len(set(ids))} studies occur twice", hint="ids must be unique")
