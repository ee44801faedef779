"""Triplets from the batch itself: positives and negatives by entity score, across ranks.

Unlike semi-hard mining in the space of embeddings (FaceNet), what is semi-hard here is said by the reports: a negative
shares something with the anchor, but not much (MedTrim, arXiv 2504.15929).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Negatives = Literal["hardest", "random", "least"]
Fallback = Literal["skip", "below"]
_TIE = 1e-6  # scores that differ by less are tied: they are sums of ratios


class Mined(NamedTuple):
    """One triplet for each anchor that has one.

    Attributes:
        anchor: `(T,)` rows of the scores.
        positive: `(T,)` columns of the scores.
        negative: `(T,)` columns of the scores.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor

    def where(self, kept: Tensor) -> Mined:
        """Return the triplets that bool `(T,)` names."""
        return Mined(*(rows[kept] for rows in self))


class BatchMiner:
    """Chooses for each anchor its positive and a negative; ties are broken at random, differently for each anchor.

    The positive is the most alike study; a negative is less alike than it.

    Args:
        tau_min: Least score of a negative.
        tau_max: A negative scores less than this.
        negatives: Of those in the range the most alike (`hardest`), any (`random`), or the `least` alike, as in the
            public code of MedTrim.
        fallback: An anchor without a negative in the range is left out (`skip`), or takes the most alike `below` it.
        positive_floor: Least score of a positive; an anchor without is left out. The public code has none.
    """

    def __init__(
        self,
        tau_min: float = 0.25,
        tau_max: float = 0.6,
        negatives: Negatives = "hardest",
        fallback: Fallback = "skip",
        positive_floor: float | None = None,
    ) -> None:
        if not tau_min < tau_max:
            raise ValueError(f"expected tau_min < tau_max, got {tau_min} and {tau_max}")
        self.tau_min, self.tau_max = tau_min, tau_max
        self.negatives, self.fallback, self.positive_floor = negatives, fallback, positive_floor

    def __call__(self, scores: Tensor, barred: Tensor, start: int = 0, seed: int = 0) -> Mined:
        """Mine.

        Args:
            scores: `(n, N)` anchors against all.
            barred: `(n, N)` bool, who may be neither: the anchor itself, its study, its patient.
            start: Of how many anchors on earlier ranks these are the next.
            seed: Of the ties; the same on all ranks.
        """
        priority = priorities(scores.shape, start, seed).to(scores.device)
        allowed = ~barred if self.positive_floor is None else ~barred & (scores >= self.positive_floor)
        positive, has_positive = pick(scores, allowed, priority)
        if not scores.numel():
            return Mined(positive, positive, positive)
        ceiling = (scores.gather(1, positive[:, None]) - _TIE).clamp(max=self.tau_max)
        negative, has_negative = self._negative(scores, ~barred & (scores < ceiling), priority)
        (anchor,) = (has_positive & has_negative).nonzero(as_tuple=True)
        return Mined(anchor, positive[anchor], negative[anchor])

    def _negative(self, scores: Tensor, allowed: Tensor, priority: Tensor) -> tuple[Tensor, Tensor]:
        order = {"hardest": scores, "least": -scores, "random": torch.zeros_like(scores)}[self.negatives]
        found, has = pick(order, allowed & (scores >= self.tau_min), priority)
        if self.fallback == "skip":
            return found, has
        below, has_below = pick(scores, allowed & (scores < self.tau_min), priority)
        return torch.where(has, found, below), has | has_below


def pick(scores: Tensor, allowed: Tensor, priority: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row the allowed column with the greatest score, and whether there is one.

    Args:
        scores: `(n, N)`.
        allowed: `(n, N)` bool.
        priority: `(n, N)`, decides among the tied.
    """
    if not scores.numel():
        nothing = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
        return nothing, nothing.bool()
    kept = scores.masked_fill(~allowed, -torch.inf)
    tied = allowed & (kept >= kept.amax(dim=1, keepdim=True) - _TIE)
    return priority.masked_fill(~tied, -1).argmax(dim=1), allowed.any(dim=1)


def priorities(shape: torch.Size, start: int, seed: int) -> Tensor:
    """Return `(n, N)` distinct priorities in each row: one permutation, shifted by one from anchor to anchor.

    So anchors whose candidates are all tied choose a different one each, and N ranks choose as one process does.
    """
    rows, columns = shape
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(seed))
    anchors = torch.arange(start, start + rows)
    return order[(torch.arange(columns) - anchors[:, None]) % max(columns, 1)]
