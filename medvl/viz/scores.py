"""The report's figures: metrics by kind of phrase with patient-bootstrap intervals, and the threshold sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medvl.metrics.bootstrap import Interval, patient_bootstrap
from medvl.metrics.boxes import Array
from medvl.metrics.grounding import phrase_outcomes
from medvl.metrics.groups import groups_of
from medvl.outputs import PhrasePrediction, PixelBox
from medvl.viz.chart import Line, line_chart
from medvl.viz.page import table

METRICS = {
    "p_at_f1": "P@(F1=1)",
    "n_acc": "N-acc",
    "t_acc": "T-acc",
    "miou": "mIoU",
    "coverage": "Coverage",
    "center_hit": "Centre hit",
}
KINDS = {"negated": "negated or normal", "absent": "finding not in this image", "zero": "not said why"}
# By group: a metric and whether it is taken of phrases with boxes only.
_BY_GROUP = {"P@(F1=1), with boxes": ("p_at_f1", True), "N-acc": ("n_acc", False), "mIoU": ("miou", False)}
READERS = ("Read by a second reader", "that reader in place of the model")
_PER_BOX = ("coverage", "center_hit")


@dataclass(frozen=True)
class Scores:
    """Test predictions with what each is worth.

    Attributes:
        predictions: Those whose gold is known.
        outcomes: As of `phrase_outcomes`, on the boxes kept.
        patients: Salted patient of each phrase; phrases without one count as patients of their own.
    """

    predictions: list[PhrasePrediction]
    outcomes: dict[str, Array]
    patients: NDArray[np.str_]

    @classmethod
    def of(cls, predictions: Sequence[PhrasePrediction]) -> Scores:
        """Score what can be scored."""
        known = [one for one in predictions if one.gold_xyxy_px is not None]
        patients = np.array([one.patient or f"phrase {i}" for i, one in enumerate(known)], dtype=np.str_)
        kept = [_found(one.boxes_xyxy_px, one.scores) for one in known]
        return cls(known, phrase_outcomes(kept, _gold(known), threshold=-np.inf), patients)

    def subsets(self) -> dict[str, tuple[NDArray[np.bool_], bool]]:
        """Return the rows of the table: a mask of phrases, and whether it is a part of the row above."""
        gold, kinds = self.outcomes["n_gold"], np.array([one.kind for one in self.predictions], dtype=np.str_)
        rows = {
            "All phrases": (gold >= 0, False),
            "With boxes": (gold > 0, False),
            "one box": (gold == 1, True),
            "several boxes": (gold > 1, True),
            "Without boxes": (gold == 0, False),
        }
        for kind in sorted(set(kinds[gold == 0]) - {""}, key=lambda name: ([*KINDS, name].index(name), name)):
            rows[KINDS.get(kind, kind)] = ((gold == 0) & (kinds == kind), True)
        return {name: row for name, row in rows.items() if row[0].any()}

    def interval(self, metric: str, mask: NDArray[np.bool_]) -> Interval:
        """Return a metric over a subset, resampling patients."""
        weights = self.outcomes["n_gold"] if metric in _PER_BOX else None
        return patient_bootstrap(np.where(mask, self.outcomes[metric], np.nan), self.patients, weights=weights)

    def table(self) -> str:
        """Return the metric table as HTML."""
        rows = [self._row(name, mask, part) for name, (mask, part) in self.subsets().items()]
        both = [(one, other) for one in self.predictions if (other := one.by_second_reader())]
        if both:  # the ceiling, and the model on the same phrases
            for name, scores in zip(READERS, map(Scores.of, zip(*both, strict=True)), strict=True):
                rows.append(scores._row(name, np.ones(len(both), dtype=np.bool_), name == READERS[1]))
        text = "Test set. Small figures: 95 % interval, patients resampled 2,000 times. All higher is better."
        return table(text, ["", "Phrases", "Patients", *METRICS.values()], rows)

    def _row(self, name: str, mask: NDArray[np.bool_], part: bool) -> tuple[str, list[str], bool]:
        return name, [*self._counts(mask), *(cell(self.interval(metric, mask)) for metric in METRICS)], part

    def _counts(self, mask: NDArray[np.bool_]) -> list[str]:
        return [f"{mask.sum():,}", f"{len(np.unique(self.patients[mask])):,}"]

    def by_group(self) -> str:
        """Return the table by sex, age, view and scanner as HTML; empty where no phrase names any of them."""
        boxed, rows = self.outcomes["n_gold"] > 0, []
        for key, values in groups_of(self.predictions).items():
            every = np.array([key in one.groups for one in self.predictions], dtype=np.bool_)
            for name, mask in {key.capitalize(): every, **values}.items():
                kept = [self.interval(metric, mask & boxed if only else mask) for metric, only in _BY_GROUP.values()]
                rows.append((name, [*self._counts(mask), *map(cell, kept)], mask is not every))
        text = "Test set, by what the data say of each image; intervals as above. Nothing is corrected for many groups."
        return table(text, ["", "Phrases", "Patients", *_BY_GROUP], rows) if rows else ""

    def tiles(self) -> list[tuple[str, Interval]]:
        """Return the figures to begin with."""
        subsets = {name: mask for name, (mask, _) in self.subsets().items()}
        wanted = {
            "P@(F1=1), phrases with boxes": ("p_at_f1", "With boxes"),
            "N-acc, negated and normal phrases": ("n_acc", KINDS["negated"]),
            "N-acc, findings not in this image": ("n_acc", KINDS["absent"]),
            "mIoU, phrases with boxes": ("miou", "With boxes"),
        }
        return [
            (title, self.interval(metric, subsets[name])) for title, (metric, name) in wanted.items() if name in subsets
        ]

    def sweep(self, count: int = 33) -> str:
        """Draw how the balance between boxes and silence moves with the threshold; empty without every query's box."""
        if not self.predictions or not all(one.all_scores for one in self.predictions):
            return ""
        preds = [_found(one.all_boxes_xyxy_px, one.all_scores) for one in self.predictions]
        targets = _gold(self.predictions)
        subsets = {name: mask for name, (mask, _) in self.subsets().items()}
        names = {"P@(F1=1), with boxes": "With boxes", **{f"N-acc, {kind}": kind for kind in KINDS.values()}}
        used = {label: subsets[name] for label, name in names.items() if name in subsets}
        thresholds = np.linspace(0, 1, count, endpoint=False)
        curves: dict[str, list[float]] = {label: [] for label in used}
        for threshold in thresholds:
            right = phrase_outcomes(preds, targets, threshold=float(threshold))["p_at_f1"]
            for label, mask in used.items():
                curves[label].append(float(right[mask].mean()))
        lines = [Line(label, thresholds.tolist(), values) for label, values in curves.items()]
        chosen = self.predictions[0].threshold
        return line_chart(
            "Test set by threshold, boxes not fused",
            lines,
            "score threshold",
            (0, 1),
            (chosen, f"used here: {chosen:.2f}"),
        )


def cell(interval: Interval) -> str:
    """Return a figure with its interval as HTML; a dash where the metric is not defined."""
    if np.isnan(interval.mean):
        return "–"
    bounds = "" if np.isnan(interval.low) else f"<small>{interval.low:.3f} to {interval.high:.3f}</small>"
    return f"{interval.mean:.3f}{bounds}"


def _found(boxes: Sequence[PixelBox], scores: Sequence[float]) -> dict[str, torch.Tensor]:
    return {"boxes": _boxes(boxes), "scores": torch.tensor(scores, dtype=torch.float64)}


def _gold(predictions: Sequence[PhrasePrediction]) -> list[dict[str, torch.Tensor]]:
    return [{"boxes": _boxes(one.gold_xyxy_px or ())} for one in predictions]


def _boxes(boxes: Sequence[PixelBox]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
