"""Whether two models differ: every headline metric on the same sentences, with paired patient-level intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medvl.metrics.bootstrap import Interval, bootstrap_statistics
from medvl.metrics.boxes import Array
from medvl.metrics.grounding import phrase_outcomes
from medvl.metrics.groups import groups_of
from medvl.metrics.items import Item
from medvl.metrics.pairing import Pairs
from medvl.metrics.ranking import Ranked, average_precision, calibration_sums, rank_boxes, sensitivity_at
from medvl.metrics.rodeo import PARTS, rodeo_outcomes
from medvl.metrics.set_f1 import IOUS
from medvl.outputs import PhrasePrediction, PixelBox

RANKED = ("froc/mean", "ap_50", "ece")
LOWER_IS_BETTER = ("ece",)
_GROUPED = ("p_at_f1/boxed", "n_acc", "miou")


@dataclass(frozen=True)
class Row:
    """One metric of two models.

    Attributes:
        metric: Its name, as in a run's `metrics.jsonl`.
        group: `sex=F` and the like; empty for all sentences.
        sentences: How many define it.
        patients: Of how many patients.
        first: The first model's value and interval.
        second: The second's.
        difference: Second minus first, on the same draws.
    """

    metric: str
    group: str
    sentences: int
    patients: int
    first: Interval
    second: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """What the second model is, by the interval of the difference: `better`, `worse`, `no difference` or `-`."""
        low, high = self.difference.low, self.difference.high
        if np.isnan(low):
            return "-"
        if low <= 0 <= high:
            return "no difference"
        return "better" if (low > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class _Ratio:
    """A metric that is a sum over a sum of the phrases; NaN values leave phrases out."""

    values: Array
    weights: Array

    def parts(self) -> tuple[Array, Array]:
        used = ~np.isnan(self.values) & (self.weights > 0)
        weights = np.where(used, self.weights, 0.0)
        return np.where(used, self.values, 0.0) * weights, weights


def compare(pairs: Pairs, n: int = 2000, seed: int = 0, level: float = 0.95) -> list[Row]:
    """Return every headline metric of both models, and their difference, overall and by group.

    Ratios of sums over phrases, and, where both files hold every box that was proposed, FROC, average precision and
    calibration error. All are taken on the same draws of patients, which cancels how hard these are.

    Args:
        pairs: The two models' lines.
        n: Draws.
        seed: Of the draws.
        level: Coverage of the intervals; not corrected for the number of rows.
    """
    both = [phrase_ratios(lines) for lines in (pairs.first, pairs.second)]
    names = [(name, "", np.ones(len(pairs.first), dtype=np.bool_)) for name in both[0]]
    for key, values in groups_of(pairs.first).items():
        names += [(name, f"{key}={value}", mask) for value, mask in values.items() for name in _GROUPED]
    columns = [[_masked(side[name], mask).parts() for name, _, mask in names] for side in both]
    tops, bottoms = (np.stack([[part[i] for part in side] for side in columns]) for i in (0, 1))
    ranked = [_proposed(lines) for lines in (pairs.first, pairs.second)]
    rankings = [one for one in ranked if one is not None]
    rank = _rank_statistics(rankings) if len(rankings) == 2 else None

    def statistics(draws: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = [(draws @ top.T) / (draws @ bottom.T) for top, bottom in zip(tops, bottoms, strict=True)]
        if rank:
            values = [np.concatenate(some, axis=1) for some in zip(values, rank(draws), strict=True)]
        return np.concatenate([*values, values[1] - values[0]], axis=1)

    items = 4 * max((len(one.scores) for one in rankings), default=0)  # arrays of that size live at once
    found = bootstrap_statistics(statistics, pairs.patients, n, seed, level, items)
    used = [(bottom > 0) for bottom in bottoms.max(axis=0)]
    if rank:
        names += [(name, "", np.ones(len(pairs.first), dtype=np.bool_)) for name in RANKED]
        used += [np.ones(len(pairs.first), dtype=np.bool_)] * len(RANKED)
    rows = []
    for i, ((name, group, _), mask) in enumerate(zip(names, used, strict=True)):
        people = len(np.unique(pairs.patients[mask]))
        intervals = [_sure(found[i + k * len(names)], people) for k in range(3)]
        rows.append(Row(name, group, int(mask.sum()), people, *intervals))
    return [row for row in rows if row.sentences]


def phrase_ratios(lines: Sequence[PhrasePrediction]) -> dict[str, _Ratio]:
    """Return the metrics that are sums over phrases, from the boxes kept and the gold boxes."""
    kept, gold = [_item(one.boxes_xyxy_px, one.scores) for one in lines], _gold(lines)
    at = {iou: phrase_outcomes(kept, gold, threshold=-np.inf, iou_threshold=iou) for iou in IOUS}
    found, rodeo = phrase_outcomes(kept, gold, threshold=-np.inf), rodeo_outcomes(kept, gold, threshold=-np.inf)
    n_gold, kinds = found["n_gold"], np.array([one.kind for one in lines], dtype=np.str_)
    one = np.ones_like(n_gold)
    subsets = {"": n_gold >= 0, "/boxed": n_gold > 0, "/single": n_gold == 1, "/multi": n_gold > 1}
    ratios = {f"p_at_f1{name}": _masked(_Ratio(found["p_at_f1"], one), mask) for name, mask in subsets.items()}
    ratios["n_acc"] = _Ratio(found["n_acc"], one)
    for kind in sorted(set(kinds[n_gold == 0]) - {""}):
        ratios[f"n_acc/{kind}"] = _masked(ratios["n_acc"], kinds == kind)
    ratios |= {name: _Ratio(found[name], one) for name in ("t_acc", "miou")}
    ratios |= {name: _Ratio(found[name], n_gold) for name in ("coverage", "center_hit")}
    ratios |= {f"set_f1@{iou:g}/boxed": _masked(_Ratio(at[iou]["f1"], one), n_gold > 0) for iou in IOUS}
    return ratios | {f"rodeo/{part}": _Ratio(rodeo[part], rodeo["weight"]) for part in PARTS}


def _rank_statistics(ranked: Sequence[Ranked]) -> Callable[[Array], list[Array]]:
    """Return a function from draws to `(draws, 3)` of each model: mean FROC, average precision, calibration error."""
    bins = [calibration_sums(one) for one in ranked]

    def statistics(draws: Array) -> list[Array]:
        values = []
        for one, (place, rows) in zip(ranked, bins, strict=True):
            weight, gold = draws[:, one.phrase], draws @ one.n_gold
            found, false = weight * one.hit, weight * ~one.hit
            froc = sensitivity_at(one.scores, found, false, gold, draws.sum(axis=1)).mean(axis=1)
            gaps = np.zeros((place.max(initial=0) + 1, len(one.scores)))
            gaps[place, np.arange(len(place))] = rows[:, 1] - rows[:, 2]
            with np.errstate(invalid="ignore"):
                ece = np.abs(weight @ gaps.T).sum(axis=1) / weight.sum(axis=1)
            values.append(np.stack([froc, average_precision(one.scores, found, false, gold), ece], axis=1))
        return values

    return statistics


def _proposed(lines: Sequence[PhrasePrediction]) -> Ranked | None:
    """Rank every proposed box; None where a file holds only what was kept, or scores are no probabilities."""
    if not any(one.all_scores for one in lines) or any(one.scores and not one.all_scores for one in lines):
        return None
    if any(not 0 <= score <= 1 for one in lines for score in one.all_scores):
        return None
    return rank_boxes([_item(one.all_boxes_xyxy_px, one.all_scores) for one in lines], _gold(lines))


def _masked(ratio: _Ratio, mask: NDArray[np.bool_]) -> _Ratio:
    return _Ratio(np.where(mask, ratio.values, np.nan), ratio.weights)


def _sure(interval: Interval, patients: int) -> Interval:
    """Return no bounds where a single patient defines the value: resampling says nothing of it."""
    return interval if patients > 1 else Interval(interval.mean, np.nan, np.nan)


def _item(boxes: Sequence[PixelBox], scores: Sequence[float]) -> Item:
    return {"boxes": _tensor(boxes), "scores": torch.tensor(scores, dtype=torch.float64)}


def _gold(lines: Sequence[PhrasePrediction]) -> list[Item]:
    return [{"boxes": _tensor(one.gold_xyxy_px or ())} for one in lines]


def _tensor(boxes: Sequence[PixelBox]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
