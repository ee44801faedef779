"""From the network's output to boxes in original pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from ensemble_boxes import weighted_boxes_fusion
from torch import Tensor

from medvl.geometry import AxisTransform
from tasks.grounding.boxes import to_xyxy


class ScoredBoxes(Protocol):
    """What every network of this task says of `P` sentences; one may say more, for its criterion."""

    @property
    def logits(self) -> Tensor:
        """Confidence `(L, P, Q)`; of several layers the last is the answer."""

    @property
    def boxes(self) -> Tensor:
        """`(L, P, Q, 4)`, cxcywh in [0, 1] of the network input."""


@dataclass(frozen=True)
class Detections:
    """Boxes of one sentence.

    Attributes:
        boxes: `(n, 4)` xyxy in pixels of the original image, inside it.
        scores: `(n,)` confidence in [0, 1], highest first.
    """

    boxes: Tensor
    scores: Tensor

    def above(self, threshold: float) -> Detections:
        """Return the boxes whose score is greater than `threshold`."""
        keep = self.scores > threshold
        return Detections(self.boxes[keep], self.scores[keep])


@dataclass(frozen=True)
class Postprocess:
    """Maps boxes back to the original image and fuses those that show the same thing.

    Args:
        threshold: A box is kept when its score is greater.
        fusion_iou: Kept boxes that overlap more are fused into their score-weighted mean (weighted boxes fusion, arXiv
            1910.13302); None fuses nothing.
    """

    threshold: float = 0.5
    fusion_iou: float | None = 0.5

    def raw(self, output: ScoredBoxes, index: Tensor, transforms: list[AxisTransform]) -> list[Detections]:
        """Return every query of every sentence, unfiltered, in original pixels, best first.

        Args:
            output: The network's answer for `P` sentences.
            index: `(P,)`, the image of each sentence.
            transforms: From original pixels to the network input, one per image.
        """
        scores = output.logits[-1].detach().float().sigmoid().cpu()
        boxes = to_xyxy(output.boxes[-1].detach().float()).cpu()
        return [_to_pixels(b, s, transforms[i]) for b, s, i in zip(boxes, scores, index.tolist(), strict=True)]

    def keep(self, found: Detections) -> Detections:
        """Return what is shown to the user: boxes above the threshold, fused."""
        kept = found.above(self.threshold)
        if self.fusion_iou is None or len(kept.scores) < 2:
            return kept
        return _fuse(kept, self.fusion_iou)


def _to_pixels(boxes: Tensor, scores: Tensor, transform: AxisTransform) -> Detections:
    height, width = transform.source
    order = scores.argsort(descending=True, stable=True)
    inside = transform.inverse().boxes(boxes[order]).clamp(0, 1)
    return Detections(inside * inside.new_tensor([width, height, width, height]), scores[order])


def _fuse(found: Detections, iou: float) -> Detections:
    # The library works on the unit square and on float64 lists of one "model".
    scale = float(found.boxes.max().clamp(min=1.0))
    boxes, scores, _ = weighted_boxes_fusion(
        [(found.boxes / scale).double().numpy()],
        [found.scores.double().numpy()],
        [np.zeros(len(found.scores))],
        iou_thr=iou,
        skip_box_thr=0.0,
    )
    return Detections(torch.from_numpy(boxes * scale).float(), torch.from_numpy(scores).float())
