"""Denoising queries: in training, further queries start at gold boxes with noise and learn to find back.

They need no matching, so what they teach is steady from the first step on (DN-DETR, arXiv 2203.01305). Ours differ in
two ways: a query stands for the sentence that it is asked with, so only boxes are denoised, there being no label to
flip; and each sees no other query but itself, and none sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.grounding.boxes import to_cxcywh
from tasks.grounding.matcher import Matches, Targets


@dataclass(frozen=True)
class Denoising:
    """Makes noisy starts, and says which gold box each of them came from.

    Args:
        queries: Starts per sentence: its boxes in turn, each as often as there is room. A sentence without boxes has as
            many that teach nothing.
        noise: Largest displacement of a centre as a share of half the box's side, and largest change of a side as a
            share of it; 0.4 is DN-DETR's.
    """

    queries: int = 8
    noise: float = 0.4

    def starts(self, targets: Targets) -> Tensor:
        """Return cxcywh boxes `(P, queries, 4)` inside the image; the whole image where a sentence has no box."""
        boxes = targets.boxes.new_tensor([0.5, 0.5, 1.0, 1.0]).repeat(len(targets.counts), self.queries, 1)
        phrase, query, gold = self._pairs(targets)
        clean = to_cxcywh(targets.boxes[gold])
        drift = self.noise * (2 * torch.rand_like(clean) - 1)
        centre = clean[:, :2] + drift[:, :2] * clean[:, 2:] / 2
        boxes[phrase, query] = torch.cat([centre, clean[:, 2:] * (1 + drift[:, 2:])], dim=-1).clamp(0, 1)
        return boxes

    def matches(self, targets: Targets, layers: int) -> Matches:
        """Return which start belongs to which gold box, the same in every decoder layer."""
        phrase, query, gold = self._pairs(targets)
        layer = torch.arange(layers, device=gold.device).repeat_interleave(len(gold))
        return Matches(layer, phrase.repeat(layers), query.repeat(layers), gold.repeat(layers))

    def _pairs(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        counts = torch.tensor(targets.counts, dtype=torch.long, device=targets.phrase.device)
        phrase = counts.nonzero().squeeze(1).repeat_interleave(self.queries)
        query = torch.arange(self.queries, device=phrase.device).repeat(int((counts > 0).sum()))
        first = counts.cumsum(0) - counts
        return phrase, query, first[phrase] + query % counts[phrase]
