"""Phrase grounding data: a source of phrase records in, packed batches out."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch import LightningDataModule

from datamodules.augment import GroundingAugment
from datamodules.batches import GroundingBatch
from datamodules.intake import Intake, OnError
from datamodules.leaks import Guard, refuse_held_out
from datamodules.loader import BatchLoader
from datamodules.packing import PackedBatchSampler, StridedBatchSampler
from datamodules.phrases import Blind, PhraseDataset
from datamodules.pixels import CacheKind, Pixels
from datamodules.records import SPLITS, PhraseRecord
from datamodules.sources.base import PhraseSource
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
            a row per image (as `images_to_avoid.csv` or the CSV of MS-CXR), or a list of them. What the source's own
            authors ask to keep apart is always guarded.
        guard_sources: The same, as sources.
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
        on_error: OnError = "raise",
        max_quarantine: float = 0.05,
        blind: Blind = "none",
        predict_split: Literal["train", "val", "test", "all"] = "test",
        seed: int = 0,
        guard: str | list[str] | None = None,  # with a source among its types the parser would read a table's content
        guard_sources: list[PhraseSource] | None = None,
    ) -> None:
        super().__init__()
        self.source, self.image_size = source, image_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.max_phrases_per_image, self.num_workers = max_phrases_per_image, num_workers
        self.augment, self.blind, self.predict_split, self.seed = augment, blind, predict_split, seed
        self.root, self.intake = source.root, Intake(source, on_error, max_quarantine)
        self._pixels = Pixels(self.root, image_size, window, cache, source.folders)
        tables = [guard] if isinstance(guard, str) else guard or ()
        self.guards: list[Guard] = [*source.guards, *tables, *(guard_sources or ())]
        self._guarded = False
        self._opened: set[str] = set()

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
            self._guarded = True
        for split in (self.predict_split,) if stage == "predict" else NEEDED[stage]:
            self._open(split)

    @property
    def max_boxes(self) -> int:
        """Most gold boxes of any sentence; a model with fewer queries cannot find them all."""
        return max((len(record.boxes) for record in self.intake.records("all")), default=0)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Pairs, images, patients and sentences by number of boxes, per split; and what was left out, by kind."""
        return self.intake.counts

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the results should know of the data: source, fingerprint, dealt splits, sizes."""
        return self.intake.facts

    def records(self, split: str) -> list[PhraseRecord]:
        """Return the usable pairs of `train`, `val`, `test` or `all`."""
        return self.intake.records(split)

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
                paths = dict.fromkeys(record.path for record in self.records(part))
                self.intake.drop_images(part, self._pixels.prepare(list(paths)))
        self.intake.need(split)
