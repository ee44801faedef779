"""Batches: what datamodules hand to tasks. They hold images and strings, so no datamodule knows a model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from datamodules.records import PhraseRecord, ReportRecord
from datamodules.volume_records import Snippet, VolumeRecord
from medvl.entities import EntityCodes
from medvl.geometry import AxisTransform


@dataclass
class GroundingBatch:
    """Images packed with their phrases: each image goes through the backbone once.

    Attributes:
        images: Float `(B, 1, H, W)` in [0, 1], letterboxed.
        valid: Bool `(B, H, W)`, False on letterbox padding.
        phrases: `P` sentences as the network reads them, P >= B.
        image_index: Long `(P,)`: which image each phrase speaks of.
        boxes: `P` tensors `(n_p, 4)`, xyxy in [0, 1] of the network input; n_p may be 0.
        image_boxes: `B` tensors `(n, 4)`, all gold boxes of each image in the same form, also those of sentences that
            are in another batch or on another rank.
        share: Float `(B,)`, the share of each image's sentences that is in this batch; an image-level loss weighted by
            it counts every image once, however its sentences were cut.
        transforms: `B` transforms from original pixels to the network input; `inverse()` maps predictions back.
        records: `P` records, one per phrase, with boxes in [0, 1] of the original image. Their own phrase is as loaded,
            also where that of the batch was mirrored, or permuted by a blind control; the record of a sentence lent by
            another study is made for this image, without boxes or labels.
    """

    images: Tensor
    valid: Tensor
    phrases: list[str]
    image_index: Tensor
    boxes: list[Tensor]
    image_boxes: list[Tensor]
    share: Tensor
    transforms: list[AxisTransform]
    records: list[PhraseRecord]

    def __len__(self) -> int:
        return len(self.phrases)

    def to(self, device: torch.device) -> GroundingBatch:
        """Return the batch with its tensors on `device`; transforms and records stay as they are."""
        return GroundingBatch(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})


@dataclass
class ReportBatch:
    """Studies: an image and a text of each. In a batch of triplets, every study that any of them needs is there once.

    Attributes:
        images: Float `(B, 1, H, W)` in [0, 1], letterboxed; zeros where a study has no image.
        valid: Bool `(B, H, W)`, False on letterbox padding, and all over where a study has no image.
        texts: `B` texts as the network reads them; '' where a study has none.
        labels: Float `(B, K)`: 1 present, 0 absent, -1 uncertain, NaN where the source says nothing.
        label_names: `K` names of the labels, the same in every batch.
        paths: `B` files of the images shown, relative to the source's root; '' where there is none.
        records: `B` records, as loaded.
        triplets: Long `(T, 3)`: rows of anchor, positive and negative; None in a batch of pairs.
        entities: What is known of the `B` studies' entities; None where the data names no entities.
    """

    images: Tensor
    valid: Tensor
    texts: list[str]
    labels: Tensor
    label_names: tuple[str, ...]
    paths: list[str]
    records: list[ReportRecord]
    triplets: Tensor | None = None
    entities: EntityCodes | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def has_image(self) -> Tensor:
        """Bool `(B,)`: which studies have an image."""
        return self.valid.flatten(1).any(1)

    @property
    def has_text(self) -> Tensor:
        """Bool `(B,)`: which studies have a text."""
        return torch.tensor([bool(text) for text in self.texts], dtype=torch.bool, device=self.valid.device)

    @property
    def study_ids(self) -> list[str]:
        """The studies' names."""
        return [record.study_id for record in self.records]

    def to(self, device: torch.device) -> ReportBatch:
        """Return the batch with its tensors on `device`."""
        return ReportBatch(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})


@dataclass
class VolumeBatch:
    """CT studies: a volume, a report, labels, and snippets with the depths that they speak of.

    Attributes:
        volumes: Float `(B, 1, D, H, W)` in [0, 1], towards head, front and right, padded at their ends.
        valid: Bool `(B, D, H, W)`, False on padding.
        first_mm: Float `(B,)`, depth of the middle of the first slice, mm along the patient towards the head.
        step_mm: Float `(B,)`, mm from slice to slice.
        slices: Long `(B,)`, slices that are no padding.
        texts: `B` reports; '' where a study has none.
        labels: Float `(B, K)`: 1 present, 0 absent, -1 uncertain, NaN where the source says nothing.
        label_names: `K` names of the labels, the same in every batch.
        snippets: `S` pieces of text.
        snippet_index: Long `(S,)`, ascending: which volume each speaks of.
        intervals: `S` tensors `(n, 3)`: start and end in mm, weight; n = 0 where the scan does not show it.
        paths: `B` volumes, relative to the source's root.
        records: `B` records, as loaded.
        targets: `S` snippets, as loaded; their words are not those of `snippets` under a blind control.
        triplets: As in `ReportBatch`; a part of a batch (`chunks`) has none.
        entities: The same.
    """

    volumes: Tensor
    valid: Tensor
    first_mm: Tensor
    step_mm: Tensor
    slices: Tensor
    texts: list[str]
    labels: Tensor
    label_names: tuple[str, ...]
    snippets: list[str]
    snippet_index: Tensor
    intervals: list[Tensor]
    paths: list[str]
    records: list[VolumeRecord]
    targets: list[Snippet]
    triplets: Tensor | None = None
    entities: EntityCodes | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def images(self) -> Tensor:
        """The volumes, for what reads images of any kind."""
        return self.volumes

    @property
    def has_image(self) -> Tensor:
        """Bool `(B,)`: all studies have a volume."""
        return self.valid.flatten(1).any(1)

    @property
    def has_text(self) -> Tensor:
        """Bool `(B,)`: which studies have a report."""
        return torch.tensor([bool(text.strip()) for text in self.texts], dtype=torch.bool, device=self.valid.device)

    @property
    def extent_mm(self) -> Tensor:
        """`(B, 2)`, mm along the patient from the lower edge of the first slice to the upper edge of the last."""
        low = self.first_mm - self.step_mm / 2
        return torch.stack([low, low + self.step_mm * self.slices], dim=1)

    def to(self, device: torch.device) -> VolumeBatch:
        """Return the batch with its tensors on `device`."""
        return VolumeBatch(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})

    def chunks(self, size: int) -> list[VolumeBatch]:
        """Part the studies, in their order, into batches of at most `size`, each with its own snippets."""
        starts = range(0, len(self), size)
        cuts = torch.searchsorted(self.snippet_index.cpu(), torch.tensor([*starts, len(self)])).tolist()
        return [
            self._part(slice(start, start + size), slice(*said))
            for start, said in zip(starts, pairwise(cuts), strict=True)
        ]

    def _part(self, rows: slice, said: slice) -> VolumeBatch:
        own = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in _NOT_OF_STUDIES}
        own |= {name: getattr(self, name)[said] for name in ("snippets", "intervals", "targets")}
        index = self.snippet_index[said] - rows.start
        return VolumeBatch(**own, label_names=self.label_names, snippet_index=index)


_NOT_OF_STUDIES = ("label_names", "snippets", "snippet_index", "intervals", "targets", "triplets", "entities")

StudyBatch = ReportBatch | VolumeBatch
"""Images of studies, films or volumes, with their texts."""


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [_moved(tensor, device) for tensor in value]
    if isinstance(value, EntityCodes):
        return value.to(device)
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
