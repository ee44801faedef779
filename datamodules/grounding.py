"""Phrase grounding data: a source of phrase records in, packed batches out."""

from __future__ import annotations

from typing import Literal

from datamodules.augment import GroundingAugment
from datamodules.batches import GroundingBatch
from datamodules.intake import OnError
from datamodules.phrases import Blind, PhraseDataset
from datamodules.pixels import CacheKind, Pixels
from datamodules.records import PhraseRecord
from datamodules.shared import SourceData
from datamodules.sources.base import PhraseSource


class GroundingData(SourceData[PhraseRecord, GroundingBatch]):
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
            them and warns, also those that can be read no more when their batch is made, as every damaged file is that
            `cache: none` has not looked at. A patient in two splits always raises.
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
        pixels = Pixels(source.root, image_size, window, cache, source.folders)
        super().__init__(
            source,
            pixels=pixels,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            on_error=on_error,
            max_quarantine=max_quarantine,
            predict_split=predict_split,
            seed=seed,
            guard=[*([guard] if isinstance(guard, str) else guard or ()), *(guard_sources or ())],
        )
        self.image_size, self._pixels = image_size, pixels
        self.limit, self.augment, self.blind = max_phrases_per_image, augment, blind

    def crowded(self, queries: int) -> int:
        """Return how many sentences have more gold boxes than `queries`: a model with so few cannot find them all."""
        return sum(len(record.boxes) > queries for record in self.records("all"))

    def dataset(self, split: str) -> PhraseDataset:
        """Return the pairs of a split as a dataset; only that of `train` is augmented."""
        self.open(split)
        return self.make_dataset(split, train=split == "train")

    def make_dataset(self, split: str, train: bool) -> PhraseDataset:
        """Return the pairs of an opened split as a dataset, augmented where it is to train on."""
        return PhraseDataset(
            self.records(split),
            self._pixels,
            self.image_size,
            seed=self.seed,
            augment=self.augment if train else None,
            blind=self.blind,
        )
