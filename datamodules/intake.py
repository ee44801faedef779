"""What of a dataset is used: rows that cannot be are refused, or left out, counted and told."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, Literal, NoReturn

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.records import SPLITS, AnyRecord, Problem
from datamodules.sources.base import Loaded, Source
from datamodules.sources.splits import SPLIT_DEALT
from medvl.errors import DataError

OnError = Literal["raise", "quarantine"]
NAMED = 5  # rows of a split that are lost on the way and named; the others are counted


class Intake(Generic[AnyRecord]):
    """The usable records of a source.

    Args:
        source: The dataset on disk.
        on_error: `raise` when rows or images cannot be used, or `quarantine`: leave them out and warn.
        max_quarantine: Largest share of the rows that may be left out.

    Attributes:
        dropped: What was left out before there were batches.
        lost: What could be read no more when its batch was made, by split and row.
    """

    def __init__(self, source: Source[AnyRecord], on_error: OnError = "raise", max_quarantine: float = 0.05) -> None:
        self.source: Source[AnyRecord] = source
        self.on_error, self.max_quarantine = on_error, max_quarantine
        self.dropped: list[Problem] = []
        self.lost: dict[str, dict[str, Problem]] = {}
        self._loaded: Loaded[AnyRecord] | None = None
        self._broken: set[str] = set()
        self._rows: dict[str, int] = {}

    def load(self) -> None:
        """Read the source; a second call does nothing.

        Raises:
            DataError: The source cannot be read, a patient is in two splits, or rows cannot be used (see `on_error`).
        """
        if self._loaded is None:
            self._loaded = self.source.load()
            self._refuse_or_drop([problem for problem in self._loaded.problems if problem.fatal])
            if self.dealt and self.source.split == "auto":
                rank_zero_warn(f"{self.dealt}; --data.source.split says otherwise")

    def records(self, split: str) -> list[AnyRecord]:
        """Return the usable records of `train`, `val`, `test` or `all`."""
        found = (r.without(self._broken) for r in self._data.records if split in ("all", r.split))
        return [record for record in found if record is not None]

    def drop_images(self, split: str, unreadable: Mapping[str, str]) -> None:
        """Refuse or leave out the records of a split whose images, given with the reason, cannot be read.

        A study goes on with the images that are left to it.

        Raises:
            DataError: As `on_error` tells.
        """
        lost = [
            Problem("image-unreadable", r.row, f"{path}: {unreadable[path]}", r.without(unreadable) is None, path)
            for r in self.records(split)
            for path in r.paths
            if path in unreadable
        ]
        self._refuse_or_drop([problem for problem in lost if problem.fatal])
        spared = [problem for problem in lost if not problem.fatal]
        if spared:
            self.dropped += spared
            first = f"{spared[0].where}: {spared[0].message}"
            rank_zero_warn(f"{len(spared)} images cannot be read; their studies have others; first at {first}")
        self._broken |= set(unreadable)

    def rows(self, split: str) -> int:
        """Return of how many rows the records of a split, whose images were looked at, are made."""
        if split not in self._rows:
            self._rows[split] = len({record.row for record in self.records(split)})
        return self._rows[split]

    def lose(self, split: str, problems: Iterable[Problem], told: bool = False) -> None:
        """Count rows of a split that could be read no more when their batch was made; unless `told`, name the first.

        Raises:
            DataError: They are more than `max_quarantine` allows.
        """
        lost = self.lost.setdefault(split, {})
        new = {problem.where: problem for problem in problems if problem.where not in lost}
        for problem in [] if told else list(new.values())[: max(0, NAMED - len(lost))]:
            warnings.warn(f"left out of its batch: {problem.where}: {problem.message}", stacklevel=2)
        lost.update(new)
        if new and (share := len(lost) / self.rows(split)) > self.max_quarantine:
            self._too_many(share, list(lost.values()))

    def need(self, split: str) -> None:
        """Refuse to go on without a record in `split`."""
        if self.records(split):
            return
        sizes = ", ".join(f"{name} {len(self.records(name))}" for name in SPLITS)
        way_on = "--data.source.split auto makes a val, deal deals all patients anew"
        hint = "; ".join(filter(None, (self.dealt, way_on)))
        raise DataError(f"nothing usable in split {split!r} ({sizes})", where=str(self.source.given), hint=hint)

    def told(self, code: str) -> list[Problem]:
        """Return what the source found of one kind."""
        return [problem for problem in self._data.problems if problem.code == code]

    @property
    def dealt(self) -> str:
        """How patients were dealt to splits that the dataset does not have; '' where they were not."""
        return "; ".join(problem.message for problem in self.told(SPLIT_DEALT))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What there is (as the source's `tally`), per split; and what was left out, by kind."""
        found = {split: self.source.tally(self.records(split)) for split in SPLITS}
        codes = Counter(problem.code for problem in self.dropped)
        for rows in self.lost.values():
            codes.update(problem.code for problem in rows.values())
        return {**found, "dropped": dict(codes)}

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the results should know of the data: source, fingerprint, dealt splits, sizes."""
        told = {"source": self.source.name, "fingerprint": self._data.fingerprint}
        told |= {"splits": self.dealt} if self.dealt else {}
        for name, found in self.counts.items():
            told[name] = ", ".join(f"{count:,} {what}" for what, count in found.items()) or "none"
        return told

    @property
    def _data(self) -> Loaded[AnyRecord]:
        if self._loaded is None:
            raise RuntimeError("call load() first, or setup() of the datamodule")
        return self._loaded

    def _refuse_or_drop(self, problems: list[Problem]) -> None:
        """Raise, or leave the rows out and say so, as `on_error` tells."""
        if not problems:
            return
        kinds = _kinds(problems)
        where, command = f"{problems[0].where}: {problems[0].message}", self.source.check_command
        if self.on_error == "raise":
            hint = "mend them, or leave them out with --data.on_error quarantine"
            raise DataError(f"{len(problems)} rows cannot be used ({kinds})", where=where, hint=hint, command=command)
        self.dropped += problems
        rows = len({problem.where for problem in self.dropped if problem.fatal})  # a row may have several faults
        if (share := rows / (len(self._data.records) + rows)) > self.max_quarantine:
            self._too_many(share, problems)
        rank_zero_warn(f"{len(problems)} rows are left out ({kinds}); first at {where}; see: {command}")

    def _too_many(self, share: float, problems: list[Problem]) -> NoReturn:
        where, command = f"{problems[0].where}: {problems[0].message}", self.source.check_command
        what = f"{share:.0%} of the rows cannot be used ({_kinds(problems)})"
        hint = f"--data.max_quarantine allows {self.max_quarantine:.0%}"
        raise DataError(what, where=where, hint=hint, command=command)


def _kinds(problems: list[Problem]) -> str:
    return ", ".join(f"{count} {code}" for code, count in Counter(p.code for p in problems).most_common())
