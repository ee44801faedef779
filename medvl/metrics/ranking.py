"""Metrics of the confidence: FROC, calibration error and average precision, from every box a model proposes.

Whether a proposed box is true is settled once, without a threshold: the boxes of a phrase, best score first, each take
the gold box that they overlap most among those still free, when the IoU is high enough (as in PASCAL VOC and COCO). A
second box on the same gold is false. So hand in the boxes as they are to be judged, fused or not, but all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medvl.metrics.boxes import Array, pairwise_overlap
from medvl.metrics.grounding import blocks
from medvl.metrics.items import Item, flat_boxes, flat_scores, same_length
from medvl.metrics.sums import SumMetric, ratio

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Ranked:
    """Every proposed box with what it is worth.

    Attributes:
        scores: `(boxes,)`.
        hit: `(boxes,)`, whether the box is true.
        phrase: `(boxes,)`, the index of its phrase.
        n_gold: `(phrases,)`.
    """

    scores: Array
    hit: NDArray[np.bool_]
    phrase: NDArray[np.int64]
    n_gold: NDArray[np.int64]


def rank_boxes(preds: Sequence[Item], targets: Sequence[Item], iou_threshold: float = 0.5) -> Ranked:
    """Tell true from false boxes; arguments and errors as in `GroundingMetrics.update`."""
    same_length(preds, targets)
    boxes, n_boxes = flat_boxes(preds, "preds")
    gold, n_gold = flat_boxes(targets, "targets")
    scores: Array = flat_scores(preds, n_boxes).double().numpy()
    phrase = np.repeat(np.arange(len(preds)), n_boxes)
    order = np.lexsort((-scores, phrase))
    pairs = zip(blocks(boxes[order], n_boxes), blocks(gold, n_gold), strict=True)
    hits = [_hits(*some, *true, iou_threshold)[some[1]] for some, true in pairs]
    return Ranked(scores[order], np.concatenate(hits), phrase, n_gold)


def _hits(
    boxes: Array, real: NDArray[np.bool_], gold: Array, is_gold: NDArray[np.bool_], iou_threshold: float
) -> NDArray[np.bool_]:
    """Return which boxes `(n, k)` are true; those of a phrase come best first."""
    iou = np.where(is_gold[:, None], pairwise_overlap(boxes, gold)[0], -1.0)
    hit, rows = np.zeros(real.shape, dtype=np.bool_), np.arange(len(iou))
    for place in range(real.shape[1] if iou.shape[2] else 0):
        best = iou[:, place].argmax(axis=1)
        hit[:, place] = (iou[rows, place, best] >= iou_threshold) & real[:, place]
        taken = hit[:, place]
        iou[rows[taken], :, best[taken]] = -1.0
    return hit


def sensitivity_at(
    scores: Array, found: Array, false: Array, gold: Array, sentences: Array, rates: Sequence[float] = RATES
) -> Array:
    """Return the share of gold boxes found at given rates of false boxes: points of the FROC curve.

    Args:
        scores: `(boxes,)`.
        found: `(draws, boxes)`, the weight of each box as a true one.
        false: `(draws, boxes)`, its weight as a false one.
        gold: `(draws,)`, weight of all gold boxes.
        sentences: `(draws,)`, weight of the sentences that false boxes are counted on.
        rates: False boxes per sentence.

    Returns:
        `(draws, rates)`: the most that any threshold finds without more false boxes; NaN without gold or sentences.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf) < 0)  # a threshold cannot part equal scores
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = found[:, order].cumsum(axis=1)[:, ends] / gold[:, None]
        wrong = false[:, order].cumsum(axis=1)[:, ends] / sentences[:, None]
    places = np.stack([np.searchsorted(row, rates, side="right") for row in wrong])
    shares = np.take_along_axis(np.pad(hits, ((0, 0), (1, 0))), places, axis=1)
    return np.where(((gold > 0) & (sentences > 0))[:, None], shares, np.nan)


def average_precision(scores: Array, found: Array, false: Array, gold: Array) -> Array:
    """Return the average precision of each draw, interpolated at 101 recalls as COCO does; arguments as above."""
    order = np.argsort(-scores, kind="stable")
    hits, wrong = found[:, order].cumsum(axis=1), false[:, order].cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits / (hits + wrong))
        recall = hits / gold[:, None]
    envelope = np.pad(np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))
    places = np.stack([np.searchsorted(row, np.linspace(0, 1, 101), side="left") for row in recall])
    return np.where(gold > 0, np.take_along_axis(envelope, places, axis=1).mean(axis=1), np.nan)


def calibration_sums(ranked: Ranked, bins: int = 15) -> tuple[NDArray[np.int64], Array]:
    """Return the bin of each box and its row of sums: one, its score, whether it is true: `(boxes,)`, `(boxes, 3)`.

    Raises:
        ValueError: A score is no probability.
    """
    if ((ranked.scores < 0) | (ranked.scores > 1)).any():
        raise ValueError("scores must lie in [0, 1] to be held against frequencies")
    rows = np.stack([np.ones_like(ranked.scores), ranked.scores, ranked.hit], axis=1)
    return np.minimum((ranked.scores * bins).astype(np.int64), bins - 1), rows


class FROC(Metric):
    """Sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false boxes per sentence (Bunch et al. 1977).

    `compute` returns `froc@0.125` ... `froc@8` and their mean `froc/mean`; on phrases with one and with several gold
    boxes by themselves (`froc@1/single`, `/multi`); and with the false boxes counted on phrases without gold only, and
    the gold boxes on all (`/zero`): how much is found where silence is kept to that degree. NaN without such phrases.

    Args:
        iou_threshold: IoU from which a box is true.
        rates: False boxes per sentence.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    marks: list[Tensor]
    totals: Tensor

    def __init__(self, iou_threshold: float = 0.5, rates: Sequence[float] = RATES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_threshold, self.rates = iou_threshold, tuple(rates)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("marks", [], dist_reduce_fx="cat")  # 2 * (gold count up to 2) + (true box)
        self.add_state("totals", torch.zeros(3, 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases; arguments and errors as in `GroundingMetrics.update`, scores as float32."""
        ranked = rank_boxes(preds, targets, self.iou_threshold)
        group = ranked.n_gold.clip(max=2)
        device = self.totals.device
        self.scores.append(torch.from_numpy(ranked.scores).float().to(device))
        self.marks.append(torch.from_numpy(2 * group[ranked.phrase] + ranked.hit).float().to(device))
        added = np.zeros((3, 2), dtype=np.int64)
        np.add.at(added, group, np.stack([np.ones_like(group), ranked.n_gold], axis=1))
        self.totals += torch.from_numpy(added).to(device)

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        scores, marks = (  # a tensor once ranks have been gathered, a list before, which may be empty
            dim_zero_cat(state).cpu().double().numpy() if len(state) else np.zeros(0)
            for state in (self.scores, self.marks)
        )
        group, hit, totals = marks // 2, marks % 2 == 1, self.totals.cpu().double().numpy()
        values: dict[str, float] = {}
        for suffix, rows in {"": [0, 1, 2], "/single": [1], "/multi": [2], "/zero": [0]}.items():
            inside = np.isin(group, rows)
            judged, gold = (hit, [0, 1, 2]) if suffix == "/zero" else (hit & inside, rows)
            found, false = judged[None].astype(np.float64), (~hit & inside)[None].astype(np.float64)
            n_gold, sentences = totals[gold, 1].sum()[None], totals[rows, 0].sum()[None]
            shares = sensitivity_at(scores, found, false, n_gold, sentences, self.rates)[0]
            values |= {f"froc@{rate:g}{suffix}": float(x) for rate, x in zip(self.rates, shares, strict=True)}
            values[f"froc/mean{suffix}"] = float(shares.mean())
        return {name: torch.tensor(value, device=self.totals.device) for name, value in values.items()}


class BoxCalibrationError(SumMetric):
    """Expected calibration error of the box confidence (Naeini et al. 2015): does a score of 0.7 come true 7 in 10?

    `compute` returns `ece`, the gap between mean score and share of true boxes, averaged over equal-width bins by the
    boxes in them; lower is better, NaN without boxes.

    Args:
        iou_threshold: IoU from which a box is true.
        bins: Bins of [0, 1].
        kwargs: Passed to `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, iou_threshold: float = 0.5, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(rows=bins, columns=3, **kwargs)
        self.iou_threshold, self.bins = iou_threshold, bins

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases; arguments and errors as in `GroundingMetrics.update`; scores must lie in [0, 1]."""
        self._add(*calibration_sums(rank_boxes(preds, targets, self.iou_threshold), self.bins))

    def compute(self) -> dict[str, Tensor]:
        """Return `ece` as a scalar float tensor."""
        count, score, hit = self._sums().T
        return self._scalars({"ece": ratio(np.abs(score - hit).sum(), count.sum())})
