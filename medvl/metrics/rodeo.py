"""RoDeO, Robust Detection Outcome: where, what shape and how many, without one IoU that decides everything.

Meissen et al., "Robust Detection Outcome: A Metric for Pathology Detection in Medical Images", MIDL 2023, equations 2
to 6. In grounding every box of a phrase is of the phrase's class, so that of the classification part (a correlation of
classes, 1 here, times the share of boxes that have a partner) the share is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medvl.metrics.boxes import Array, pairwise_overlap
from medvl.metrics.grounding import blocks
from medvl.metrics.items import Item, flat_boxes, flat_scores, same_length
from medvl.metrics.sums import SUBSETS, SumMetric, ratio

PARTS = ("localisation", "shape", "classification")
_EPS = 1e-6


class RoDeO(SumMetric):
    """RoDeO over phrases: pairs of kept and gold boxes by the best sum of GIoU, and 0 for every box without partner.

    `compute` returns, all higher is better and NaN where there is no box at all:

    - `rodeo/localisation`: exp(-d^2 ln 2), d the distance of the centres in sides of the gold box: 1/2 one side off.
    - `rodeo/shape`: IoU of the two boxes laid on one centre.
    - `rodeo/classification`: share of the boxes that have a partner.
    - `rodeo/total`: harmonic mean of the three.

    Each also as `/boxed`, `/single`, `/multi` (gold counts >= 1, 1, >= 2). Boxes shown for phrases without gold lower
    the values that name no subset.

    Args:
        threshold: Score above which a prediction is kept.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(rows=3, columns=1 + len(PARTS), **kwargs)
        self.threshold = threshold

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases; arguments and errors as in `GroundingMetrics.update`."""
        found = rodeo_outcomes(preds, targets, threshold=self.threshold)
        values = [found["weight"], *(found[part] * found["weight"] for part in PARTS)]
        self._add(found["n_gold"].clip(max=2).astype(np.int64), np.stack(values, axis=1))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        table, values = self._sums(), dict[str, float]()
        for suffix, rows in {
            "": [0, 1, 2],
            **{f"/{name}": SUBSETS[name] for name in ("boxed", "single", "multi")},
        }.items():
            sums = table[rows].sum(axis=0)
            parts = {part: ratio(value, sums[0]) for part, value in zip(PARTS, sums[1:], strict=True)}
            values |= {f"rodeo/{part}{suffix}": value for part, value in parts.items()}
            values[f"rodeo/total{suffix}"] = harmonic_mean(list(parts.values()))
        return self._scalars(values)


def harmonic_mean(values: Sequence[float]) -> float:
    """Return the harmonic mean, each value raised by 1e-6 as in the authors' code, so that 0 is allowed."""
    return len(values) / sum(1 / (value + _EPS) for value in values)


def rodeo_outcomes(preds: Sequence[Item], targets: Sequence[Item], *, threshold: float = 0.5) -> dict[str, Array]:
    """Score each phrase on its own, for the bootstrap.

    Returns:
        Arrays `(phrases,)`: `n_gold`; `localisation`, `shape` and `classification`, means over the phrase's boxes (NaN
        where there is none); and `weight`, the number of boxes that they are means over.

    Raises:
        ValueError: As `phrase_outcomes`.
    """
    same_length(preds, targets)
    boxes, n_boxes = flat_boxes(preds, "preds")
    gold, n_gold = flat_boxes(targets, "targets")
    keep = (flat_scores(preds, n_boxes) > threshold).numpy()
    owner = np.repeat(np.arange(len(preds)), n_boxes)
    n_kept = np.bincount(owner[keep], minlength=len(preds)).astype(np.int64)
    pairs = np.minimum(n_kept, n_gold)
    sums = [
        _pair_sums(*kept, *true) for kept, true in zip(blocks(boxes[keep], n_kept), blocks(gold, n_gold), strict=True)
    ]
    weight = np.maximum(n_kept, n_gold).astype(np.float64)
    local, shape = np.concatenate(sums, axis=1)
    parts = dict(zip(PARTS, (local, shape, pairs.astype(np.float64)), strict=True))
    with np.errstate(invalid="ignore"):
        means = {name: value / weight for name, value in parts.items()}
    return {"n_gold": n_gold.astype(np.float64), "weight": weight, **means}


def _pair_sums(kept: Array, is_kept: NDArray[np.bool_], gold: Array, is_gold: NDArray[np.bool_]) -> Array:
    """Return localisation and shape, summed over the pairs of each phrase: `(2, phrases)`."""
    _, giou = pairwise_overlap(kept, gold)
    chosen = np.zeros(giou.shape)
    counts = np.stack([is_kept.sum(1), is_gold.sum(1)], axis=1)
    for i in np.flatnonzero(counts.min(axis=1) > 0):
        chosen[i][linear_sum_assignment(giou[i, : counts[i, 0], : counts[i, 1]], maximize=True)] = 1
    sides, gold_sides = (kept[..., 2:] - kept[..., :2])[:, :, None], (gold[..., 2:] - gold[..., :2])[:, None]
    apart = ((kept[..., :2] + kept[..., 2:]) / 2)[:, :, None] - ((gold[..., :2] + gold[..., 2:]) / 2)[:, None]
    # A gold box without a side is as far as anything is from it, unless the centres agree.
    local = np.exp2(-np.square(apart / gold_sides.clip(min=np.finfo(float).tiny ** 0.25)).sum(-1))
    shared = np.minimum(sides, gold_sides).prod(-1)
    union = sides.prod(-1) + gold_sides.prod(-1) - shared
    shape = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.stack([(chosen * part).sum(axis=(1, 2)) for part in (local, shape)])
