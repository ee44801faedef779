"""What the datamodules share: a source of records in, batches out, and everything between that no record type needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, Protocol

from lightning.pytorch import LightningDataModule
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.intake import Intake, OnError
from datamodules.leaks import Guard, name_of, refuse_held_out
from datamodules.loader import Batch, BatchLoader, BatchSet
from datamodules.lost import SampleSet, Sparing
from datamodules.packing import Draws, PackedBatchSampler, StridedBatchSampler
from datamodules.records import SPLITS, AnyRecord
from datamodules.sources.base import Source
from datamodules.sources.patients import UNGUARDED
from medvl.distributed import gather_objects
from medvl.errors import DataError

NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
PredictSplit = Literal["train", "val", "test", "all"]


class Preparable(Protocol):
    """Where images or volumes come from."""

    def prepare(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Make what lies at `paths` ready to be read; return what cannot be read, with the reason."""


class SourceData(LightningDataModule, ABC, Generic[AnyRecord, Batch]):
    """Records of a source as batches; see the datamodules for the arguments.

    Attributes:
        limit: At most this many pairs of an image in one pass, in training.
    """

    limit: int | None = None

    def __init__(
        self,
        source: Source[AnyRecord],
        *,
        pixels: Preparable,
        batch_size: int,
        eval_batch_size: int | None,
        num_workers: int,
        on_error: OnError,
        max_quarantine: float,
        predict_split: PredictSplit,
        seed: int,
        guard: Sequence[Guard],
    ) -> None:
        super().__init__()
        self.source: Source[AnyRecord] = source
        self.num_workers = num_workers
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.predict_split, self.seed = predict_split, seed
        self.root = source.root
        self.intake: Intake[AnyRecord] = Intake(source, on_error, max_quarantine)
        self._prepare = pixels.prepare
        self.guards: list[Guard] = [*source.guards, *guard]
        self._guarded = False
        self._opened: set[str] = set()

    @abstractmethod
    def make_dataset(self, split: str, train: bool) -> SampleSet[Any, Batch]:
        """Return the records of an opened split as a dataset, augmented where it is to train on."""

    def prepare_data(self) -> None:
        """Fill the cache once per machine, before the other ranks look for it."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Load the records and open the images of the splits that `stage` needs.

        Raises:
            DataError: Rows or images cannot be used (see `on_error`), a needed split is empty, or a patient of the
                training set is held out by a guard.
        """
        self.intake.load()
        if stage == "fit" and not self._guarded:
            refuse_held_out(self.source, self.records("all"), self.guards)
            self._warn_unguarded()
            self._guarded = True
        for split in (self.predict_split,) if stage == "predict" else NEEDED[stage]:
            self.open(split)

    def _warn_unguarded(self) -> None:
        """Say which lists of patients to keep apart a source misses, unless a guard is named like them."""
        named = {Path(name_of(guard)).name for guard in self.guards}
        for remark in self.intake.told(UNGUARDED):
            if remark.where not in named:
                rank_zero_warn(remark.message)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What there is per split, and what was left out, by kind."""
        return self.intake.counts

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the results should know of the data: source, fingerprint, dealt splits, sizes."""
        return self.intake.facts

    def records(self, split: str) -> list[AnyRecord]:
        """Return the usable records of `train`, `val`, `test` or `all`."""
        return self.intake.records(split)

    def open(self, split: str) -> None:
        """Cache the images of a split, and treat those that cannot be read."""
        for part in SPLITS if split == "all" else (split,):
            if part not in self._opened:
                self._opened.add(part)
                paths = dict.fromkeys(path for record in self.records(part) for path in record.paths)
                self.intake.drop_images(part, self._prepare(list(paths)))
        self.intake.need(split)

    def train_dataloader(self) -> BatchLoader[Batch]:
        """Return shuffled, augmented batches of `train`."""
        self.open("train")
        dataset = self.make_dataset("train", train=True)
        return self._loader("train", dataset, self.train_sampler(dataset), train=True)

    def train_sampler(self, dataset: BatchSet[Batch]) -> PackedBatchSampler:
        """Return what draws this rank's training batches."""
        world, rank = self.place()
        pairs = sum(map(len, dataset.pairs_of_image))
        if pairs < world:
            raise DataError(f"{pairs} training pairs cannot feed {world} ranks", where=str(self.root))
        return PackedBatchSampler(
            dataset.pairs_of_image,
            self.batch_size,
            world=world,
            rank=rank,
            seed=self.seed,
            limit=self.limit,
            fixed=self.overfits,
            work=dataset.work() if world > 1 else None,
        )

    @property
    def overfits(self) -> bool:
        """Whether the trainer is to see the same few batches in every epoch."""
        return bool(getattr(self.trainer, "overfit_batches", 0))

    def val_dataloader(self) -> BatchLoader[Batch]:
        """Return everything of `val` once."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> BatchLoader[Batch]:
        """Return everything of `test` once."""
        return self.eval_dataloader("test")

    def predict_dataloader(self) -> BatchLoader[Batch]:
        """Return everything of `predict_split` once."""
        return self.eval_dataloader(self.predict_split)

    def eval_dataloader(self, split: str) -> BatchLoader[Batch]:
        """Return everything of a split once, unaugmented, in the order of the tables."""
        self.open(split)
        dataset = self.make_dataset(split, train=False)
        world, rank = self.place()
        if len(dataset.pairs_of_image) < world:  # Lightning ends the loop of a rank without data, the others would wait
            raise DataError(f"{len(dataset.pairs_of_image)} images of split {split!r} cannot feed {world} ranks")
        pairs, size = dataset.pairs_of_image, self.eval_batch_size
        try:
            sampler = StridedBatchSampler(pairs, size, world=world, rank=rank, even=self.sharded)
        except ValueError as error:
            what = f"{world} ranks cannot be given equally many batches of split {split!r}"
            raise DataError(what, hint="a larger --data.eval_batch_size makes fewer of them") from error
        return self._loader(split, dataset, sampler, train=False)

    def _loader(self, split: str, dataset: SampleSet[Any, Batch], sampler: Draws, train: bool) -> BatchLoader[Batch]:
        """Return a loader that goes on, under `quarantine`, without what can be read no more."""
        if self.intake.on_error == "raise":
            return BatchLoader(dataset, sampler, self.num_workers)
        most = int(self.intake.max_quarantine * self.intake.rows(split))
        sparing: Sparing[Any, Batch] = Sparing(dataset, stand_in=train, most=most)
        return BatchLoader(sparing, sampler, self.num_workers, partial(self.intake.lose, split))

    def settle(self) -> dict[str, int]:
        """Let all ranks, each of which must call it, know what any of them has lost; return how much, per split.

        Raises:
            DataError: Together they have lost more than `max_quarantine` allows.
        """
        own = [(split, list(rows.values())) for split, rows in self.intake.lost.items()]
        for split, problems in gather_objects(own):
            self.intake.lose(split, problems, told=True)
        return {split: len(rows) for split, rows in self.intake.lost.items()}

    @property
    def sharded(self) -> bool:
        """Whether ranks hold shares of the model, and so wait for each other in every batch of evaluation, too."""
        return self.trainer is not None and isinstance(self.trainer.strategy, FSDPStrategy)

    def place(self) -> tuple[int, int]:
        """Return how many ranks there are, and which this one is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
