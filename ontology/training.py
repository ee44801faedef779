"""Entities for training: rows of zeros and ones for a batch's scores, and triplets mined anew between epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from medvl.errors import ConfigError, DataError, nearest
from ontology.lexicon import load
from ontology.mining import Miner, Settings
from ontology.similarity import Ints, Profile
from ontology.studies import Studies, read_studies

_NORMAL = ("no finding", "normal")


class Study(Protocol):
    """What of a study is asked for."""

    @property
    def study_id(self) -> str:
        """Its name."""

    @property
    def patient_id(self) -> str:
        """Its patient's name."""

    @property
    def text(self) -> str:
        """Its report; '' where there is none."""

    @property
    def labels(self) -> Mapping[str, int]:
        """1 present, 0 absent, -1 uncertain."""

    @property
    def row(self) -> str:
        """Where it was read."""


class Codes(NamedTuple):
    """Studies as rows of zeros and ones.

    Attributes:
        rows: uint8 CSR `(studies, columns)`: whether anything is known of the study, its diseases, and of each disease
            its adjectives, then its directions.
        spans: Of each disease the columns where its adjectives begin, its directions begin, and these end.
        gamma: Weights of the score.
        symmetric: Whether it is the mean of both ways round.
    """

    rows: Any
    spans: tuple[tuple[int, int, int], ...]
    gamma: tuple[float, float, float]
    symmetric: bool


class EntityFile:
    """The entities of studies, as `medvl ontology extract` or another extractor wrote them.

    A study without a text has no entities of its own: labels that say `present` stand in for them, without attributes,
    if `label_set` tells how they are called. Of a study whose labels affirm nothing, not even that there is no finding,
    nothing is known: it is in no triplet, and is like no other.

    Args:
        path: JSON lines; their ids are the studies' names (`medvl data reports` writes the input that gives these).
        label_set: `chexpert` (MIMIC-CXR, CheXpert), `nih`, `openi`, `padchest` or `vindr`.
        settings: How triplets are mined; scores have their `gamma` and `symmetric`.

    Raises:
        ConfigError: There is no such label set.
    """

    def __init__(self, path: str, label_set: str | None = None, settings: Settings | None = None) -> None:
        self.path, self.settings = Path(path).expanduser(), settings or Settings()
        self._diseases: dict[str, str] = {}
        if label_set is not None:
            canon = load("en").canon
            known = {name for sets in canon.diseases.values() for name in sets}
            if label_set not in known:
                raise ConfigError(f"unknown label_set {label_set!r}", hint=nearest(label_set, known))
            self._diseases = {label.casefold(): name for label, name in canon.labels(label_set).items()}

    def codes(self, records: Sequence[Study]) -> Codes:
        """Encode studies, all alike, whichever are asked for.

        Raises:
            DataError: As `profiles`.
        """
        diseases, numbers, spans = self._columns
        lists = []
        for one in self.profiles(records):
            found = [] if one is None else [0]
            for disease, terms in (one or {}).items():
                found.append(diseases[disease])
                found += [numbers[disease, kind, term] for kind in (0, 1) for term in terms[kind]]
            lists.append(sorted(found))
        ends = list(accumulate(map(len, lists), initial=0))
        columns = np.array([column for one in lists for column in one], dtype=np.int64)
        shape = (len(lists), spans[-1][-1] if spans else 1)
        rows = sparse.csr_array((np.ones(len(columns), np.uint8), columns, ends), shape=shape)
        return Codes(rows, spans, self.settings.gamma, self.settings.symmetric)

    def miner(self, records: Sequence[Study]) -> Callable[[int], Ints]:
        """Return what mines triplets of these studies, `(T, 3)` places among them: exactly, anew for each number.

        The same number gives the same triplets, on whatever machine, as `medvl ontology mine --epoch` does.

        Raises:
            DataError: As `profiles`.
        """
        profiles = self.profiles(records)
        known = np.array([place for place, one in enumerate(profiles) if one is not None], dtype=np.int64)
        patients = [records[place].patient_id for place in known]
        kept = [one for one in profiles if one is not None]
        miner = Miner(Studies.of(range(len(known)), kept, patients), self.settings) if len(known) else None

        def mine(number: int) -> Ints:
            if miner is None:
                return np.empty((0, 3), dtype=np.int64)
            found = miner.mine(number)
            return known[np.stack([found.anchor, found.positive, found.negative], axis=1)]

        return mine

    def profiles(self, records: Sequence[Study]) -> list[Profile | None]:
        """Return what counts of each study's entities; None where nothing is known.

        Raises:
            DataError: The file cannot be read, lacks studies that have a text, or no label is of the label set.
        """
        found = [self._known.get(r.study_id) if r.text else self._of_labels(r.labels) for r in records]
        lost = [r for r, one in zip(records, found, strict=True) if one is None and r.text]
        if lost:
            raise DataError(
                f"{len(lost)} of {len(records)} studies have a text, and no line among the entities",
                where=f"{self.path}; the first study at {lost[0].row}",
                hint="ids are the studies' names; write the reports anew, and extract",
                command="medvl data reports FORMAT FOLDER --output reports.jsonl",
            )
        self._check_labels([record for record in records if not record.text])
        return found

    def _of_labels(self, labels: Mapping[str, int]) -> Profile | None:
        present = [label.casefold() for label, value in labels.items() if value == 1]
        diseases = [self._diseases[label] for label in present if label in self._diseases]
        if not diseases and not (self._diseases and any(label in _NORMAL for label in present)):
            return None
        return {disease: (frozenset(), frozenset()) for disease in diseases}

    def _check_labels(self, textless: Sequence[Study]) -> None:
        named = {label.casefold() for record in textless for label in record.labels} - set(_NORMAL)
        if self._diseases and named and named.isdisjoint(self._diseases):
            hint = f"the data has, for instance, {min(named)!r}; the set {min(self._diseases)!r}"
            raise DataError("no label of the data is of this label_set", where=str(self.path), hint=hint)

    @cached_property
    def _known(self) -> dict[str, Profile]:
        studies = read_studies(self.path)
        return dict(zip(map(str, studies.ids), studies.profiles, strict=True))

    @cached_property
    def _columns(self) -> tuple[dict[str, int], dict[tuple[str, int, str], int], tuple[tuple[int, int, int], ...]]:
        """Number diseases, and the terms of each: those of all studies, so that ranks and splits number alike."""
        terms: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in self._diseases.values()}
        for one in self._known.values():
            for disease, given in one.items():
                for mine, theirs in zip(terms.setdefault(disease, (set(), set())), given, strict=True):
                    mine |= theirs
        diseases = {name: column for column, name in enumerate(sorted(terms), 1)}
        numbers: dict[tuple[str, int, str], int] = {}
        spans, column = [], 1 + len(diseases)
        for name in diseases:
            edges = [column]
            for kind in (0, 1):
                numbers |= {(name, kind, term): column + i for i, term in enumerate(sorted(terms[name][kind]))}
                column += len(terms[name][kind])
                edges.append(column)
            spans.append((edges[0], edges[1], edges[2]))
        return diseases, numbers, tuple(spans)
