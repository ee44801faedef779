"""From phrase records to packed batches: images are read, framed and put together with their sentences."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.augment import LINEAR, GroundingAugment
from datamodules.batches import GroundingBatch
from datamodules.borrow import Lender
from datamodules.lost import SampleSet
from datamodules.packing import Chunk, Draw
from datamodules.pixels import Pixels
from datamodules.records import PhraseRecord
from medvl.geometry import AxisTransform
from medvl.sides import swap_sides

Blind = Literal["none", "image", "text"]


class View(NamedTuple):
    """One image as the network sees it, with its phrases.

    Attributes:
        image: Float `(1, S, S)` in [0, 1].
        valid: Bool `(S, S)`, False on padding.
        transform: From original pixels to the network input.
        phrases: The sentences.
        boxes: Per sentence `(n, 4)`, xyxy in [0, 1] of the network input.
        records: Per sentence where it came from.
        image_boxes: All boxes of the image, of sentences beyond this view too.
        share: Share of the image's sentences that is in this view.
    """

    image: Tensor
    valid: Tensor
    transform: AxisTransform
    phrases: list[str]
    boxes: list[Tensor]
    records: list[PhraseRecord]
    image_boxes: Tensor
    share: float

    def with_lent(self, phrases: list[str]) -> View:
        """Return the view with sentences of other studies beside its own; they have no box."""
        record = replace(self.records[0], boxes=(), extra_boxes=None, labels=(), abnormal=True)
        return self._replace(
            phrases=self.phrases + phrases,
            boxes=self.boxes + [torch.zeros(0, 4)] * len(phrases),
            records=self.records + [replace(record, phrase=phrase) for phrase in phrases],
        )


class PhraseDataset(SampleSet[View, GroundingBatch]):
    """Builds the batch of a `Draw`; a pair is a record, and pairs of one path share an image.

    Args:
        records: The pairs.
        pixels: Images by path.
        image_size: Side of the square network input.
        seed: Seed of augmentation and of the blind permutation, together with the epoch and the image.
        augment: Augmentation, in training.
        blind: `image` blanks the pixels; `text` permutes the phrases within each image. Whatever such a model reaches
            is reached without looking, or without reading.
    """

    def __init__(
        self,
        records: Sequence[PhraseRecord],
        pixels: Pixels,
        image_size: int,
        *,
        seed: int = 0,
        augment: GroundingAugment | None = None,
        blind: Blind = "none",
    ) -> None:
        self.records, self.pixels, self.image_size = list(records), pixels, image_size
        self.seed, self.augment, self.blind = seed, augment, blind
        self._lender = Lender(self.records)
        if augment is not None and augment.lent and not self._lender.pool:
            warnings.warn("no sentence has finding labels, so none is lent to other images", stacklevel=2)
        groups: dict[str, Chunk] = {}
        for pair, record in enumerate(self.records):
            groups.setdefault(record.path, []).append(pair)
        self.pairs_of_image = list(groups.values())
        self._image_of_pair = {pair: i for i, pairs in enumerate(self.pairs_of_image) for pair in pairs}
        self._gold = [_boxes([self.records[pair] for pair in pairs]) for pairs in self.pairs_of_image]

    def __len__(self) -> int:
        return len(self.records)

    def record(self, pair: int) -> PhraseRecord:
        """Return the sentence."""
        return self.records[pair]

    def sample(self, epoch: int, chunk: Chunk) -> View:
        """Return one image with the pairs in `chunk`, and with sentences lent by others where there are to be any."""
        return self._lent(epoch, chunk, self.view(epoch, chunk))

    def batch(self, draw: Draw, samples: list[View]) -> GroundingBatch:
        """Put images together."""
        counts = torch.tensor([len(view.phrases) for view in samples])
        return GroundingBatch(
            images=torch.stack([view.image for view in samples]),
            valid=torch.stack([view.valid for view in samples]),
            phrases=[phrase for view in samples for phrase in view.phrases],
            image_index=torch.arange(len(samples)).repeat_interleave(counts),
            boxes=[boxes for view in samples for boxes in view.boxes],
            image_boxes=[view.image_boxes for view in samples],
            share=torch.tensor([view.share for view in samples]),
            transforms=[view.transform for view in samples],
            records=[record for view in samples for record in view.records],
        )

    def view(self, epoch: int, chunk: Chunk) -> View:
        """Return one image with the pairs in `chunk`; the same (seed, epoch, image) gives the same view."""
        image_id = self._image_of_pair[chunk[0]]
        group, gold = self.pairs_of_image[image_id], self._gold[image_id]
        wording = self._wording(epoch, image_id)
        rng = np.random.default_rng([self.seed, epoch, image_id])
        grey, size = self.pixels(self.records[chunk[0]].path)
        target = (self.image_size, self.image_size)
        transform, mirrored, tone = AxisTransform.letterbox(size, target), False, LINEAR
        if self.augment is not None:
            # Framed for all sentences of the image, so that a view does not depend on how they were packed.
            transform, mirrored = self.augment.frame(rng, size, target, gold, wording)
            tone = self.augment.tone(rng)
        cached = AxisTransform.resize((grey.shape[0], grey.shape[1]), size).then(transform)
        image, valid = cached.warp(torch.from_numpy(tone[grey][None]))
        if self.augment is not None:
            image = self.augment.grain(rng, image, valid)
        counts = [len(self.records[pair].boxes) for pair in group]
        image_boxes = transform.boxes(gold).clamp_(0, 1)
        mapped = torch.split(image_boxes, counts)
        places = [group.index(pair) for pair in chunk]
        phrases = [wording[place] for place in places]
        return View(
            image=torch.zeros_like(image) if self.blind == "image" else image,
            valid=valid,
            transform=transform,
            phrases=[swap_sides(phrase) or phrase for phrase in phrases] if mirrored else phrases,
            boxes=[mapped[place] for place in places],
            records=[self.records[pair] for pair in chunk],
            image_boxes=image_boxes,
            share=len(chunk) / len(group),
        )

    def _lent(self, epoch: int, chunk: Chunk, view: View) -> View:
        if self.augment is None or not self.augment.lent:
            return view
        image_id = self._image_of_pair[chunk[0]]
        own = [self.records[pair] for pair in self.pairs_of_image[image_id]]
        rng = np.random.default_rng([self.seed, epoch, image_id, 2, chunk[0]])
        return view.with_lent(self._lender.lend(rng, own, int(self.augment.lent + rng.random())))

    def _wording(self, epoch: int, image_id: int) -> list[str]:
        phrases = [self.records[pair].phrase for pair in self.pairs_of_image[image_id]]
        if self.blind != "text":
            return phrases
        # A uniform permutation tells nothing about which gold boxes are meant; one without fixed points would.
        order = np.random.default_rng([self.seed, epoch, image_id, 1]).permutation(len(phrases))
        return [phrases[i] for i in order]


def _boxes(records: list[PhraseRecord]) -> Tensor:
    return torch.tensor([box for record in records for box in record.boxes], dtype=torch.float32).reshape(-1, 4)
