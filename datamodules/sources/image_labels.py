"""Boxed data sets as images with labels, for classification without texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from datamodules.records import PhraseRecord, Problem, ReportRecord, sift_reports
from datamodules.sources.base import Loaded, PhraseSource
from datamodules.sources.reporting import ReportSource


class ImageLabels(ReportSource):
    """The images of a boxed data set, each a study with labels and without a text.

    A finding whose phrase has a box is present, one whose phrase has none is absent: true of data sets that box
    whatever they name, as RSNA and VinDr-CXR do. Options, splits and guards are those of the source within.

    Args:
        source: The data set.
    """

    def __init__(self, source: PhraseSource) -> None:
        super().__init__(unpaired=True)
        self.source, self.given, self.name, self.cohort = source, source.given, source.name, source.cohort

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self.source.root

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of images, by what paths in them begin with."""
        return self.source.folders

    @property
    def guards(self) -> list[Path]:
        """The guards of the source within."""
        return self.source.guards

    def tables(self) -> list[Path]:
        """Return the tables of the source within."""
        return self.source.tables()

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield the images, and the problems of the source within."""
        loaded = self.read()
        yield from loaded.records
        yield from loaded.problems

    def read(self) -> Loaded[ReportRecord]:
        """Read the source within, and put what it says of an image together."""
        loaded = self.source.read()
        records, problems = sift_reports(_images(loaded.records), unpaired=True)
        return Loaded(records, loaded.problems + problems, loaded.fingerprint)


def _images(records: Iterable[PhraseRecord]) -> Iterator[ReportRecord]:
    found: dict[str, tuple[PhraseRecord, dict[str, int]]] = {}
    for record in records:
        _, labels = found.setdefault(record.path, (record, {}))
        seen = bool(record.boxes) or record.abnormal is False  # what calls an image normal needs no box
        for label in record.labels:
            labels[label] = max(labels.get(label, 0), int(seen))
    for record, labels in found.values():
        yield ReportRecord(
            images=(record.path,),
            patient_id=record.patient_id,
            study_id=record.image,
            split=record.split,
            source=record.source,
            labels=labels,
            attributes=record.attributes,
            row=record.row,
        )
