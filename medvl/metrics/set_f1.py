"""SetF1: the F1 of the boxes of each phrase, averaged over phrases, at several IoUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from medvl.metrics.grounding import phrase_outcomes
from medvl.metrics.items import Item
from medvl.metrics.sums import SUBSETS, SumMetric, ratio

IOUS = (0.3, 0.5, 0.7)


class SetF1(SumMetric):
    """Mean over phrases of `2 tp / (kept + gold)`, boxes matched one to one at each IoU.

    Where P@(F1=1) asks for all or nothing, this gives credit for a part. A phrase without gold has F1 1 when nothing
    is kept and 0 otherwise; published tables are of phrases with boxes: `/boxed`.

    `compute` returns `set_f1@0.5` and so on for every IoU, each also as `/boxed`, `/single`, `/multi` (gold counts
    >= 1, 1, >= 2); NaN where no phrase defines it.

    Args:
        threshold: Score above which a prediction is kept.
        ious: IoUs from which a pair counts as found.
        kwargs: Passed to `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, ious: Sequence[float] = IOUS, **kwargs: Any) -> None:
        super().__init__(rows=3, columns=1 + len(ious), **kwargs)
        self.threshold, self.ious = threshold, tuple(ious)

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases; arguments and errors as in `GroundingMetrics.update`."""
        found = [phrase_outcomes(preds, targets, threshold=self.threshold, iou_threshold=iou) for iou in self.ious]
        n_gold = found[0]["n_gold"]
        values = [np.ones_like(n_gold), *(outcome["f1"] for outcome in found)]
        self._add(n_gold.clip(max=2).astype(np.int64), np.stack(values, axis=1))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        sums, values = self._sums(), {}
        for column, iou in enumerate(self.ious, start=1):
            values[f"set_f1@{iou:g}"] = ratio(sums[:, column].sum(), sums[:, 0].sum())
            for subset in ("boxed", "single", "multi"):
                rows = sums[SUBSETS[subset]]
                values[f"set_f1@{iou:g}/{subset}"] = ratio(rows[:, column].sum(), rows[:, 0].sum())
        return self._scalars(values)
