"""Triplets of studies to train on: from a table that `medvl ontology mine` wrote, or mined anew every few epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from datamodules.packing import Chunk, Draw, PackedBatchSampler
from datamodules.records import ReportRecord, VolumeRecord
from medvl.entities import Spans
from medvl.errors import DataError

Ints = NDArray[np.int64]
Triplets = Callable[[int], Ints]
"""Gives the triplets of an epoch: `(T, 3)` anchor, positive and negative, as places among the training studies."""

COLUMNS = ("anchor", "positive", "negative")
_WRITER = "medvl ontology mine --entities FILE --output triplets.parquet"


class StudyEntities(ABC):
    """Knows the entities of studies; `EntityFile` is one that a config may name."""

    @abstractmethod
    def codes(
        self, records: Sequence[ReportRecord | VolumeRecord]
    ) -> tuple[Any, Spans, tuple[float, float, float], bool]:
        """Return a CSR matrix with a row per study, and what else `medvl.entities.EntityCodes` has."""

    @abstractmethod
    def miner(self, records: Sequence[ReportRecord | VolumeRecord]) -> Triplets:
        """Return what mines triplets of these studies for a number: each number ties anew, a number always alike."""


@dataclass(frozen=True)
class TripletTable:
    """Triplets that stay the same in every epoch.

    Attributes:
        rows: `(T, 3)` places among the training studies.
        elsewhere: How many rows of the table are of other splits.
        unknown: How many were left out, because they name a study that is not there.
    """

    rows: Ints
    elsewhere: int = 0
    unknown: int = 0

    def __call__(self, epoch: int) -> Ints:
        """Return the triplets."""
        return self.rows


class Remined:
    """Mines anew every few epochs.

    Every rank mines the same triplets for itself, from (seed, epoch // every): nothing is sent, no rank waits for
    another longer than its own mining takes, and a resumed run finds the triplets of its epoch again.

    Args:
        mine: Gives the triplets of a number.
        every: So many epochs share a number.

    Attributes:
        first: How many the first mining gave.
    """

    first = 0

    def __init__(self, mine: Triplets, every: int) -> None:
        self.mine, self.every = mine, every
        self._last: tuple[int, Ints] | None = None

    def __call__(self, epoch: int) -> Ints:
        """Return the triplets of an epoch.

        Raises:
            DataError: There are none.
        """
        number = epoch // self.every
        if self._last is None or self._last[0] != number:
            found = self.mine(number)
            if not len(found):
                hint = "a smaller tau_min, a larger tau_max, or fallback: below, in its settings"
                raise DataError("mining the training studies gives no triplet", where="data.entities", hint=hint)
            rank_zero_info(f"epoch {epoch}: {len(found):,} triplets mined")
            self.first = self.first or len(found)
            self._last = number, found
        return self._last[1]


class TripletSampler(PackedBatchSampler):
    """Training batches of triplets: each a draw of the studies that they need, every study once.

    Anchors are shuffled anew each epoch, and each is on one rank. Every epoch has as many batches as the first triplets
    give. If another mining gives more, other ones are left over each epoch; if it gives fewer, some come twice.

    Args:
        triplets: Gives those of an epoch.
        batch_size: Triplets per rank and step.
        world: Number of ranks.
        rank: This rank.
        seed: Seed of the order.
        fixed: Whether every epoch is like the first.
    """

    def __init__(
        self, triplets: Triplets, batch_size: int, *, world: int = 1, rank: int = 0, seed: int = 0, fixed: bool = False
    ) -> None:
        self.triplets = triplets
        places = [[place] for place in range(len(triplets(0)))]
        super().__init__(places, batch_size, world=world, rank=rank, seed=seed, fixed=fixed)
        self._fitted: tuple[int, Ints] = (-1, np.empty((0, 3), dtype=np.int64))

    def draw(self, epoch: int, chunks: list[Chunk]) -> Draw:
        """Return the studies of some places' triplets, and where among them each triplet's are."""
        own = self._table(epoch)[[place for (place,) in chunks]]
        studies, rows = np.unique(own, return_inverse=True)
        triplets: list[list[int]] = [row.tolist() for row in rows.reshape(own.shape)]
        return Draw(epoch, [[study] for study in studies.tolist()], triplets)

    def _table(self, epoch: int) -> Ints:
        """Return a triplet for each place."""
        if self._fitted[0] != epoch:
            found, places = self.triplets(epoch), len(self.pairs_of_image)
            if len(found) != places:
                order = np.random.default_rng([self.seed, epoch, 2]).permutation(len(found))
                found = found[np.resize(order, places)]
            self._fitted = epoch, found
        return self._fitted[1]


def read_triplets(
    path: str | Path, records: Sequence[ReportRecord | VolumeRecord], lenient: bool = False, most: float = 0.05
) -> TripletTable:
    """Read the triplets of the training studies.

    Args:
        path: Parquet with the columns anchor, positive and negative, names of studies.
        records: The usable studies of all splits.
        lenient: Leave out triplets with a study that is not there, and warn, in place of raising.
        most: Largest share of the rows that may be left out so.

    Raises:
        DataError: The file is no such table, has no triplet of training studies, or a row of it names an unknown study,
            one study twice, or studies of several splits; it names the file and the row.
    """
    names = _names(Path(path))
    training = [record.study_id for record in records if record.split == "train"]
    place = {name: i for i, name in enumerate(training)}
    split = {record.study_id: record.split for record in records}
    splits = np.array([[split.get(name, "") for name in column] for column in names]).T
    unknown = (splits == "").any(axis=1)
    share = float(unknown.mean())
    if unknown.any() and (not lenient or share > most):
        hint = "mine the studies that are trained on (medvl data reports writes them)"
        hint += f"; max_quarantine allows {most:.0%}" if lenient else ", or leave them out: --data.on_error quarantine"
        what = f"{unknown.sum():,} of {len(unknown):,} triplets name a study that is not in the data"
        raise DataError(what, where=_row(path, unknown), hint=hint)
    crossing = ~unknown & (splits != splits[:, :1]).any(axis=1)
    if crossing.any():
        hint = "give medvl ontology extract lines with their split, and mine again"
        what = f"{crossing.sum():,} triplets have studies of several splits"
        raise DataError(what, where=_row(path, crossing), hint=hint, command=_WRITER)
    twice = np.array([len(set(three)) < 3 for three in zip(*names, strict=True)])
    if twice.any():
        raise DataError("a triplet names one study twice", where=_row(path, twice), command=_WRITER)
    chosen = np.flatnonzero(~unknown & (splits[:, 0] == "train"))
    if not len(chosen):
        raise DataError(f"none of {len(unknown):,} triplets is of training studies", where=str(path), command=_WRITER)
    if unknown.any():
        rank_zero_warn(f"{unknown.sum():,} triplets are left out: their studies are not there; {_row(path, unknown)}")
    rows = np.array([[place[column[i]] for column in names] for i in chosen], dtype=np.int64)
    return TripletTable(rows, int((~unknown).sum() - len(chosen)), int(unknown.sum()))


def _names(path: Path) -> list[list[str]]:
    """Return the names of anchors, positives and negatives.

    Raises:
        DataError: The file cannot be read, lacks a column or has no row.
    """
    try:
        with pq.ParquetFile(path) as file:
            lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if lacking:
                there = ", ".join(map(repr, file.schema_arrow.names[:8]))
                raise DataError(f"no column {lacking[0]!r}", where=str(path), hint=f"it has {there}", command=_WRITER)
            table = file.read(columns=list(COLUMNS))
    except FileNotFoundError:
        raise DataError("no such table of triplets", where=str(path), command=_WRITER) from None
    except (OSError, pa.ArrowException):
        raise DataError("the table of triplets is no Parquet file", where=str(path), command=_WRITER) from None
    if not table.num_rows:
        raise DataError("the table of triplets is empty", where=str(path), command=_WRITER)
    return [list(map(str, table.column(name).to_pylist())) for name in COLUMNS]


def _row(path: str | Path, wrong: NDArray[np.bool_]) -> str:
    return f"{path}, row {int(np.flatnonzero(wrong)[0]) + 1}"
