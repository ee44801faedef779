"""Several models on the same sentences: every figure with its patient-bootstrap interval, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medvl.metrics.bootstrap import Interval, bootstrap_statistics
from medvl.metrics.grounding import phrase_outcomes
from medvl.metrics.items import Item
from medvl.metrics.ranking import Ranked, rank_boxes, sensitivity_at
from medvl.outputs import PhrasePrediction, PixelBox

Array = NDArray[np.float64]
SUBSETS = {"single": [1], "multi": [2], "boxed": [1, 2], "zero": [0]}  # gold boxes, 2 for two and more
MEANS = {"p_at_f1": ("single", "multi", "boxed", "zero"), "f1": ("single", "multi", "boxed")}
MEANS["miou"] = MEANS["f1"]
NAMES = {"p_at_f1": "p_at_f1", "f1": "set_f1@0.5", "miou": "miou"}
HEADLINE = ("p_at_f1/single", "p_at_f1/multi", "p_at_f1/zero")


@dataclass(frozen=True)
class Judged:
    """The runs of one method with several seeds, on the same sentences.

    Attributes:
        means: `(sentences,)` by metric and subset, averaged over seeds; NaN outside the subset.
        ranked: What each run proposed.
    """

    means: dict[str, Array]
    ranked: list[Ranked]

    @classmethod
    def of(cls, runs: Sequence[Sequence[PhrasePrediction]]) -> Judged:
        """Judge each run's lines."""
        gold = [_item(one.gold_xyxy_px or ()) for one in runs[0]]
        found = [
            phrase_outcomes([_item(o.boxes_xyxy_px, o.scores) for o in run], gold, threshold=-np.inf) for run in runs
        ]
        group, kinds = found[0]["n_gold"].clip(max=2), np.array([one.kind for one in runs[0]])
        masks = {name: np.isin(group, rows) for name, rows in SUBSETS.items()}
        masks |= {f"zero/{kind}": kinds == kind for kind in sorted(set(kinds[group == 0].tolist()))}
        means: dict[str, Array] = {}
        for metric, subsets in MEANS.items():
            value = np.mean([one[metric] for one in found], axis=0)
            chosen = [name for name in masks if name in subsets or (metric == "p_at_f1" and name.startswith("zero/"))]
            means |= {f"{NAMES[metric]}/{name}": np.where(masks[name], value, np.nan) for name in chosen}
        proposed = [[_item(o.all_boxes_xyxy_px, o.all_scores) for o in run] for run in runs]
        return cls(means, [rank_boxes(items, gold) for items in proposed])

    @property
    def names(self) -> list[str]:
        """The metrics, in the order of `statistics`."""
        return [*self.means, "froc/mean", "froc/mean/single", "froc/mean/multi", "froc/mean/zero"]

    def statistics(self, draws: Array) -> Array:
        """Return every metric for how often each sentence is drawn: `(draws, sentences)` to `(draws, metrics)`."""
        values = np.stack(list(self.means.values()))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (draws @ np.nan_to_num(values).T) / (draws @ (~np.isnan(values)).astype(np.float64).T)
        return np.concatenate([ratios, np.mean([_froc(one, draws) for one in self.ranked], axis=0)], axis=1)


def _froc(one: Ranked, draws: Array) -> Array:
    """Return the mean sensitivity over the rates of `FROC`, of all, single, multi and zero, `(draws, 4)`."""
    group, weight = one.n_gold.clip(max=2), draws[:, one.phrase]
    columns = []
    for rows in ([0, 1, 2], [1], [2], [0]):
        counted, sentences = np.isin(group, rows), draws[:, np.isin(group, rows)].sum(axis=1)
        # Of sentences without gold the false boxes count, against what is found on all the others.
        searched = np.ones_like(counted) if rows == [0] else counted
        found, false = (weight * (one.hit & searched[one.phrase]), weight * (~one.hit & counted[one.phrase]))
        gold = draws @ (one.n_gold * searched).astype(np.float64)
        columns.append(sensitivity_at(one.scores, found, false, gold, sentences).mean(axis=1))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Comparison:
    """All methods on the same draws of patients.

    Attributes:
        metrics: By method and metric.
        ahead: How far the first method is ahead, by peer and metric.
    """

    metrics: dict[str, dict[str, Interval]]
    ahead: dict[str, dict[str, Interval]]

    def not_won(self) -> dict[str, list[str]]:
        """Return the metrics on which the first method is not clearly ahead of a peer: the interval reaches 0."""
        lost = {
            peer: [name for name, interval in row.items() if not interval.low > 0 and not np.isnan(interval.mean)]
            for peer, row in self.ahead.items()
        }
        return {peer: names for peer, names in lost.items() if names}


def compare_methods(runs: Mapping[str, Sequence[Sequence[PhrasePrediction]]], draws: int = 1000) -> Comparison:
    """Compare methods, the first with all others.

    Args:
        runs: Predictions of each method and seed, all on the same sentences in the same order.
        draws: Draws of patients.

    Raises:
        ValueError: Two runs speak of other sentences.
    """
    lines = [run for method in runs.values() for run in method]
    keys = [[(one.image, one.phrase) for one in run] for run in lines]
    if any(other != keys[0] for other in keys):
        raise ValueError("the runs speak of other sentences")
    judged = {name: Judged.of(method) for name, method in runs.items()}
    first, *others = judged
    names = judged[first].names

    def statistics(weights: Array) -> Array:
        values = [one.statistics(weights) for one in judged.values()]
        return np.concatenate([*values, *(values[0] - other for other in values[1:])], axis=1)

    items = max(len(ranked.scores) for one in judged.values() for ranked in one.ranked) * 4
    found = bootstrap_statistics(statistics, [one.patient for one in lines[0]], n=draws, items=items)
    rows = [dict(zip(names, found[i : i + len(names)], strict=True)) for i in range(0, len(found), len(names))]
    return Comparison(dict(zip(judged, rows, strict=False)), dict(zip(others, rows[len(judged) :], strict=True)))


def headline(row: Mapping[str, Interval]) -> dict[str, float]:
    """Return P@(F1=1) on sentences with one box, with several, and with none."""
    return {name.rpartition("/")[2]: row[name].mean for name in HEADLINE}


def alone(run: Sequence[PhrasePrediction]) -> dict[str, float]:
    """Return the same of a single run."""
    means = Judged.of([run]).means
    return {name.rpartition("/")[2]: float(np.nanmean(means[name])) for name in HEADLINE}


def _item(boxes: Sequence[PixelBox], scores: Sequence[float] = ()) -> Item:
    places = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    return {"boxes": places, "scores": torch.tensor(scores, dtype=torch.float64)}
