"""From volume records to batches: one volume of each study is read and put beside its report, labels and snippets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import VolumeBatch
from datamodules.features import FeatureGrids
from datamodules.lost import SampleSet
from datamodules.mined import Codes, entities_of, triplets_of
from datamodules.packing import Chunk, Draw
from datamodules.phrases import Blind
from datamodules.records import Sections, VolumeRecord
from datamodules.volume_records import Snippet
from datamodules.voxels import Scan, Voxels

Several = Literal["draw", "first", "each"]


@dataclass(frozen=True)
class ScanAugment:
    """Changes of the grey values of training volumes; nothing is mirrored, for words name sides and levels.

    They are small, for Hounsfield units name tissues: of a window of 2000 HU, 0.005 is 10 HU.

    Args:
        noise: Standard deviation of noise, in units of the window.
        shift: Largest shift of all values, likewise.
        scale: Largest relative change of contrast.
    """

    noise: float = 0.005
    shift: float = 0.005
    scale: float = 0.02

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Return another image in [0, 1]."""
        factor, shift = 1 + self.scale * rng.uniform(-1, 1), self.shift * rng.uniform(-1, 1)
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**63))))
        return noise.mul_(self.noise).add_(image, alpha=factor).add_(0.5 * (1 - factor) + shift).clamp_(0, 1)


@dataclass(frozen=True)
class Row:
    """One volume of a study, with what is said of it.

    Attributes:
        record: The study, as loaded.
        path: The volume.
        scan: What the network sees of it.
        text: The report.
        snippets: As loaded.
        said: Their words, which are others under a blind control.
    """

    record: VolumeRecord
    path: str
    scan: Scan
    text: str
    snippets: list[Snippet]
    said: list[str]


class ScanDataset(SampleSet[Row, VolumeBatch]):
    """Builds the batch of a `Draw` of studies.

    Args:
        records: The studies.
        voxels: Volumes by path, or their features.
        label_names: The labels, in the order of the batch's columns.
        sections: Which text of a report is read.
        several: Which of a study's volumes: `draw` one by (seed, epoch, study), the `first`, or a row for `each`.
        most_snippets: At most so many of a study's snippets, drawn by (seed, epoch, study); None takes all.
        seed: Seed of what is drawn and of augmentation, together with the epoch.
        augment: Augmentation, in training.
        blind: `image` leaves of a volume its depth alone, blank; `text` deals a study's snippets out anew among their
            depths, and reports among studies.
        codes: The entities of the studies, a row for each.
    """

    def __init__(
        self,
        records: Sequence[VolumeRecord],
        voxels: Voxels | FeatureGrids,
        *,
        label_names: Sequence[str] = (),
        sections: Sections = "both",
        several: Several = "draw",
        most_snippets: int | None = None,
        seed: int = 0,
        augment: ScanAugment | None = None,
        blind: Blind = "none",
        codes: Codes | None = None,
    ) -> None:
        self.records, self.voxels, self.label_names = list(records), voxels, tuple(label_names)
        self.sections, self.several, self.most_snippets = sections, several, most_snippets
        self.seed, self.augment, self.blind, self.codes = seed, augment, blind, codes
        counts = [len(record.volumes) if several == "each" else 1 for record in self.records]
        self._pairs = [(study, volume) for study, count in enumerate(counts) for volume in range(count)]
        self.pairs_of_image: list[Chunk] = [[pair] for pair in range(len(self._pairs))]
        self._dealt: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self._pairs)

    def work(self) -> list[float] | None:
        """Return the voxels of each pair, on average over the volumes that it may be; None for features."""
        voxels, any_of = self.voxels, self.several == "draw"
        if not isinstance(voxels, Voxels) or self.blind == "image":
            return None
        paths = [self.records[study].volumes[0 if any_of else one :] for study, one in self._pairs]
        return [fmean(map(voxels.size, own if any_of else own[:1])) for own in paths]

    def record(self, pair: int) -> VolumeRecord:
        """Return the study."""
        return self.records[self._pairs[pair][0]]

    def sample(self, epoch: int, chunk: Chunk) -> Row:
        """Return the volume of the pair in `chunk`, with what is said of it."""
        return self._row(epoch, *self._pairs[chunk[0]])

    def batch(self, draw: Draw, samples: list[Row]) -> VolumeBatch:
        """Put studies together."""
        records = [row.record for row in samples]
        images, valid = padded([row.scan.image for row in samples])
        snippets = [snippet for row in samples for snippet in row.snippets]
        labels = [[record.labels.get(name, math.nan) for name in self.label_names] for record in records]
        return VolumeBatch(
            volumes=images,
            valid=valid,
            first_mm=torch.tensor([row.scan.depth.first for row in samples]),
            step_mm=torch.tensor([row.scan.depth.step for row in samples]),
            slices=torch.tensor([row.scan.depth.count for row in samples]),
            texts=[row.text for row in samples],
            labels=torch.tensor(labels).reshape(len(records), len(self.label_names)),
            label_names=self.label_names,
            snippets=[text for row in samples for text in row.said],
            snippet_index=torch.tensor([i for i, row in enumerate(samples) for _ in row.snippets], dtype=torch.long),
            intervals=[torch.tensor(one.intervals, dtype=torch.float32).reshape(-1, 3) for one in snippets],
            paths=[row.path for row in samples],
            records=records,
            targets=snippets,
            triplets=triplets_of(draw),
            entities=entities_of(self.codes, [self._pairs[pair][0] for (pair,) in draw.chunks]),
        )

    def _row(self, epoch: int, study: int, volume: int) -> Row:
        record, rng = self.records[study], np.random.default_rng([self.seed, epoch, study])
        if self.several == "draw":
            volume = int(rng.integers(len(record.volumes)))
        path = record.volumes[volume]
        scan = self.voxels(path)
        image = torch.zeros_like(scan.image[..., :1, :1]) if self.blind == "image" else scan.image
        if self.augment is not None and self.blind != "image":
            image = self.augment(image, rng)
        snippets = list(record.snippets_of(path))
        if self.most_snippets is not None and len(snippets) > self.most_snippets:
            snippets = [snippets[i] for i in sorted(rng.permutation(len(snippets))[: self.most_snippets].tolist())]
        said = [snippet.text for snippet in snippets]
        if self.blind == "text":
            said = [said[i] for i in rng.permutation(len(said)).tolist()]
        return Row(record, path, Scan(image, scan.depth), self._text(epoch, study), snippets, said)

    def _text(self, epoch: int, study: int) -> str:
        if self.blind == "text":
            if self._dealt[0] != epoch:
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.records))
                self._dealt = (epoch, order.tolist())
            study = self._dealt[1][study]
        return self.records[study].text_of(self.sections)


def padded(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return volumes `(1, D, H, W)` as one batch, padded at their ends, and where they are in it, `(B, D, H, W)`."""
    size = [max(sides) for sides in zip_longest(*(image.shape[1:] for image in images))]

    def grown(image: Tensor) -> Tensor:
        room = [more for want, have in zip(size[::-1], image.shape[:0:-1], strict=True) for more in (0, want - have)]
        return F.pad(image, room)

    valid = [grown(torch.ones(image.shape, dtype=torch.bool))[0] for image in images]
    return torch.stack([grown(image) for image in images]), torch.stack(valid)
