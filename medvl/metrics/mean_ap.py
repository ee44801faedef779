"""Mean average precision of COCO, through torchmetrics and pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.utilities import dim_zero_cat

from medvl.metrics.items import Item, flat_boxes, flat_scores, same_length

_KEPT = ("map", "map_50", "map_75")
_STATES = ("boxes", "scores", "counts", "gold", "gold_counts")


class PhraseMeanAP(Metric):
    """mAP of boxes by score: every phrase counts as an image of its own, with the phrase as the only class.

    `compute` returns `map` (mean over IoU 0.50 to 0.95), `map_50` and `map_75`; NaN without gold boxes. Hand in every
    box that a model proposes. The states are this class's own, since those of torchmetrics 1.9 cannot be gathered from
    ranks with different numbers of images.

    Args:
        kwargs: Passed to `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in _STATES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[Item], targets: Sequence[Item]) -> None:
        """Add phrases; arguments and errors as in `GroundingMetrics.update`."""
        same_length(preds, targets)
        boxes, counts = flat_boxes(preds, "preds")
        gold, gold_counts = flat_boxes(targets, "targets")
        arrays = map(torch.from_numpy, (boxes, counts, gold, gold_counts))
        values = dict(zip(("boxes", "counts", "gold", "gold_counts"), arrays, strict=True))
        for name, value in (values | {"scores": flat_scores(preds, counts)}).items():
            getattr(self, name).append(value.reshape(-1).float().to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics named above, as scalar float tensors."""
        flat = {name: dim_zero_cat(part) if len(part := getattr(self, name)) else torch.zeros(0) for name in _STATES}
        counts, gold_counts = flat["counts"].long().tolist(), flat["gold_counts"].long().tolist()
        preds = _split(flat["boxes"], counts)
        for item, scores in zip(preds, torch.split(flat["scores"], counts), strict=True):
            item["scores"] = scores
        inner = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend="pycocotools", sync_on_compute=False)
        inner.update(preds, _split(flat["gold"], gold_counts))
        values = inner.compute()
        return {name: torch.where(values[name] < 0, torch.nan, values[name]).to(self.device) for name in _KEPT}


def _split(boxes: Tensor, counts: list[int]) -> list[dict[str, Tensor]]:
    """Return the boxes of each phrase, of class 0."""
    parts = torch.split(boxes.reshape(-1, 4), counts)
    return [{"boxes": part, "labels": torch.zeros(len(part), dtype=torch.int64, device=part.device)} for part in parts]
