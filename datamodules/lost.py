"""Samples that cannot be read when their batch is made: left out, and told with the batch that lacks them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from torch.utils.data import Dataset

from datamodules.loader import Batch, BatchSet
from datamodules.packing import Chunk, Draw
from datamodules.records import PhraseRecord, Problem, ReportRecord, VolumeRecord
from medvl.errors import DataError

LOST = "sample-lost"
Sample = TypeVar("Sample")


class SampleSet(BatchSet[Batch], Generic[Sample, Batch]):
    """A dataset that reads the samples of a `Draw`, one for each chunk, and puts them together."""

    @abstractmethod
    def sample(self, epoch: int, chunk: Chunk) -> Sample:
        """Read what the pairs of one chunk are about.

        Raises:
            DataError: It cannot be read.
        """

    @abstractmethod
    def batch(self, draw: Draw, samples: list[Sample]) -> Batch:
        """Put samples together; `draw` has a chunk for each."""

    @abstractmethod
    def record(self, pair: int) -> PhraseRecord | ReportRecord | VolumeRecord:
        """Return the record that a pair was made of."""

    def __getitem__(self, draw: Draw) -> Batch:
        return self.batch(draw, [self.sample(draw.epoch, chunk) for chunk in draw.chunks])


class Sparing(Dataset[tuple[Batch | None, list[Problem]]], Generic[Sample, Batch]):
    """Makes batches of what can be read, and says what could not be: a fatal problem for each row.

    Where nothing of a batch is left, evaluation does without it. Training takes another sample in its place, the next
    one that can be read, for ranks would wait for a rank without a batch. Which one depends on the draw and on what is
    there to be read: not on workers, nor on how often a run was interrupted.

    Args:
        samples: The samples.
        stand_in: Whether a batch of which nothing is left gets another sample.
        most: So many rows may be lost in the search for one.
    """

    def __init__(self, samples: SampleSet[Sample, Batch], stand_in: bool, most: int) -> None:
        self.samples, self.stand_in, self.most = samples, stand_in, most

    def __getitem__(self, draw: Draw) -> tuple[Batch | None, list[Problem]]:
        lost: list[Problem] = []
        read = [self._read(draw.epoch, chunk, lost) for chunk in draw.chunks]
        found = [sample for sample in read if sample is not None]
        if lost and not found and self.stand_in:
            draw, found = self._another(draw, lost)
        elif lost:
            draw = draw.where([sample is not None for sample in read])
        return (self.samples.batch(draw, found) if found else None), lost

    def _another(self, draw: Draw, lost: list[Problem]) -> tuple[Draw, list[Sample]]:
        chunks = self.samples.pairs_of_image
        for offset in range(len(chunks)):
            chunk = chunks[(draw.chunks[0][0] + offset) % len(chunks)][:1]
            if (sample := self._read(draw.epoch, chunk, lost)) is not None:
                return Draw(draw.epoch, [chunk], None if draw.triplets is None else []), [sample]
            if len({problem.where for problem in lost}) > self.most:
                break
        return draw, []

    def _read(self, epoch: int, chunk: Chunk, lost: list[Problem]) -> Sample | None:
        try:
            return self.samples.sample(epoch, chunk)
        except DataError as error:
            for record in map(self.samples.record, chunk):
                place = error.where or ", ".join(record.paths)
                lost.append(Problem(LOST, record.row, f"{place}: {error.what}"))
            return None
