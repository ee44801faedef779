"""Phrase grounding metrics, with every choice that public tables leave open made explicit.

P@(F1=1), N-acc and T-acc follow generalised referring expression comprehension (He et al., GREC, 2023). Here the
overlap (`iou` or `giou`, the latter being what the GREC code computes), the matching and the thresholds are named, and
what has no defined value is NaN, not 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medvl.metrics.boxes import Array, pad, pairwise_overlap, union_iou
from medvl.metrics.items import Item, flat_boxes, flat_scores, same_length
from medvl.metrics.sums import SUBSETS, SumMetric, ratio

Overlap = Literal["iou", "giou"]
Matching = Literal["optimal", "greedy"]


class GrefChoices(TypedDict):
    """Arguments of `GroundingMetrics` and `phrase_outcomes`."""

    threshold: float
    iou_threshold: float
    overlap: Overlap
    matching: Matching


# `GroundingMetrics(**GREF)` is the public code of GREC (gRefCOCO, refexp.py): GIoU, greedy, scores >= 0.7 (below, the
# greatest float32 under it, since ours are kept when greater).
GREF: GrefChoices = {"threshold": 0.6999999284744263, "iou_threshold": 0.5, "overlap": "giou", "matching": "greedy"}

# Each metric, and what it is a mean over.
_MEAN_OVER = {"p_at_f1": "phrases", "t_acc": "phrases", "miou": "phrases", "coverage": "boxes", "center_hit": "boxes"}
_COLUMNS = ("phrases", "boxes", *_MEAN_OVER)
_CHUNK = 512  # phrases handled at once


class GroundingMetrics(SumMetric):
    """Grounding metrics over phrases with zero, one or many gold boxes.

    A prediction is kept when its score > `threshold`. A phrase is right when its F1 is 1: every kept box is matched
    one to one with a gold box, at an overlap >= `iou_threshold`, and none is left over on either side.

    `compute` returns (all higher is better; NaN where no phrase defines the value):

    - `p_at_f1`: share of phrases that are right; a phrase without gold is right when nothing is kept.
    - `n_acc`: share of phrases without gold for which nothing is kept.
    - `t_acc`: share of phrases with gold for which something is kept, wherever it is.
    - `miou`: over phrases with gold, IoU of the union of the kept boxes with the union of the gold boxes.
    - `coverage`: over gold boxes, the best IoU with a kept box.
    - `center_hit`: share of gold boxes that contain the centre of a kept box.
    - `p_at_f1/zero`, `/single`, `/multi`, `/boxed`: by gold count 0, 1, >= 2, >= 1; `/single` and `/multi` of the
      others but `n_acc`.

    Args:
        threshold: Score above which a prediction is kept.
        iou_threshold: Overlap from which a pair counts as found, in (0, 1].
        overlap: Which overlap decides that. GIoU <= IoU, so `giou` is stricter.
        matching: `optimal` finds the most pairs possible; `greedy` takes the best pair first, again and again (GREC).
        kwargs: Passed to `torchmetrics.Metric`.

    Example:
        >>> from torch import tensor
        >>> metric = GroundingMetrics(threshold=0.5)
        >>> metric.update(
        ...     [{"boxes": tensor([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]), "scores": tensor([0.9, 0.2])}],
        ...     [{"boxes": tensor([[0.1, 0.1, 0.5, 0.4]])}],
        ... )
        >>> values = metric.compute()
        >>> round(values["p_at_f1"].item(), 2), round(values["miou"].item(), 2)
        (1.0, 0.75)
    """

    higher_is_better = True

    def __init__(
        self,
        threshold: float = 0.5,
        iou_threshold: float = 0.5,
        overlap: Overlap = "iou",
        matching: Matching = "optimal",
        **kwargs: Any,
    ) -> None:
        super().__init__(rows=3, columns=len(_COLUMNS), **kwargs)
        _check_choices(iou_threshold, overlap, matching)
        self.threshold, self.iou_threshold = threshold, iou_threshold
        self.overlap, self.matching = overlap, matching

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases.

        Args:
            preds: Per phrase `{"boxes": (n, 4) xyxy, "scores": (n,)}`.
            targets: Per phrase `{"boxes": (m, 4) xyxy}`, in the unit of `preds`.

        Raises:
            ValueError: For a wrong shape, a value that is not finite, or an inverted box.
        """
        found = phrase_outcomes(
            preds,
            targets,
            threshold=self.threshold,
            iou_threshold=self.iou_threshold,
            overlap=self.overlap,
            matching=self.matching,
        )
        weights = {"phrases": np.ones_like(found["n_gold"]), "boxes": found["n_gold"]}
        columns = list(weights.values())
        columns += [found[name] * weights[over] for name, over in _MEAN_OVER.items()]
        self._add(found["n_gold"].clip(max=2).astype(np.int64), np.stack(columns, axis=1))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        totals = self._sums()

        def mean(name: str, groups: list[int]) -> float:
            row = dict(zip(_COLUMNS, totals[groups].sum(axis=0), strict=True))
            return ratio(row[name], row[_MEAN_OVER[name]])

        values = {"p_at_f1": mean("p_at_f1", [0, 1, 2]), "n_acc": mean("p_at_f1", [0])}
        values |= {name: mean(name, [1, 2]) for name in _MEAN_OVER if name != "p_at_f1"}
        values |= {f"p_at_f1/{subset}": mean("p_at_f1", groups) for subset, groups in SUBSETS.items()}
        for name in list(_MEAN_OVER)[1:]:
            values |= {f"{name}/{subset}": mean(name, SUBSETS[subset]) for subset in ("single", "multi")}
        return self._scalars(values)


def phrase_outcomes(
    preds: Sequence[Item],
    targets: Sequence[Item],
    *,
    threshold: float = 0.5,
    iou_threshold: float = 0.5,
    overlap: Overlap = "iou",
    matching: Matching = "optimal",
) -> dict[str, Array]:
    """Score each phrase on its own: what `GroundingMetrics` adds up and what the bootstrap resamples.

    Args:
        preds: As in `GroundingMetrics.update`.
        targets: As in `GroundingMetrics.update`.
        threshold: Score above which a prediction is kept.
        iou_threshold: Overlap from which a pair counts as found.
        overlap: `iou` or `giou`.
        matching: `optimal` or `greedy`.

    Returns:
        Arrays `(phrases,)`: `n_gold`, `n_kept`, `tp`, `f1`, `p_at_f1`, `n_acc`, `t_acc`, `miou`, `coverage` and
        `center_hit`, NaN where the phrase does not define the value. The last two are means over the phrase's gold
        boxes: weight them by `n_gold`.

    Raises:
        ValueError: For a wrong shape, a value that is not finite, or an inverted box.
    """
    _check_choices(iou_threshold, overlap, matching)
    same_length(preds, targets)
    boxes, n_boxes = flat_boxes(preds, "preds")
    gold, n_gold = flat_boxes(targets, "targets")
    keep = (flat_scores(preds, n_boxes) > threshold).numpy()
    owner = np.repeat(np.arange(len(preds)), n_boxes)
    n_kept = np.bincount(owner[keep], minlength=len(preds)).astype(np.int64)
    rows = [
        _score(*kept, *true, iou_threshold, overlap, matching)
        for kept, true in zip(blocks(boxes[keep], n_kept), blocks(gold, n_gold), strict=True)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def blocks(boxes: Array, counts: NDArray[np.int64]) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
    """Yield padded boxes and their mask for `_CHUNK` phrases at a time; one empty block when there are no phrases."""
    at = np.concatenate([[0], np.cumsum(counts)])
    for start in range(0, max(len(counts), 1), _CHUNK):
        part = counts[start : start + _CHUNK]
        yield pad(boxes[at[start] : at[start + len(part)]], part)


def _score(
    kept: Array,
    is_kept: NDArray[np.bool_],
    gold: Array,
    is_gold: NDArray[np.bool_],
    iou_threshold: float,
    overlap: Overlap,
    matching: Matching,
) -> dict[str, Array]:
    n_kept, n_gold = is_kept.sum(1), is_gold.sum(1)
    iou, giou = pairwise_overlap(kept, gold)
    real = is_kept[:, :, None] & is_gold[:, None]
    found = np.where(real, iou if overlap == "iou" else giou, -np.inf)
    match = _greedy if matching == "greedy" else _optimal
    tp = match(found, iou_threshold)
    centre = ((kept[..., :2] + kept[..., 2:]) / 2)[:, :, None]
    inside = ((gold[:, None, :, :2] <= centre) & (centre <= gold[:, None, :, 2:])).all(-1) & real
    nothing = n_kept == 0
    boxed = np.where(n_gold > 0, 1.0, np.nan)
    f1 = np.where(n_kept + n_gold > 0, 2 * tp / np.maximum(n_kept + n_gold, 1), 1.0)
    return {
        "n_gold": n_gold.astype(np.float64),
        "n_kept": n_kept.astype(np.float64),
        "tp": tp.astype(np.float64),
        "f1": f1,
        "p_at_f1": ((tp == n_kept) & (tp == n_gold)).astype(np.float64),
        "n_acc": np.where(n_gold > 0, np.nan, nothing),
        "t_acc": boxed * ~nothing,
        "miou": boxed * union_iou(kept, gold),
        "coverage": boxed * iou.max(axis=1, initial=0.0).sum(1) / np.maximum(n_gold, 1),
        "center_hit": boxed * inside.any(axis=1).sum(1) / np.maximum(n_gold, 1),
    }


def _optimal(overlaps: Array, iou_threshold: float) -> NDArray[np.int64]:
    """Count the pairs of the largest one-to-one matching among pairs that overlap enough; `(n, k, m)` to `(n,)`."""
    good = overlaps >= iou_threshold
    counts = np.zeros(len(good), dtype=np.int64)
    counts[good.any(axis=(1, 2))] = 1
    # Only where two or more boxes on each side have a partner is there anything to assign.
    for i in np.flatnonzero((good.any(2).sum(1) > 1) & (good.any(1).sum(1) > 1)):
        counts[i] = good[i][linear_sum_assignment(good[i], maximize=True)].sum()
    return counts


def _greedy(overlaps: Array, iou_threshold: float) -> NDArray[np.int64]:
    """Count the pairs found by taking the best remaining pair, again and again (GREC); `(n, k, m)` to `(n,)`."""
    left, phrases = overlaps.copy(), np.arange(len(overlaps))
    counts = np.zeros(len(overlaps), dtype=np.int64)
    for _ in range(min(overlaps.shape[1:])):
        row, column = np.divmod(left.reshape(len(left), -1).argmax(axis=1), left.shape[2])
        counts += left[phrases, row, column] >= iou_threshold
        left[phrases, row], left[phrases, :, column] = -np.inf, -np.inf
    return counts


def _check_choices(iou_threshold: float, overlap: str, matching: str) -> None:
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
    for name, value, choices in (("overlap", overlap, get_args(Overlap)), ("matching", matching, get_args(Matching))):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
