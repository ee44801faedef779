"""What the baselines' losses share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvl.distributed import mean_over_ranks, world_size
from tasks.grounding.boxes import paired_giou, to_cxcywh, to_xyxy


def normaliser(count: float, like: Tensor, training: bool) -> Tensor:
    """Return what to divide a sum over `count` things by: in training the mean over the ranks, so that they agree."""
    own = like.new_tensor(float(count))
    return mean_over_ranks(own).clamp(min=1 / world_size()) if training else own.clamp(min=1)


def box_losses(predicted: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed L1 distance and 1 - GIoU of cxcywh predictions and xyxy gold boxes `(n, 4)`; 0 for none."""
    l1 = F.l1_loss(predicted, to_cxcywh(gold), reduction="sum")
    return l1, (1 - paired_giou(to_xyxy(predicted), gold)).sum()


def hulls(boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return which sentences have boxes `(P,)` and, of these, the smallest box around all of them `(n, 4)` xyxy."""
    boxed = torch.tensor([len(one) > 0 for one in boxes], dtype=torch.bool)
    around = [torch.cat([one[:, :2].amin(0), one[:, 2:].amax(0)]) for one in boxes if len(one)]
    return boxed, torch.stack(around) if around else torch.zeros(0, 4)
