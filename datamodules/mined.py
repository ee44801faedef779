"""What batches of studies may carry beside studies: their entities, and triplets to train on, of a table or mined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.intake import Intake
from datamodules.packing import Draw
from datamodules.records import ReportRecord, VolumeRecord
from datamodules.triplets import Remined, StudyEntities, Triplets, TripletSampler, TripletTable, read_triplets
from medvl.entities import EntityCodes, Spans
from medvl.errors import ConfigError, DataError

Codes = tuple[Any, Spans, tuple[float, float, float], bool]
"""A CSR matrix with a row per study, and what else `EntityCodes` has."""


class Mined:
    """The options of a datamodule of studies that name triplets and entities.

    Args:
        triplets: A Parquet table of `medvl ontology mine` to train on.
        entities: The entities of every study.
        remine_every: Mine triplets from `entities`, anew every so many epochs, in place of a table.
        several: What the datamodule makes of a study with several images or volumes.

    Raises:
        ConfigError: Options that exclude or lack each other.
    """

    def __init__(
        self, triplets: str | None, entities: StudyEntities | None, remine_every: int | None, several: str
    ) -> None:
        if triplets is not None and remine_every is not None:
            raise ConfigError("triplets come from a table or from mining", where="data.triplets, data.remine_every")
        if remine_every is not None and (entities is None or remine_every < 1):
            hint = "expected 1 epoch or more, and entities: {class_path: EntityFile, init_args: {path: FILE}}"
            raise ConfigError(f"remine_every is {remine_every}", where="data.remine_every", hint=hint)
        if several == "each" and (triplets is not None or remine_every is not None):
            hint = "expected draw or first"
            raise ConfigError("a triplet is of studies, not of images", where="data.several", hint=hint)
        self.table, self.entities, self.remine_every = triplets, entities, remine_every
        self._triplets: Triplets | None = None
        self._codes: dict[str, Codes] = {}

    def load(self, intake: Intake[ReportRecord] | Intake[VolumeRecord]) -> None:
        """Read the triplets, or mine the first ones; a second call does nothing.

        Raises:
            DataError: Triplets or entities do not belong to the data.
        """
        if self._triplets is not None:
            return
        if self.table is not None:
            lenient = intake.on_error == "quarantine"
            self._triplets = read_triplets(self.table, intake.records("all"), lenient, intake.max_quarantine)
        elif self.entities is not None and self.remine_every is not None:
            self._triplets = Remined(self.entities.miner(intake.records("train")), self.remine_every)
            self._triplets(0)

    @property
    def facts(self) -> dict[str, str]:
        """Where the triplets come from, for a reader of the results."""
        if isinstance(self._triplets, TripletTable):
            left = f"{self._triplets.elsewhere:,} of other splits, {self._triplets.unknown:,} of unknown studies"
            return {"triplets": f"{len(self._triplets.rows):,} of a table; passed over: {left}"}
        if isinstance(self._triplets, Remined):
            return {"triplets": f"{self._triplets.first:,} at first, mined every {self.remine_every} epochs"}
        return {}

    def codes(self, split: str, records: Sequence[ReportRecord | VolumeRecord]) -> Codes | None:
        """Return the entities of a split's studies; None where none are named."""
        if self.entities is not None and split not in self._codes:
            self._codes[split] = self.entities.codes(records)
        return self._codes.get(split)

    def sampler(
        self, batch_size: int, place: tuple[int, int], seed: int, fixed: bool, root: Path
    ) -> TripletSampler | None:
        """Return what draws a rank's batches of triplets; None where there are none to train on.

        Args:
            batch_size: Triplets per rank and step.
            place: How many ranks there are, and which this one is.
            seed: Of the order.
            fixed: Whether every epoch is like the first.
            root: The data set, for errors.

        Raises:
            DataError: Fewer triplets than ranks.
        """
        if self._triplets is None:
            return None
        (world, rank), found = place, len(self._triplets(0))
        if found < world:
            raise DataError(f"{found} triplets cannot feed {world} ranks", where=str(root))
        return TripletSampler(self._triplets, batch_size, world=world, rank=rank, seed=seed, fixed=fixed)


def entities_of(codes: Codes | None, studies: Sequence[int]) -> EntityCodes | None:
    """Return the entities of some studies, by their places among those that were encoded."""
    if codes is None:
        return None
    matrix, spans, gamma, symmetric = codes
    return EntityCodes(torch.from_numpy(matrix[list(studies)].toarray()), spans, gamma, symmetric)


def triplets_of(draw: Draw) -> Tensor | None:
    """Return the triplets of a draw, long `(T, 3)`; None where it is of pairs."""
    return None if draw.triplets is None else torch.tensor(draw.triplets, dtype=torch.long).reshape(-1, 3)
