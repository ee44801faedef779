"""How alike the studies of a batch are by their entities: MedTrim's score (arXiv 2504.15929) in torch.

What is told of a study is a row of zeros and ones, short enough to be gathered from all ranks. `ontology.similarity`
has the same score for whole data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medvl.distributed import gather_with_grad

Spans = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class EntityCodes:
    """The entities of some studies.

    Attributes:
        rows: uint8 `(n, W)`: whether anything is known of the study, which diseases it has, and of each disease which
            adjectives, then which directions.
        spans: Of each disease the columns where its adjectives begin, its directions begin, and these end.
        gamma: Weights of diseases, adjectives and directions in the score.
        symmetric: Whether the score is the mean of both ways round; the published one is not.
    """

    rows: Tensor
    spans: Spans
    gamma: tuple[float, float, float] = (0.85, 0.10, 0.05)
    symmetric: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor) -> EntityCodes:
        return replace(self, rows=self.rows[chosen])

    def to(self, device: torch.device) -> EntityCodes:
        """Return the codes on `device`."""
        return replace(self, rows=self.rows.to(device, non_blocking=True))

    @property
    def known(self) -> Tensor:
        """Bool `(n,)`: of which studies anything is known; that there is no finding is something."""
        return self.rows[:, 0] > 0

    def gathered(self) -> EntityCodes:
        """Return the codes of all ranks, in rank order."""
        return replace(self, rows=gather_with_grad(self.rows).rows)


def entity_scores(anchors: EntityCodes, others: EntityCodes) -> Tensor:
    """Return how alike anchors are to others, `(n, N)` in float64 (float32 where the device has none).

    `gamma_0 J(D_a, D_r) + sum over shared d of (gamma_1 IoU(adjectives) + gamma_2 IoU(directions)) / |D_a|`; the ratio
    of two empty sets is 1, and a study of which nothing is known scores 0 with all.

    Args:
        anchors: `n` studies.
        others: `N` studies, encoded alike.
    """
    with torch.autocast(anchors.rows.device.type, enabled=False):
        last = 1 + len(anchors.spans)
        ours, theirs = anchors.rows.float(), others.rows.float()  # counts are whole numbers: exact in float32
        have, has = ours[:, 1:last], theirs[:, 1:last]
        of, to = _exact(have.sum(1))[:, None], _exact(has.sum(1))[None]
        scores = anchors.gamma[0] * _overlap(have, has)
        share = 1 / of.clamp_min(1)
        share = (share + 1 / to.clamp_min(1)) / 2 if anchors.symmetric else share
        for disease in (have.any(0) & has.any(0)).nonzero()[:, 0].tolist():
            start, middle, end = anchors.spans[disease]
            shared = share * have[:, disease, None] * has[None, :, disease]
            for weight, columns in zip(anchors.gamma[1:], (slice(start, middle), slice(middle, end)), strict=True):
                scores = scores + weight * shared * _overlap(ours[:, columns], theirs[:, columns])
        return scores * anchors.known[:, None] * others.known[None]


def _overlap(rows: Tensor, others: Tensor) -> Tensor:
    """Return the Jaccard indices of rows of zeros and ones: `(n, K)` and `(N, K)` to `(n, N)`."""
    both = _exact(rows @ others.T)
    either = _exact(rows.sum(1))[:, None] + _exact(others.sum(1))[None] - both
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def _exact(counts: Tensor) -> Tensor:
    return counts if counts.device.type == "mps" else counts.double()
