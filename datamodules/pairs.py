"""From report records to batches: one image of each study is read and framed, and put beside its text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.augment import LINEAR, GroundingAugment
from datamodules.batches import ReportBatch
from datamodules.lost import SampleSet
from datamodules.mined import Codes, entities_of, triplets_of
from datamodules.packing import Chunk, Draw
from datamodules.phrases import Blind
from datamodules.pixels import Pixels
from datamodules.records import ReportRecord, Sections
from medvl.geometry import AxisTransform
from medvl.sides import swap_sides

Several = Literal["draw", "first", "each"]


class Shown(NamedTuple):
    """One image of a study as the network sees it, with its text.

    Attributes:
        image: Float `(1, S, S)` in [0, 1]; zeros where the study has none.
        valid: Bool `(S, S)`, False on padding, and all over where there is no image.
        text: The text.
        path: The image's file, or ''.
    """

    image: Tensor
    valid: Tensor
    text: str
    path: str


class ReportDataset(SampleSet[Shown, ReportBatch]):
    """Builds the batch of a `Draw` of pairs (a study and one of its images).

    Args:
        records: The studies.
        pixels: Images by path.
        image_size: Side of the square network input.
        label_names: The labels, in the order of the batch's columns.
        sections: Which text of a report is read (`ReportRecord.text_of`).
        several: What a study with several images is: `draw` one by (seed, epoch, study), the `first` one, or a pair for
            `each`.
        seed: Seed of augmentation, of the drawn image and of the blind permutation, together with the epoch.
        augment: Augmentation, in training.
        blind: `image` blanks the pixels; `text` gives the studies each other's texts. Whatever such a model reaches is
            reached without looking, or without reading.
        codes: The entities of the studies, a row for each.
    """

    def __init__(
        self,
        records: Sequence[ReportRecord],
        pixels: Pixels,
        image_size: int,
        *,
        label_names: Sequence[str] = (),
        sections: Sections = "both",
        several: Several = "draw",
        seed: int = 0,
        augment: GroundingAugment | None = None,
        blind: Blind = "none",
        codes: Codes | None = None,
    ) -> None:
        self.records, self.pixels, self.image_size = list(records), pixels, image_size
        self.label_names, self.sections, self.several = tuple(label_names), sections, several
        self.seed, self.augment, self.blind, self.codes = seed, augment, blind, codes
        counts = [max(len(record.images), 1) if several == "each" else 1 for record in self.records]
        self._pairs = [(study, image) for study, count in enumerate(counts) for image in range(count)]
        self.pairs_of_image: list[Chunk] = [[pair] for pair in range(len(self._pairs))]
        self._texts: tuple[int, list[str]] = (-1, [])

    def __len__(self) -> int:
        return len(self._pairs)

    def record(self, pair: int) -> ReportRecord:
        """Return the study."""
        return self.records[self._pairs[pair][0]]

    def sample(self, epoch: int, chunk: Chunk) -> Shown:
        """Return the image and the text of the pair in `chunk`."""
        study, image = self._pairs[chunk[0]]
        return self._view(epoch, study, image, self.texts(epoch)[study])

    def batch(self, draw: Draw, samples: list[Shown]) -> ReportBatch:
        """Put studies together."""
        studies = [self._pairs[pair][0] for (pair,) in draw.chunks]
        records = [self.records[study] for study in studies]
        return ReportBatch(
            images=torch.stack([one.image for one in samples]),
            valid=torch.stack([one.valid for one in samples]),
            texts=[one.text for one in samples],
            labels=torch.tensor(
                [[record.labels.get(name, math.nan) for name in self.label_names] for record in records],
                dtype=torch.float32,
            ).reshape(len(records), len(self.label_names)),
            label_names=self.label_names,
            paths=[one.path for one in samples],
            records=records,
            triplets=triplets_of(draw),
            entities=entities_of(self.codes, studies),
        )

    def texts(self, epoch: int) -> list[str]:
        """Return the text of every study in an epoch: its own, unless the control permutes them."""
        if self._texts[0] != epoch:
            texts = [record.text_of(self.sections) for record in self.records]
            if self.blind == "text":
                texts = [texts[i] for i in np.random.default_rng([self.seed, epoch, 1]).permutation(len(texts))]
            self._texts = epoch, texts
        return self._texts[1]

    def _view(self, epoch: int, study: int, number: int, text: str) -> Shown:
        """Return an image of a study; the same (seed, epoch, study, image) gives the same."""
        images, side = self.records[study].images, self.image_size
        if not images:
            return Shown(torch.zeros(1, side, side), torch.zeros(side, side, dtype=torch.bool), text, "")
        rng = np.random.default_rng([self.seed, epoch, study, number])
        path = images[int(rng.integers(len(images))) if self.several == "draw" else number]
        grey, size = self.pixels(path)
        transform, mirrored, tone = AxisTransform.letterbox(size, (side, side)), False, LINEAR
        if self.augment is not None:
            transform, mirrored = self.augment.frame(rng, size, (side, side), torch.zeros(0, 4), [text])
            tone = self.augment.tone(rng)
        cached = AxisTransform.resize((grey.shape[0], grey.shape[1]), size).then(transform)
        image, valid = cached.warp(torch.from_numpy(tone[grey][None]))
        if self.augment is not None:
            image = self.augment.grain(rng, image, valid)
        image = torch.zeros_like(image) if self.blind == "image" else image
        return Shown(image, valid, (swap_sides(text) or text) if mirrored else text, path)
