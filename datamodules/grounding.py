"""Phrase grounding data: a source of phrase records in, packed batches out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.augment import GroundingAugment
from datamodules.batches import GroundingBatch
from datamodules.leaks import Guard, refuse_held_out
from datamodules.loader import BatchLoader
from datamodules.packing import PackedBatchSampler, StridedBatchSampler
from datamodules.phrases import Blind, PhraseDataset
from datamodules.pixels import CacheKind, Pixels
from datamodules.records import SPLITS, PhraseRecord, Problem
from datamodules.sources.base import Loaded, PhraseSource
from datamodules.sources.splits import SPLIT_DEALT
from datamodules.sources.table import PhraseTable
from medvl.errors import DataError

NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class GroundingData(LightningDataModule):
    """Images with phrases and boxes, in batches where an image comes once with all its sentences.

    Args:
        source: The dataset on disk.
        image_size: Side of the square, letterboxed network input, in pixels.
        batch_size: Image-phrase pairs per rank and step; the global batch has `batch_size * ranks` pairs.
        eval_batch_size: The same for evaluation; default `batch_size`.
        max_phrases_per_image: At most this many sentences of an image in one pass, in training; the others come as
            another pass of the same epoch.
        num_workers: Loader processes; 0 loads in the main one.
        augment: Augmentation of training images.
        window: Percentiles of the grey values that become black and white.
        cache: Where resized images are kept: on `disk` (in `$MEDVL_CACHE`, shared by runs), in `memory`, or nowhere.
        on_error: `raise` at the first look when rows or images cannot be used; `quarantine` leaves them out, counts
            them and warns. A patient in two splits always raises. With `cache: none` a damaged file is found only when
            it is read, and always raises.
        max_quarantine: Largest share of the rows that may be left out.
        blind: A control that must fail: `image` blanks the pixels, `text` permutes the phrases within each image.
        predict_split: The split that predict runs over.
        seed: Seed of order and augmentation.
        guard: What is evaluated on elsewhere, so that none of its val and test patients may be trained on: a table with
            a row per image (as `images_to_avoid.csv` or the CSV of MS-CXR), a source, or a list of them. What the
            source's own authors ask to keep apart is always guarded.
    """

    def __init__(
        self,
        source: PhraseSource,
        image_size: int = 640,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        max_phrases_per_image: int | None = None,
        num_workers: int = 0,
        augment: GroundingAugment | None = None,
        window: tuple[float, float] = (0.5, 99.5),
        cache: CacheKind = "disk",
        on_error: Literal["raise", "quarantine"] = "raise",
        max_quarantine: float = 0.05,
        blind: Blind = "none",
        predict_split: Literal["train", "val", "test", "all"] = "test",
        seed: int = 0,
        guard: str | PhraseSource | list[str | PhraseSource] | None = None,
    ) -> None:
        super().__init__()
        self.source, self.image_size = source, image_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.max_phrases_per_image, self.num_workers = max_phrases_per_image, num_workers
        self.augment, self.blind, self.predict_split, self.seed = augment, blind, predict_split, seed
        self.on_error, self.max_quarantine = on_error, max_quarantine
        self.root = source.root
        self.dropped: list[Problem] = []
        self._loaded: Loaded | None = None
        self._pixels = Pixels(self.root, image_size, window, cache)
        self.guards: list[Guard] = [*source.guards, *(guard if isinstance(guard, list) else [guard] if guard else [])]
        self._guarded = False
        self._opened: set[str] = set()
        self._broken: set[str] = set()

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
        if self._loaded is None:
            self._loaded = self.source.load()
            self._refuse_or_drop([problem for problem in self._loaded.problems if problem.fatal])
            if self.dealt and self.source.split == "auto":
                rank_zero_warn(f"{self.dealt}; --data.source.split says otherwise")
        if stage == "fit" and not self._guarded:
            refuse_held_out(self.source, self._data.records, self.guards)
            self._guarded = True
        for split in (self.predict_split,) if stage == "predict" else NEEDED[stage]:
            self._open(split)

    @property
    def fingerprint(self) -> str:
        """Hash of the data as found on disk."""
        return self._data.fingerprint

    @property
    def dealt(self) -> str:
        """How patients were dealt to splits that the dataset does not have; '' where they were not."""
        return next((p.message for p in self._data.problems if p.code == SPLIT_DEALT), "")

    @property
    def max_boxes(self) -> int:
        """Most gold boxes of any sentence; a model with fewer queries cannot find them all."""
        return max((len(record.boxes) for record in self._data.records), default=0)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Pairs, images, patients and sentences by number of boxes, per split; and what was left out, by kind."""
        found = {split: _count(self.records(split)) for split in SPLITS}
        return {**found, "dropped": dict(Counter(problem.code for problem in self.dropped))}

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the results should know of the data: source, fingerprint, dealt splits, sizes."""
        told = {"source": self.source.name, "fingerprint": self.fingerprint}
        told |= {"splits": self.dealt} if self.dealt else {}
        for name, found in self.counts.items():
            told[name] = ", ".join(f"{count:,} {what}" for what, count in found.items()) or "none"
        return told

    def records(self, split: str) -> list[PhraseRecord]:
        """Return the usable pairs of `train`, `val`, `test` or `all`."""
        return [r for r in self._data.records if split in ("all", r.split) and r.path not in self._broken]

    def dataset(self, split: str) -> PhraseDataset:
        """Return the pairs of a split as a dataset; only that of `train` is augmented."""
        self._open(split)
        return PhraseDataset(
            self.records(split),
            self._pixels,
            self.image_size,
            seed=self.seed,
            augment=self.augment if split == "train" else None,
            blind=self.blind,
        )

    def train_dataloader(self) -> BatchLoader[GroundingBatch]:
        """Return shuffled, packed, augmented batches of `train`."""
        dataset = self.dataset("train")
        world, rank = self._place()
        if len(dataset) < world:
            raise DataError(f"{len(dataset)} training pairs cannot feed {world} ranks", where=str(self.root))
        sampler = PackedBatchSampler(
            dataset.pairs_of_image,
            self.batch_size,
            world=world,
            rank=rank,
            seed=self.seed,
            limit=self.max_phrases_per_image,
            fixed=bool(getattr(self.trainer, "overfit_batches", 0)),
        )
        return BatchLoader(dataset, sampler, self.num_workers)

    def val_dataloader(self) -> BatchLoader[GroundingBatch]:
        """Return every pair of `val` once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> BatchLoader[GroundingBatch]:
        """Return every pair of `test` once."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> BatchLoader[GroundingBatch]:
        """Return every pair of `predict_split` once."""
        return self._eval_loader(self.predict_split)

    def transfer_batch_to_device(
        self, batch: GroundingBatch, device: torch.device, dataloader_idx: int
    ) -> GroundingBatch:
        """Move what the network reads; transforms and records stay as they are."""
        return replace(
            batch,
            images=batch.images.to(device, non_blocking=True),
            valid=batch.valid.to(device, non_blocking=True),
            image_index=batch.image_index.to(device, non_blocking=True),
            boxes=[boxes.to(device, non_blocking=True) for boxes in batch.boxes],
            image_boxes=[boxes.to(device, non_blocking=True) for boxes in batch.image_boxes],
            share=batch.share.to(device, non_blocking=True),
        )

    @property
    def _data(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("call setup() first")
        return self._loaded

    def _eval_loader(self, split: str) -> BatchLoader[GroundingBatch]:
        dataset = self.dataset(split)
        dataset.augment = None
        world, rank = self._place()
        if len(dataset.pairs_of_image) < world:  # Lightning ends the loop of a rank without data, the others would wait
            raise DataError(f"{len(dataset.pairs_of_image)} images of split {split!r} cannot feed {world} ranks")
        sampler = StridedBatchSampler(dataset.pairs_of_image, self.eval_batch_size, world=world, rank=rank)
        return BatchLoader(dataset, sampler, self.num_workers)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _open(self, split: str) -> None:
        """Cache the images of a split, and treat those that cannot be read."""
        for part in SPLITS if split == "all" else (split,):
            if part not in self._opened:
                self._opened.add(part)
                unreadable = self._pixels.prepare(list(dict.fromkeys(record.path for record in self.records(part))))
                rows = [record for record in self.records(part) if record.path in unreadable]
                self._refuse_or_drop([_unreadable(record, unreadable[record.path]) for record in rows])
                self._broken |= set(unreadable)
        self._need(split)

    def _need(self, split: str) -> None:
        if self.records(split):
            return
        sizes = ", ".join(f"{name} {len(self.records(name))}" for name in SPLITS)
        way_on = "--data.source.split auto makes a val, deal deals all patients anew"
        hint = "; ".join(filter(None, (self.dealt, way_on)))
        raise DataError(f"no usable pair in split {split!r} ({sizes})", where=str(self.root), hint=hint)

    def _refuse_or_drop(self, problems: list[Problem]) -> None:
        """Raise, or leave the rows out and say so, as `on_error` tells.

        Raises:
            DataError: `on_error` is `raise`, or too many rows would be left out.
        """
        if not problems:
            return
        kinds = ", ".join(f"{count} {code}" for code, count in Counter(p.code for p in problems).most_common())
        where = f"{problems[0].where}: {problems[0].message}"
        asked = self.source.table if isinstance(self.source, PhraseTable) else self.root
        command = f"medvl data check {self.source.name} {asked}"
        if self.on_error == "raise":
            hint = "mend them, or leave them out with --data.on_error quarantine"
            raise DataError(f"{len(problems)} rows cannot be used ({kinds})", where=where, hint=hint, command=command)
        self.dropped += problems
        rows = len({problem.where for problem in self.dropped})  # a row may have several faults
        share = rows / (len(self._data.records) + rows)
        if share > self.max_quarantine:
            hint = f"--data.max_quarantine allows {self.max_quarantine:.0%}"
            what = f"{share:.0%} of the rows cannot be used ({kinds})"
            raise DataError(what, where=where, hint=hint, command=command)
        rank_zero_warn(f"{len(problems)} rows are left out ({kinds}); first at {where}; see: {command}")


def _unreadable(record: PhraseRecord, reason: str) -> Problem:
    return Problem("image-unreadable", record.row, f"{record.path}: {reason}", path=record.path)


def _count(records: list[PhraseRecord]) -> dict[str, int]:
    boxes = [len(record.boxes) for record in records]
    return {
        "pairs": len(records),
        "images": len({record.path for record in records}),
        "patients": len({record.patient_id for record in records}),
        "zero": boxes.count(0),
        "single": boxes.count(1),
        "multi": len(boxes) - boxes.count(0) - boxes.count(1),
    }
