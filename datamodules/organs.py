"""Targets without references: a sentence is taught to lie where the organ lies that it speaks of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.records import Interval, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.rows import read_table
from datamodules.sources.snippets import intervals_of
from medvl.errors import ConfigError, DataError

Extents = dict[str, tuple[Interval, ...]]


@dataclass(frozen=True)
class OrganExtents:
    """Weak intervals for reports that cite no image, in training and validation; tests keep what is known.

    A sentence that the scan bears out gets the intervals of its organ, weighted as the table says, in place of its own,
    whatever they are; one of an unknown organ, or that the scan does not bear out, which nobody would have told, is
    left out. So "not in this scan" is learnt from patients who are `known` alone.

    Args:
        path: JSON lines with `study_id` and `organs`, `{"liver": [low, high]}` or `[[low, high, weight], ...]` in mm,
            as from the masks of a segmentation; a twin's `twin_factors.jsonl` is one. None knows no organ.
        known: Share of the patients whose own intervals are kept.
        seed: Which patients they are.

    Raises:
        ConfigError: A share that cannot be.
    """

    path: str | None = None
    known: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.known <= 1:
            raise ConfigError(f"known is {self.known}", where="data.organs", hint="expected a share from 0 to 1")

    def applied(self, records: Iterable[VolumeRecord]) -> list[VolumeRecord]:
        """Return the records as somebody knows them who has no references.

        Raises:
            DataError: The table cannot be read, or speaks of none of these studies' organs.
        """
        table = read_extents(Path(self.path).expanduser()) if self.path else {}
        made = [one if self._keeps(one) else _weak(one, table.get(one.study_id, {})) for one in records]
        if table and made and not any(one.snippets for one in made):
            hint = "expected study_id as in the data, and the organs that its snippets name"
            raise DataError("no sentence's organ is in this table", where=str(self.path), hint=hint)
        return made

    def _keeps(self, record: VolumeRecord) -> bool:
        drawn = hashlib.sha256(f"{self.seed}/{record.patient_id}".encode()).digest()[:8]
        return int.from_bytes(drawn) < self.known * 2**64


def read_extents(path: Path) -> dict[str, Extents]:
    """Return the intervals of each organ by study.

    Raises:
        DataError: The table, or one of its rows, cannot be read.
    """
    table, found = read_table(path), dict[str, Extents]()
    table.require("study_id", "organs")
    for row in table.rows:
        organs = row.cells.get("organs")
        parts = (
            {name: intervals_of(value) for name, value in organs.items()} if isinstance(organs, dict) else {"": None}
        )
        if row.fault or None in parts.values():
            raise DataError("organs cannot be read", where=row.where, hint='expected {"liver": [low, high]} in mm')
        found[cell(row.cells.get("study_id"))] = {name: part for name, part in parts.items() if part}
    return found


def _weak(record: VolumeRecord, organs: Extents) -> VolumeRecord:
    snippets: list[Snippet] = [
        replace(one, intervals=organs[one.organ]) for one in record.snippets if one.present and one.organ in organs
    ]
    return replace(record, snippets=tuple(snippets))
