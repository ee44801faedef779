"""Score threshold and fusion IoU, chosen on validation data.

Criterion (ours; MedGrounder's is not published): the share of sentences with boxes that are answered exactly,
P@(F1=1) at IoU 0.5, as high as it gets while silence is kept for a floor share of the sentences without a box (N-acc).
A higher threshold trades the first for the second, which the floor settles; the sweep shows the whole trade.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvl.metrics.boxes import Array, pad, pairwise_overlap
from medvl.metrics.grounding import phrase_outcomes
from tasks.grounding.postprocess import Detections, Postprocess

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
FUSION_IOUS = (None, 0.1, 0.3, 0.5, 0.7)
N_ACC_FLOOR = 0.9


@dataclass(frozen=True)
class SweepPoint:
    """What a pair of settings gives on the validation data.

    Attributes:
        threshold: Score threshold.
        fusion_iou: Fusion IoU, None without fusion.
        p_at_f1: P@(F1=1) of sentences with boxes.
        n_acc: Share of sentences without a box for which none is shown; None without such sentences.
    """

    threshold: float
    fusion_iou: float | None
    p_at_f1: float
    n_acc: float | None


@dataclass(frozen=True)
class Calibration:
    """The settings chosen and what they were chosen from.

    Attributes:
        threshold: Score threshold.
        fusion_iou: Fusion IoU, None without fusion.
        n_acc_floor: The least N-acc that was asked for.
        floor_met: Whether any settings reach it; if not, those with the highest N-acc are chosen.
        with_boxes: Validation sentences with boxes.
        without_boxes: Validation sentences without.
        points: Every pair of settings, by fusion IoU and ascending threshold.
    """

    threshold: float
    fusion_iou: float | None
    n_acc_floor: float
    floor_met: bool
    with_boxes: int
    without_boxes: int
    points: tuple[SweepPoint, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint or JSON."""
        return dataclasses.asdict(self) | {"points": [dataclasses.asdict(point) for point in self.points]}


def calibrate(
    found: Sequence[Detections],
    gold: Sequence[Tensor],
    n_acc_floor: float = N_ACC_FLOOR,
    thresholds: Sequence[float] = THRESHOLDS,
    fusion_ious: Sequence[float | None] = FUSION_IOUS,
) -> Calibration:
    """Choose threshold and fusion IoU.

    Args:
        found: Every query of every sentence, unfiltered, best first.
        gold: Gold boxes of each sentence `(m, 4)`, m may be 0, in the unit of `found`.
        n_acc_floor: Least N-acc; without sentences that have no box it does not bind.
        thresholds: Score thresholds to try.
        fusion_ious: Fusion IoUs to try.

    Raises:
        ValueError: No sentence has a box, so there is nothing to maximise; or the floor is no share.
    """
    if not 0 <= n_acc_floor <= 1:
        raise ValueError(f"n_acc_floor must be in [0, 1], got {n_acc_floor}")
    boxed = np.array([len(boxes) > 0 for boxes in gold], dtype=np.bool_)
    if not boxed.any():
        raise ValueError("no validation sentence has a box: threshold and fusion cannot be calibrated")
    points = tuple(_sweep(found, gold, boxed, sorted(thresholds), fusion_ious))
    able = [point for point in points if point.n_acc is None or point.n_acc >= n_acc_floor]
    best = max(able, key=_by_finding) if able else max(points, key=_by_silence)
    without = int((~boxed).sum())
    return Calibration(best.threshold, best.fusion_iou, n_acc_floor, bool(able), int(boxed.sum()), without, points)


def _by_finding(point: SweepPoint) -> tuple[float, float, float]:
    """Rank by what is found; of equals the more silent, then the threshold in the middle."""
    return point.p_at_f1, point.n_acc or 0.0, -abs(point.threshold - 0.5)


def _by_silence(point: SweepPoint) -> tuple[float, float]:
    return point.n_acc or 0.0, point.p_at_f1


def _sweep(
    found: Sequence[Detections],
    gold: Sequence[Tensor],
    boxed: NDArray[np.bool_],
    thresholds: Sequence[float],
    fusion_ious: Sequence[float | None],
) -> Iterator[SweepPoint]:
    """Yield a point per pair of settings.

    Boxes come best first, so what is kept of a sentence is told by how many are kept. Each of these prefixes is scored
    once, whatever thresholds lead to it, and fused only where two of its boxes overlap enough.
    """
    limits = torch.tensor(thresholds)
    kept = torch.stack([(one.scores[:, None] > limits).sum(0) for one in found]).numpy()
    prefixes = sorted({(i, int(count)) for i, row in enumerate(kept) for count in row})
    place = {prefix: row for row, prefix in enumerate(prefixes)}
    rows = np.array([[place[i, int(count)] for count in row] for i, row in enumerate(kept)])
    plain = _right(
        [Detections(found[i].boxes[:count], found[i].scores[:count]) for i, count in prefixes], gold, prefixes
    )
    widest = _overlaps(found)
    for fusion_iou in fusion_ious:
        right = plain.copy()
        if fusion_iou is not None:
            fuse = Postprocess(threshold=-math.inf, fusion_iou=fusion_iou).keep
            some = [row for row, (i, count) in enumerate(prefixes) if widest[i, count] > fusion_iou]
            merged = [
                fuse(Detections(found[i].boxes[:n], found[i].scores[:n])) for i, n in (prefixes[row] for row in some)
            ]
            right[some] = _right(merged, gold, [prefixes[row] for row in some])
        for column, threshold in enumerate(thresholds):
            values = right[rows[:, column]]
            silent = float(values[~boxed].mean()) if not boxed.all() else None
            yield SweepPoint(threshold, fusion_iou, float(values[boxed].mean()), silent)


def _right(shown: Sequence[Detections], gold: Sequence[Tensor], prefixes: Sequence[tuple[int, int]]) -> Array:
    """Return for each prefix whether it answers its sentence exactly; without gold: whether it is empty."""
    preds = [{"boxes": one.boxes, "scores": one.scores} for one in shown]
    return phrase_outcomes(preds, [{"boxes": gold[i]} for i, _ in prefixes], threshold=-math.inf)["p_at_f1"]


def _overlaps(found: Sequence[Detections]) -> Array:
    """Return the largest IoU between two of the first `k` boxes, `(sentences, queries + 1)`."""
    counts = np.array([len(one.scores) for one in found], dtype=np.int64)
    flat = np.concatenate([one.boxes.double().reshape(-1, 4).numpy() for one in found])
    boxes, _ = pad(flat, counts)
    iou = np.tril(pairwise_overlap(boxes, boxes)[0], k=-1)
    return np.pad(np.maximum.accumulate(iou.max(axis=2, initial=0.0), axis=1), ((0, 0), (1, 0)))
