"""Hungarian matching of queries to gold boxes, for all decoder layers in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Gold boxes of a batch of phrases, laid end to end.

    Attributes:
        boxes: `(G, 4)` xyxy.
        phrase: Long `(G,)`, the phrase each box belongs to, ascending.
        counts: Boxes per phrase, `P` entries, zeros included.
    """

    boxes: Tensor
    phrase: Tensor
    counts: list[int]

    @classmethod
    def pack(cls, boxes: list[Tensor], like: Tensor) -> Targets:
        """Join per-phrase boxes; takes device and dtype from `like`."""
        counts = [b.shape[0] for b in boxes]
        joined = torch.cat(boxes).reshape(-1, 4).to(like) if boxes else like.new_zeros(0, 4)
        phrase = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        return cls(joined, phrase.to(like.device), counts)


@dataclass(frozen=True)
class Matches:
    """Matched triples; the `M` entries of all tensors belong together.

    Attributes:
        layer: Decoder layer.
        phrase: Phrase.
        query: Query of that phrase.
        gold: Row of `Targets.boxes`.
    """

    layer: Tensor
    phrase: Tensor
    query: Tensor
    gold: Tensor


@dataclass(frozen=True)
class HungarianMatcher:
    """Least-cost assignment of gold boxes to queries, phrase by phrase (DETR, arXiv 2005.12872, eq. 1).

    Cost = `score * -sigmoid(logit) + l1 * |b - b*|_1 (cxcywh) + giou * -GIoU`, less a constant. Only pairs of the same
    phrase are computed: a `(layers, G, queries)` block for the whole batch. Weights are MDETR's (1, 5, 2).
    """

    score: float = 1.0
    l1: float = 5.0
    giou: float = 2.0

    def __call__(self, logits: Tensor, boxes: Tensor, targets: Targets) -> Matches:
        """Match.

        Args:
            logits: `(L, P, Q)` confidence.
            boxes: `(L, P, Q, 4)` cxcywh in [0, 1].
            targets: Gold boxes of the `P` phrases.
        """
        phrase = np.repeat(np.arange(len(targets.counts)), targets.counts)
        best = _assign(self.cost(logits, boxes, targets), phrase, targets.counts)
        layer, gold = (best >= 0).nonzero()  # a phrase with more boxes than queries leaves some unmatched
        found = np.array([layer, phrase[gold], best[layer, gold], gold])
        return Matches(*torch.from_numpy(found).to(boxes.device).unbind())

    def cost(self, logits: Tensor, boxes: Tensor, targets: Targets) -> NDArray[np.float32]:
        """Return the cost `(L, G, Q)` of every gold box with every query of its phrase, finite throughout.

        On the CPU numpy takes over, which starts an operation on small arrays in half the time that torch needs.
        """
        planes, score = boxes.detach().float().permute(3, 0, 1, 2), logits.detach().float().sigmoid()
        gold, phrase = targets.boxes.float().t()[:, None, :, None], targets.phrase
        if boxes.is_cpu:
            own = planes.numpy().take(phrase.numpy(), 2), score.numpy().take(phrase.numpy(), 1)
            with np.errstate(all="ignore"):
                cost = self.pair_cost(np, *own, gold.numpy())
        else:
            cost = self.pair_cost(torch, planes.index_select(2, phrase), score.index_select(1, phrase), gold)
            cost = cost.cpu().numpy()
        finite: NDArray[np.float32] = np.fmax(np.fmin(cost, 1e4), -1e4)  # both prefer a number to NaN
        return finite

    def pair_cost(self, xp: Any, own: Any, score: Any, gold: Any) -> Any:
        """Return the cost of pairs from planes of coordinates, several times faster than reducing over a last axis.

        Two intervals with centres `d` apart and lengths `s` and `t` overlap by `(s + t)/2 - max(d, |s - t|/2)`, and
        their hull measures `(s + t)/2 + max(d, |s - t|/2)`: the distances of L1 serve GIoU too.

        Args:
            xp: `numpy` or `torch`, whichever the arrays are of.
            own: `(4, L, G, Q)` cxcywh of queries.
            score: `(L, G, Q)` confidences of queries.
            gold: `(4, 1, G, 1)` xyxy.
        """
        size, gold_size = own[2:], gold[2:] - gold[:2]
        centres, sizes = abs(own[:2] - (gold[:2] + gold[2:]) / 2), abs(size - gold_size)
        half, reach = (size + gold_size) / 2, xp.maximum(centres, sizes / 2)
        overlap, hull = (half - reach).clip(0), half + reach
        shared = overlap[0] * overlap[1]
        union = (size[0] * size[1] + gold_size[0] * gold_size[1] - shared).clip(1e-9)
        giou = shared / union + union / (hull[0] * hull[1]).clip(1e-9)  # plus 1
        apart = centres + sizes
        return self.l1 * (apart[0] + apart[1]) - self.score * score - self.giou * giou


def _assign(cost: NDArray[np.float32], phrase: NDArray[np.int64], counts: list[int]) -> NDArray[np.int64]:
    """Return the query `(L, G)` of every gold box, -1 for none; the cheapest sum for each (layer, phrase) block.

    Where the cheapest queries of a phrase's boxes differ, they are that: only the other blocks need the solver.
    """
    layers, _, queries = cost.shape
    best: NDArray[np.int64] = cost.argmin(-1)
    slot = ((np.arange(layers)[:, None] * len(counts) + phrase) * queries + best).ravel()
    number = np.arange(len(slot))
    taken = np.empty(layers * len(counts) * queries, np.int64)
    taken[slot] = number  # the last box that wants a query
    stops = np.cumsum(counts)
    for block in set((slot[taken[slot] != number] // queries).tolist()):
        layer, row = divmod(block, len(counts))
        own = slice(stops[row] - counts[row], stops[row])
        rows, columns = linear_sum_assignment(cost[layer, own])
        best[layer, own] = -1
        best[layer, own][rows] = columns
    return best
