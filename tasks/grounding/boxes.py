"""Box arithmetic for pairs of boxes laid side by side (torchvision has the all-pairs forms)."""

from __future__ import annotations

import torch
from torch import Tensor


def to_xyxy(boxes: Tensor) -> Tensor:
    """Convert `(..., 4)` from centre and size to corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert `(..., 4)` from corners to centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and union area of corresponding xyxy boxes `(..., 4)`; 0 where both are empty."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = overlap.prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    union = area_a + area_b - shared
    return shared / union.clamp(min=1e-9), union


def paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU (arXiv 1902.09630) of corresponding xyxy boxes, in [-1, 1], finite throughout."""
    iou, union = paired_iou(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    area = hull.clamp(min=0).prod(-1)
    return iou - (area - union) / area.clamp(min=1e-9)


def inverse_sigmoid(x: Tensor, eps: float = 1e-4) -> Tensor:
    """Return the logit of `x`, clamped away from 0 and 1."""
    x = x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))
