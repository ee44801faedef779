"""What every source shares: how its rows become checked records, and what is told of the others."""

from __future__ import annotations

import hashlib
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic

from datamodules.records import AnyRecord, PhraseRecord, Problem, leaks, sift_records
from datamodules.sources.files import ImageFolder, resolve_inside
from datamodules.sources.patients import patient_key
from datamodules.sources.splits import SplitRule, settle_splits, split_rule, split_word
from medvl.errors import DataError


@dataclass(frozen=True)
class Loaded(Generic[AnyRecord]):
    """What a source found.

    Attributes:
        records: Every usable sentence or study, in the order in which the tables first name it.
        problems: What is wrong with each row that is no part of a record, and remarks (`fatal=False`), in any order.
        fingerprint: Hash of the tables read and of size and time of the images.
    """

    records: list[AnyRecord]
    problems: list[Problem]
    fingerprint: str


class Source(ABC, Generic[AnyRecord]):
    """A dataset on disk, in its own layout, read as records.

    Attributes:
        name: What its records call it.
        given: What the user named: the dataset's folder, or a table file.
        root: The folder that record paths are relative to.
        cohort: Whose patients they are: data sets of one cohort name the same people; '' where nobody knows.

    Args:
        split: `auto` takes the dataset's own splits and deals patients where training lacks one (`settle_splits`);
            `column` takes its own only; `deal` deals all patients anew; a split's name puts everything there.
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.

    Raises:
        ConfigError: `split` is none of these.
    """

    name: str
    given: Path
    cohort: str = ""

    def __init__(
        self, *, split: SplitRule = "auto", quarantine: str | Path | None = None, follow_links: bool = False
    ) -> None:
        self.split, self.quarantine, self.follow_links = split_rule(split), quarantine, follow_links

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that record paths are relative to."""

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of images, by what paths in them begin with."""
        return {"": self.root}

    @abstractmethod
    def candidates(self) -> Iterator[AnyRecord | Problem]:
        """Yield what every row of the tables became: part of a record (not yet checked), or a problem.

        Records come in the order in which the tables first name them, with `own_split` for their split.
        """

    @abstractmethod
    def tables(self) -> list[Path]:
        """Return the table files that are read."""

    @abstractmethod
    def sift(self, candidates: Iterable[AnyRecord]) -> tuple[list[AnyRecord], list[Problem]]:
        """Part usable records from unusable ones."""

    @abstractmethod
    def tally(self, records: Sequence[AnyRecord]) -> dict[str, int]:
        """Count what training goes through."""

    @abstractmethod
    def inventory(self, records: Sequence[AnyRecord]) -> dict[str, int]:
        """Count what there is, for a check."""

    @cached_property
    def images(self) -> ImageFolder:
        """The images below `root`."""
        return ImageFolder(self.root, self.follow_links)

    def own_split(self, word: object) -> str:
        """Return the split that a row names, in our words; '' where it names none or need not be asked."""
        return split_word(word) if self.split in ("auto", "column") else ""

    @property
    def guards(self) -> list[Path]:
        """Tables of patients whom this source's own authors ask never to train on; see `datamodules.leaks`."""
        return []

    def how_to_leave_out(self, guard: str) -> str:
        """Return how a user leaves out the patients of a guard."""
        return "leave their rows out with --data.source.quarantine FILE"

    def part_of(self, record: AnyRecord) -> Source[AnyRecord]:
        """Return the source that a record was read from: this one, unless several are joined."""
        return self

    def patient_of(self, record: AnyRecord) -> tuple[str, str]:
        """Return cohort and patient (as `patient_key`) of a record."""
        return self.cohort, patient_key(record.patient_id)

    def path_of(self, record: AnyRecord) -> Path:
        """Return the (first) image file of a record."""
        return resolve_inside(self.root, record.paths[0], self.follow_links)

    def spared(self, record: AnyRecord, lost: Collection[str]) -> AnyRecord | None:
        """Return what is left of a record without the images at `lost`, or None."""
        return record.without(lost)

    def read(self) -> Loaded[AnyRecord]:
        """Read the tables and look up the images; tells every problem, and raises only when nothing can be read."""
        candidates: list[AnyRecord] = []
        problems: list[Problem] = []
        for item in settle_splits(self.candidates(), self.split, self.tables()[-1].name):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            faults = {path: fault for path in item.paths if (fault := self.images.fault(path))}
            left = self.spared(item, faults)
            for path, (code, message) in faults.items():
                problems.append(Problem(code, item.row, message, fatal=left is None, path=path))
            candidates += [] if left is None else [left]
        records, found = self.sift(candidates)
        problems += self._nameless(records)
        return self._without_quarantined(Loaded(records, problems + found, self._fingerprint()))

    def _nameless(self, records: Sequence[AnyRecord]) -> list[Problem]:
        """Remark how many records name no patient, so that one patient's may come to lie in several splits."""
        nameless = [record for record in records if record.anonymous]
        if not nameless:
            return []
        message = f"{len(nameless)} of {len(records)} records name no patient: their study or image stands for one"
        return [Problem("patient-unnamed", self.tables()[-1].name, message, fatal=False)]

    @property
    def check_command(self) -> str:
        """The command that tells everything wrong with the dataset."""
        return f"medvl data check {self.name} {shlex.quote(str(self.given))}"

    @property
    def leak_hint(self) -> str:
        """How to mend patients in two splits."""
        return "deal them anew with --data.source.split deal, or leave out rows with --data.source.quarantine"

    def load(self) -> Loaded[AnyRecord]:
        """Read the dataset for training.

        Raises:
            DataError: The tables cannot be read, no usable row is left, or a patient is in two splits.
        """
        loaded = self.read()
        if not loaded.records:
            count = Counter(problem.code for problem in loaded.problems)  # without a fatal one, the usual remark tells
            told = max(loaded.problems, key=lambda p: (p.fatal, p.fatal or count[p.code]), default=None)
            raise DataError(
                f"no usable row among {len(loaded.problems)}",
                where=str(self.tables()[0]),
                hint=f"the first: {told.message} [{told.code}]" if told else None,
            )
        leaked = leaks(loaded.records)
        if leaked:
            raise DataError(
                f"patients are in two splits ({len(leaked)} rows)",
                where=leaked[0].where,
                hint=self.leak_hint,
                command=f"{self.check_command} --output FILE",
            )
        return loaded

    def _without_quarantined(self, loaded: Loaded[AnyRecord]) -> Loaded[AnyRecord]:
        """Leave out the rows that the quarantine list names; what was wrong with them is settled."""
        if self.quarantine is None:
            return loaded
        from datamodules.check import read_quarantine  # check imports this module

        listed = read_quarantine(self.quarantine)
        whole = [record.without(listed.paths) for record in loaded.records if record.row not in listed.rows]
        kept = [record for record in whole if record is not None]
        open_problems = [p for p in loaded.problems if not (p.fatal and p.where in listed.rows)]
        rows = {r.row for r in loaded.records} | {p.where for p in loaded.problems if p.fatal}
        left = sorted(rows - {r.row for r in kept} - {p.where for p in open_problems if p.fatal})
        note = "left out, as the quarantine list says"
        return Loaded(
            kept, open_problems + [Problem("quarantined", row, note, fatal=False) for row in left], loaded.fingerprint
        )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for table in self.tables():
            digest.update(table.name.encode())
            try:
                with table.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:  # told by whoever read it
                digest.update(str(error.errno).encode())
        digest.update(self.images.stamp())
        return digest.hexdigest()


class PhraseSource(Source[PhraseRecord]):
    """A dataset of sentences with boxes; arguments as in `Source`."""

    def sift(self, candidates: Iterable[PhraseRecord]) -> tuple[list[PhraseRecord], list[Problem]]:
        """Part usable sentences from unusable ones (`sift_records`)."""
        return sift_records(candidates)

    def tally(self, records: Sequence[PhraseRecord]) -> dict[str, int]:
        """Count pairs, images, patients, and sentences by number of boxes."""
        boxes = [len(record.boxes) for record in records]
        return {
            "pairs": len(records),
            "images": len({record.path for record in records}),
            "patients": len({record.patient_id for record in records}),
            "zero": boxes.count(0),
            "single": boxes.count(1),
            "multi": len(boxes) - boxes.count(0) - boxes.count(1),
        }

    def inventory(self, records: Sequence[PhraseRecord]) -> dict[str, int]:
        """Count records, images, patients and boxes."""
        return {
            "records": len(records),
            "images": len({record.path for record in records}),
            "patients": len({record.patient_id for record in records}),
            "boxes": sum(len(record.boxes) for record in records),
            "with boxes": sum(bool(record.boxes) for record in records),
            "without boxes": sum(not record.boxes for record in records),
        }
