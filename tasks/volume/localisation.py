"""Which depth of a scan a snippet speaks of: similarity of words and positions, its loss, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvl.distributed import mean_over_ranks, world_size
from tasks.volume.depth import DepthGrid, blurred, extents, interval_mass, quantile

Pooling = Literal["mean", "smooth_max"]
Similarity = Literal["dot", "cosine"]


@dataclass(frozen=True)
class Depths:
    """What a model says of `S` snippets.

    Attributes:
        logits: `(S, D + 1)`: each depth position of the snippet's scan, -inf on padding, and last "not in this scan".
        axis: Of the snippets' scans, `S` rows.
    """

    logits: Tensor
    axis: DepthGrid

    @property
    def present(self) -> Tensor:
        """Probability that the scan shows what the snippet speaks of, `(S,)`."""
        return 1 - self.logits.softmax(dim=1)[:, -1]

    @property
    def where(self) -> Tensor:
        """Probability of each position if the scan shows it, `(S, D)`; rows sum to 1."""
        return self.logits[:, :-1].softmax(dim=1)


@dataclass(frozen=True)
class Answer:
    """Where a snippet's subject lies.

    Attributes:
        mm: Median of the depth along the patient.
        low: Lower end of the interval that holds it with the probability asked for.
        high: Upper end of that interval.
        present: Probability that the scan shows it.
        extents: Stretches in mm that are about as likely as the best position, best first.
    """

    mm: float
    low: float
    high: float
    present: float
    extents: tuple[tuple[float, float], ...]


class Localiser(nn.Module):
    """Similarity of a snippet and every depth position over a temperature, and one learnt logit for "not in this scan".

    Args:
        temperature: Fixed, as in RadFinder (arXiv 2603.02026).
        pooling: How the image tokens of one depth are joined. `mean` averages them before they are compared, as
            RadFinder does, in which a finding of a few tokens drowns; `smooth_max` (ours) compares every token and
            takes a log-mean-exp of the similarities, so that one place that fits is enough.
        sharpness: Of `smooth_max`: the larger, the closer to the maximum.
        similarity: Of a unit vector of words and a token: `cosine` as RadFinder, or `dot` (ours), the product over the
            root of the width. A token about which nothing is to be said can be short then, and of the many in a slab
            none is the greatest by chance.
        salience: Whether tokens say of themselves, too, how much there is to be spoken of (ours): it is learnt before
            words are, and tells a model where to look for them.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        pooling: Pooling = "smooth_max",
        sharpness: float = 50.0,
        similarity: Similarity = "dot",
        salience: bool = True,
    ) -> None:
        super().__init__()
        if temperature <= 0 or sharpness <= 0:
            raise ValueError(f"temperature and sharpness must be > 0, got {temperature} and {sharpness}")
        self.temperature, self.pooling, self.sharpness = temperature, pooling, sharpness
        self.similarity, self.salience = similarity, salience
        self.absent = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        snippets: Tensor,
        index: Tensor,
        axis: DepthGrid,
        salience: Tensor | None = None,
        head: nn.Linear | None = None,
    ) -> Depths:
        """Compare.

        Args:
            tokens: `(B, D, N, C)`, the N tokens of each depth, of any length; of as many channels as `head` takes.
            mask: Bool `(B, D, N)`, False on padding.
            snippets: `(S, C)`, of any length.
            index: Long `(S,)`, which volume each snippet speaks of.
            axis: Of the `B` volumes.
            salience: `(B, D, N)`, in units of the similarity; None of none.
            head: Brings tokens into the snippets' space.
        """
        words, valid = F.normalize(snippets, dim=-1), axis.valid & mask.any(dim=2)
        if self.pooling == "mean":
            tokens = self._mean(tokens, mask[..., None])
        near = self._likeness(tokens, words, index, head)
        if salience is not None:
            near = near + (self._mean(salience, mask) if self.pooling == "mean" else salience)[index]
        fit = near.squeeze(2) if self.pooling == "mean" else self._smooth_max(near, mask[index])
        logits = (fit / self.temperature).masked_fill(~valid[index], -torch.inf)
        logits = torch.cat([logits, self.absent.expand(len(logits), 1)], dim=1)
        return Depths(logits, axis.of_volumes(index))

    def _likeness(self, tokens: Tensor, words: Tensor, index: Tensor, head: nn.Linear | None) -> Tensor:
        """Return `(S, D, N)`; a product brings the few words to the tokens, for of these there are thousands."""
        if self.similarity == "cosine":
            return self._near(F.normalize(tokens if head is None else head(tokens), dim=-1), words, index)
        words = words / math.sqrt(words.shape[-1])
        if head is None:
            return self._near(tokens, words, index)
        return self._near(tokens, words @ head.weight, index) + (words @ head.bias)[:, None, None]

    @staticmethod
    def _near(tokens: Tensor, words: Tensor, index: Tensor) -> Tensor:
        """Return the similarities of each snippet and the tokens of its volume, `(S, D, N)`; no token is copied."""
        order = index.argsort(stable=True)
        parts = torch.split(words[order], index.bincount(minlength=len(tokens)).tolist())
        found = torch.cat([torch.einsum("dnc,sc->sdn", one, own) for one, own in zip(tokens, parts, strict=True)])
        return torch.empty_like(found).index_copy(0, order, found)

    @staticmethod
    def _mean(values: Tensor, mask: Tensor) -> Tensor:
        """Average `(B, D, N, ...)` over the tokens of each depth, `(B, D, 1, ...)`."""
        return (values * mask).sum(dim=2, keepdim=True) / mask.sum(dim=2, keepdim=True).clamp_min(1)

    def _smooth_max(self, near: Tensor, mask: Tensor) -> Tensor:
        """Return the log-mean-exp over the tokens of each depth, `(S, D)`; 0 where there is none."""
        sharp = (near * self.sharpness).masked_fill(~mask, -torch.inf)
        best = sharp.detach().amax(dim=2, keepdim=True)
        best = best.masked_fill(best.isneginf(), 0.0)
        mean = (sharp - best).exp().sum(dim=2) / mask.sum(dim=2).clamp_min(1)
        return torch.where(mask.any(dim=2), mean.clamp_min(1e-30).log() + best.squeeze(2), 0.0) / self.sharpness


class LocalisationLoss(nn.Module):
    """Cross-entropy against the snippet's intervals, blurred along the patient.

    Args:
        sigma_mm: Of the blur; RadFinder's is two positions of 12 mm.
    """

    def __init__(self, sigma_mm: float = 12.0) -> None:
        super().__init__()
        if not (math.isfinite(sigma_mm) and sigma_mm >= 0):
            raise ValueError(f"sigma_mm must be finite and >= 0, got {sigma_mm}")
        self.sigma_mm = sigma_mm

    def target(self, axis: DepthGrid, intervals: Sequence[Tensor]) -> Tensor:
        """Return `(S, D + 1)`, rows of sum 1; "not in this scan" for a snippet with no interval inside the scan."""
        where = blurred(axis, interval_mass(axis, intervals), self.sigma_mm)
        return torch.cat([where, 1 - where.sum(dim=1, keepdim=True).round()], dim=1)

    def forward(self, depths: Depths, intervals: Sequence[Tensor], count: Tensor | None = None) -> Tensor:
        """Return the mean over the snippets of all ranks, times ranks over this rank's share, as DDP averages.

        Args:
            depths: Of `S` snippets.
            intervals: For each `(n, 3)`: start and end in mm, weight; none for "not in this scan".
            count: What the sum is divided by, where these are but a part of the batch.
        """
        log = depths.logits.log_softmax(dim=1)
        each = -(self.target(depths.axis, intervals) * log.masked_fill(log.isneginf(), 0.0)).sum(dim=1)
        return each.sum() / (self.count(len(each), each) if count is None else count)

    def count(self, snippets: int, like: Tensor) -> Tensor:
        """Return the snippets per rank, in training; also for a rank without any, as the others wait; never 0."""
        own = like.new_tensor(float(snippets))
        return (mean_over_ranks(own) if self.training else own).clamp_min(1 / world_size())


def read(depths: Depths, confidence: float = 0.8, shift: Tensor | float = 0.0) -> list[Answer]:
    """Read the answers off, each with the interval that holds `confidence` of its probability.

    Args:
        depths: Of the snippets.
        confidence: In (0, 1).
        shift: What the logit of `present` is moved by.
    """
    tail, where = (1 - confidence) / 2, depths.where
    cuts = (quantile(depths.axis, where, share).tolist() for share in (0.5, tail, 1 - tail))
    stretches = (tuple(one) for one in extents(depths.axis, where))
    present = (depths.logits[:, :-1].logsumexp(dim=1) - depths.logits[:, -1] + shift).sigmoid()
    return [Answer(*row) for row in zip(*cuts, present.tolist(), stretches, strict=True)]
