"""Several data sets read as one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import Loaded, PhraseSource
from datamodules.sources.patients import patient_key
from datamodules.sources.splits import SPLIT_DEALT
from medvl.errors import ConfigError


class JoinedSources(PhraseSource):
    """Several sources as one, each with its own options, splits and guards.

    Patients of one cohort are the same in all of them (MS-CXR and Chest ImaGenome are both cut from MIMIC-CXR), so who
    is in train here and in test there is a leak; those of different cohorts never are, whatever their ids. Paths are
    relative to the deepest folder that holds all images.

    Args:
        sources: The sources.

    Raises:
        ConfigError: There is none.
    """

    def __init__(self, sources: list[PhraseSource]) -> None:
        super().__init__()
        if not sources:
            raise ConfigError("no source is given", where="sources", hint="expected a list of sources")
        self.sources = sources
        self.given = _common([source.given for source in sources])
        self.name = "+".join(dict.fromkeys(source.name for source in sources))

    @cached_property
    def root(self) -> Path:
        """The deepest folder that holds all the images."""
        return _common([source.root for source in self.sources])

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of images, by what paths in them begin with."""
        return {self._path(source, "*")[:-1]: source.root for source in self.sources}

    def tables(self) -> list[Path]:
        """Return the tables of all sources."""
        return [table for source in self.sources for table in source.tables()]

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield the records and problems of all sources."""
        loaded = self.read()
        yield from loaded.records
        yield from loaded.problems

    def read(self) -> Loaded[PhraseRecord]:
        """Read every source."""
        parts = [(source, source.read()) for source in self.sources]
        digest = hashlib.sha256("".join(loaded.fingerprint for _, loaded in parts).encode()).hexdigest()
        records = [self._joined(source, record) for source, loaded in parts for record in loaded.records]
        problems = [self._told(source, problem) for source, loaded in parts for problem in loaded.problems]
        return Loaded(records, problems, digest)

    def _joined(self, source: PhraseSource, record: PhraseRecord) -> PhraseRecord:
        """Return a record with a path from the common folder, and a patient that no other cohort has."""
        patient = patient_key(record.patient_id) if source.cohort else record.patient_id
        return replace(record, path=self._path(source, record.path), patient_id=f"{source.cohort}/{patient}")

    def _told(self, source: PhraseSource, problem: Problem) -> Problem:
        message = f"{source.name}: {problem.message}" if problem.code == SPLIT_DEALT else problem.message
        return replace(problem, message=message, path=self._path(source, problem.path) if problem.path else "")

    def _path(self, source: PhraseSource, path: str) -> str:
        return (source.root.absolute().relative_to(self.root) / path).as_posix()

    @property
    def guards(self) -> list[Path]:
        """The guards of all sources."""
        return [guard for source in self.sources for guard in source.guards]

    def part_of(self, record: PhraseRecord) -> PhraseSource:
        """Return the source that a record was read from."""
        return next(source for source in self.sources if source.name == record.source)

    def patient_of(self, record: PhraseRecord) -> tuple[str, str]:
        """Return cohort and patient of a record."""
        cohort, _, patient = record.patient_id.partition("/")
        return cohort, patient_key(patient)

    def path_of(self, record: PhraseRecord) -> Path:
        """Return the image file of a record."""
        return self.root / record.path

    @property
    def check_command(self) -> str:
        """The commands that tell everything wrong with each data set."""
        return " && ".join(source.check_command for source in self.sources)

    @property
    def leak_hint(self) -> str:
        """How to mend patients in two splits."""
        return "set split: deal for the sources, or leave out rows of one with its quarantine"


def _common(folders: list[Path]) -> Path:
    return Path(os.path.commonpath([folder.absolute() for folder in folders]))
