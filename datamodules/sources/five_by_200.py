"""CheXpert 5x200: studies that show one of five findings and nothing else, as many of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.records import Problem, ReportRecord
from datamodules.sources.base import Loaded
from datamodules.sources.chexpert import CheXpert
from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.sources.patients import patient_key
from datamodules.sources.reporting import ReportSource
from medvl.metrics.class_lists import ClassList, draw_class_list


class CheXpert5x200(ReportSource):
    """A list drawn from CheXpert (after GLoRIA, doi 10.1109/ICCV48922.2021.00391), all of it `test`.

    The published list was drawn without a seed, so that there are several. This one depends on `seed` and the ids
    alone, has one study of a patient, frontal images only, and a hash that is told (`class-list`). It is drawn from
    CheXpert's training images: whoever trains on CheXpert names it as a guard (`guard_sources` of `ReportData`), or
    names here what was trained on.

    Args:
        root: CheXpert's folder.
        per_class: Studies of each finding.
        seed: Of the draw.
        trained_on: The source that a model was trained on: no patient of its training split is drawn.
    """

    name = "chexpert-5x200"
    cohort = CheXpert.cohort

    def __init__(
        self, root: str | Path, per_class: int = 200, seed: int = 0, trained_on: ReportSource | None = None
    ) -> None:
        super().__init__(unpaired=True)
        self.within = CheXpert(root, unpaired=True)
        self.given, self.per_class, self.seed, self.trained_on = self.within.given, per_class, seed, trained_on

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self.within.root

    def tables(self) -> list[Path]:
        """Return CheXpert's tables."""
        return self.within.tables()

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield the studies drawn, and what CheXpert's reader tells."""
        loaded = self.read()
        yield from loaded.records
        yield from loaded.problems

    def read(self) -> Loaded[ReportRecord]:
        """Read CheXpert, and draw.

        Raises:
            DataError: A finding has too few studies.
        """
        loaded = self.within.read()
        drawn = self.draw(loaded.records)
        chosen = {name for ids in drawn.ids.values() for name in ids}
        records = [replace(one, split="test", source=self.name) for one in loaded.records if one.study_id in chosen]
        pools = ", ".join(f"{name} {count:,}" for name, count in drawn.pools.items())
        message = f"{len(records)} studies drawn with seed {self.seed} of {pools}; sha256 {drawn.sha256[:16]}"
        note = Problem("class-list", self.tables()[-1].name, message, fatal=False)
        digest = hashlib.sha256(f"{loaded.fingerprint}{drawn.sha256}".encode()).hexdigest()
        return Loaded(records, [*loaded.problems, note], digest)

    def draw(self, records: Sequence[ReportRecord]) -> ClassList:
        """Return the list that is drawn from CheXpert's studies."""
        trained = [one for one in self.trained_on.read().records if one.split == "train"] if self.trained_on else []
        same = {patient_key(one.patient_id) for one in trained if one.source == self.within.name}
        return draw_class_list(
            [one.study_id for one in records],
            {name: [one.labels.get(name) for one in records] for name in CHEXPERT},
            per_class=self.per_class,
            seed=self.seed,
            eligible=[bool(one.images) for one in records],
            patients=[patient_key(one.patient_id) for one in records],
            trained_on=same,
        )
