"""What every source of phrases shares: where its files may lie, how rows become records, what is told."""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from datamodules.records import PhraseRecord, Problem, leaks, sift_records
from medvl.errors import DataError

_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>"}


@dataclass(frozen=True)
class Loaded:
    """What a source found.

    Attributes:
        records: Every usable row, in the order of the source's table.
        problems: Every row that became no record, and every remark on one that did (`fatal=False`).
        fingerprint: Hash of the tables read and of size and time of the images.
    """

    records: list[PhraseRecord]
    problems: list[Problem]
    fingerprint: str


def resolve_inside(root: Path, path: str, follow_links: bool = False) -> Path:
    """Return the file that `path` names below `root`.

    Raises:
        DataError: `path` is empty, absolute, climbs with `..`, or leaves `root` through a symbolic link (unless
            `follow_links`).
    """
    parts = PurePosixPath(path.replace("\\", "/"))
    if not parts.parts or "\0" in path:
        raise DataError("no usable path is given", where=str(root), hint="expected a path relative to this folder")
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", path):
        raise DataError("a path leaves the dataset's folder", where=path, hint="expected one relative to it, no '..'")
    full = root / parts
    if not follow_links and not full.resolve().is_relative_to(root.resolve()):
        raise DataError(
            "a symbolic link leaves the dataset's folder", where=path, hint="set follow_links: true to allow it"
        )
    return full


def split_word(word: object) -> str:
    """Return `train`, `val` or `test` for any of the words in use; another word comes back as it is."""
    text = cell(word)
    return _SPLIT_WORDS.get(text.lower(), text)


def cell(value: object) -> str:
    """Return a table cell as text; empty for every way of writing nothing (None, NaN, `nan`, `null`, blanks)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text.lower() in _NOTHING else text


def number(value: object) -> float:
    """Return a cell as a number; NaN for what is none."""
    try:
        return float(cell(value) or "nan")
    except ValueError:
        return math.nan


def hashed_splits(patients: Iterable[str], val: float = 0.1, test: float = 0.2) -> dict[str, str]:
    """Deal patients to splits by the order of their SHA-256, so that no state and no seed is needed.

    The order is cut at the fractions (70/10/20 by default); with three patients or more no split is empty.
    """
    order = sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = len(order)
    tests = max(round(test * count), int(count > 1))
    vals = max(round(val * count), int(count > 2))
    return {name: "test" if i < tests else "val" if i < tests + vals else "train" for i, name in enumerate(order)}


class ImageFolder:
    """The images below one folder: whether they are there, and what identifies their content cheaply."""

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root, self.follow_links = root, follow_links
        self._faults: dict[str, tuple[str, str] | None] = {}
        self._stamps: dict[str, tuple[int, int]] = {}

    def fault(self, path: str) -> tuple[str, str] | None:
        """Return code and message of why an image cannot be used, or None; nothing is decoded."""
        if path not in self._faults:
            self._faults[path] = self._look(path)
        return self._faults[path]

    def _look(self, path: str) -> tuple[str, str] | None:
        try:
            found = resolve_inside(self.root, path, self.follow_links).stat()
        except DataError as error:
            return "path-outside", f"{error.what}: {path}" + (f" ({error.hint})" if error.hint else "")
        except (OSError, ValueError):
            return "image-missing", f"the image is not there: {path}"
        if not stat.S_ISREG(found.st_mode):
            return "image-missing", f"this is no file: {path}"
        if not found.st_size:
            return "image-empty", f"the file is empty: {path}"
        self._stamps[path] = found.st_size, found.st_mtime_ns
        return None

    def stamp(self) -> bytes:
        """Return path, size and time of every image that was found, in a fixed order."""
        return json.dumps(sorted(self._stamps.items())).encode()


class PhraseSource(ABC):
    """A dataset on disk, in its own layout, read as phrase records.

    Attributes:
        name: What its records call it.
        root: The folder that record paths are relative to.
    """

    name: str

    def __init__(self, *, quarantine: str | Path | None = None, follow_links: bool = False) -> None:
        self.quarantine, self.follow_links = quarantine, follow_links

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that record paths are relative to."""

    @abstractmethod
    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield every row of the tables once, in order, as a record (not yet checked) or as a problem."""

    @abstractmethod
    def tables(self) -> list[Path]:
        """Return the table files that are read."""

    @cached_property
    def images(self) -> ImageFolder:
        """The images below `root`."""
        return ImageFolder(self.root, self.follow_links)

    def path_of(self, record: PhraseRecord) -> Path:
        """Return the image file of a record."""
        return resolve_inside(self.root, record.path, self.follow_links)

    def read(self) -> Loaded:
        """Read the tables and look up the images; tells every problem, and raises only when nothing can be read."""
        candidates, problems = [], []
        for item in self.candidates():
            fault = self.images.fault(item.path) if isinstance(item, PhraseRecord) and item.path else None
            if isinstance(item, Problem):
                problems.append(item)
            elif fault:
                problems.append(Problem(fault[0], item.row, fault[1], path=item.path))
            else:
                candidates.append(item)
        records, found = sift_records(candidates)
        return self._without_quarantined(Loaded(records, problems + found, self._fingerprint()))

    def load(self) -> Loaded:
        """Read the dataset for training.

        Raises:
            DataError: The tables cannot be read, no usable row is left, or a patient is in two splits.
        """
        loaded = self.read()
        if not loaded.records:
            first = next((p for p in loaded.problems if p.fatal), None)
            raise DataError(
                f"no usable row among {len(loaded.problems)}",
                where=str(self.tables()[0]),
                hint=f"the first: {first.message} [{first.code}]" if first else None,
            )
        leaked = leaks(loaded.records)
        if leaked:
            raise DataError(
                f"patients are in two splits ({len(leaked)} rows)",
                where=leaked[0].where,
                hint="every patient belongs to one split; or leave the rows out with --data.source.quarantine FILE",
                command=f"medvl data check {self.name} FOLDER --output FILE",
            )
        return loaded

    def _without_quarantined(self, loaded: Loaded) -> Loaded:
        """Leave out the rows that the quarantine list names; what was wrong with them is settled."""
        if self.quarantine is None:
            return loaded
        from datamodules.check import read_quarantine  # check imports this module

        listed = read_quarantine(self.quarantine)
        kept = [r for r in loaded.records if r.row not in listed.rows and r.path not in listed.paths]
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
            with table.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(self.images.stamp())
        return digest.hexdigest()


def with_splits(items: Iterable[PhraseRecord | Problem]) -> Iterator[PhraseRecord | Problem]:
    """Deal the patients of records to splits, for a dataset that comes without any."""
    kept = list(items)
    dealt = hashed_splits(item.patient_id for item in kept if isinstance(item, PhraseRecord))
    return (replace(i, split=dealt[i.patient_id]) if isinstance(i, PhraseRecord) else i for i in kept)


def box_tuple(values: object) -> tuple[float, float, float, float] | None:
    """Return four numbers as a box, or None when `values` is not four of anything."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    x1, y1, x2, y2 = map(number, values)
    return x1, y1, x2, y2
