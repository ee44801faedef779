"""Hungarian matching of queries to gold boxes, for all decoder layers in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tasks.grounding.boxes import paired_giou, to_cxcywh, to_xyxy


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
        counts = [len(b) for b in boxes]
        joined = torch.cat([b.reshape(-1, 4) for b in boxes]).to(like) if boxes else like.new_zeros(0, 4)
        phrase = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
        return cls(joined, phrase.to(like.device), counts)


@dataclass(frozen=True)
class Matches:
    """Matched triples; the `M` entries of all tensors belong together.

    Attributes:
        layer: Decoder layer.
        phrase: Phrase.
        query: Query of that phrase.
        gold: Row of `Targets.boxes`.
        unmatched: Gold boxes left over because a phrase has more of them than queries.
    """

    layer: Tensor
    phrase: Tensor
    query: Tensor
    gold: Tensor
    unmatched: int


@dataclass(frozen=True)
class HungarianMatcher:
    """Least-cost assignment of gold boxes to queries, phrase by phrase (DETR, arXiv 2005.12872, eq. 1).

    Cost = `score * -sigmoid(logit) + l1 * |b - b*|_1 (cxcywh) + giou * -GIoU`. Only pairs of the same phrase are
    computed: a `(layers, G, queries)` block for the whole batch. Weights are MDETR's (1, 5, 2).
    """

    score: float = 1.0
    l1: float = 5.0
    giou: float = 2.0

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, targets: Targets) -> Matches:
        """Match.

        Args:
            logits: `(L, P, Q)` confidence.
            boxes: `(L, P, Q, 4)` cxcywh in [0, 1].
            targets: Gold boxes of the `P` phrases.
        """
        cost = self.cost(logits, boxes, targets)
        rows, queries, unmatched = _assign(cost, targets.counts)
        layers = cost.shape[0]
        layer = torch.arange(layers).repeat_interleave(len(rows) // layers if layers else 0)
        device = boxes.device
        gold = rows.to(device)
        return Matches(layer.to(device), targets.phrase[gold], queries.to(device), gold, unmatched)

    def cost(self, logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
        """Return the cost `(L, G, Q)` of every gold box with every query of its phrase, finite throughout."""
        predicted = boxes[:, targets.phrase].float()
        gold = targets.boxes.float()[None, :, None].expand_as(predicted)
        cost = -self.score * logits[:, targets.phrase].float().sigmoid()
        cost = cost + self.l1 * (predicted - to_cxcywh(gold)).abs().sum(-1)
        cost = cost - self.giou * paired_giou(to_xyxy(predicted), gold)
        return torch.nan_to_num(cost, nan=1e4, posinf=1e4, neginf=-1e4).cpu()


def _assign(cost: Tensor, counts: list[int]) -> tuple[Tensor, Tensor, int]:
    """Solve every (layer, phrase) block; single-box phrases, the bulk of any data set, need no solver."""
    layers, total, queries = cost.shape
    best = cost.argmin(-1)
    keep = torch.ones(total, dtype=torch.bool)
    start = 0
    blocks = cost.numpy()
    for count in counts:
        if count > 1:
            for layer in range(layers):
                rows, columns = linear_sum_assignment(blocks[layer, start : start + count])
                best[layer, start : start + count] = -1
                best[layer, start + torch.from_numpy(rows)] = torch.from_numpy(columns)
        if count > queries:
            keep[start : start + count] = False
        start += count
    if bool(keep.all()):
        rows = torch.arange(total).repeat(layers)
        return rows, best.flatten(), 0
    # A phrase with more boxes than queries leaves some unmatched, the same number in each layer.
    matched = best >= 0
    rows = torch.arange(total).expand(layers, total)[matched]
    return rows, best[matched], total - int(matched[0].sum())
