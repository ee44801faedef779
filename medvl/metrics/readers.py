"""The inter-reader ceiling: a second human reader, scored as if they were a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medvl.metrics.grounding import GroundingMetrics, Matching, Overlap


def inter_reader(
    first: Sequence[Tensor],
    second: Sequence[Tensor | None],
    *,
    iou_threshold: float = 0.5,
    overlap: Overlap = "iou",
    matching: Matching = "optimal",
) -> dict[str, Tensor]:
    """Score the boxes of a second reader against those of the first, which are gold.

    A model that does better on the same phrases agrees with its annotators more than another human does. Phrases
    without a second reader say nothing and are left out, so compare with a model on the rest only.

    Args:
        first: Per phrase the gold boxes `(m, 4)`, xyxy.
        second: Per phrase the second reader's `(n, 4)` in the same unit, n = 0 where they drew nothing; None where
            nobody looked a second time.
        iou_threshold: As in `GroundingMetrics`.
        overlap: As in `GroundingMetrics`.
        matching: As in `GroundingMetrics`.

    Returns:
        What `GroundingMetrics.compute` returns, and `phrases`, how many had a second reader. All else is NaN for none.

    Raises:
        ValueError: The lengths differ, or boxes are unusable.
    """
    pairs = [(gold, drawn) for gold, drawn in zip(first, second, strict=True) if drawn is not None]
    metric = GroundingMetrics(threshold=0.5, iou_threshold=iou_threshold, overlap=overlap, matching=matching)
    metric.update(
        [{"boxes": drawn, "scores": torch.ones(len(drawn))} for _, drawn in pairs],
        [{"boxes": gold} for gold, _ in pairs],
    )
    values: dict[str, Tensor] = metric.compute()
    return values | {"phrases": torch.tensor(float(len(pairs)))}
