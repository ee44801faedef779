"""From the network's output to boxes in original pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from ensemble_boxes import weighted_boxes_fusion
from torch import Tensor

from medvl.errors import ConfigError
from medvl.geometry import AxisTransform
from tasks.grounding.boxes import to_xyxy

Calibrated = Literal["calibrated"]
PROVISIONAL = 0.5  # threshold and fusion IoU of a model that has not been calibrated


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
        threshold: A box is kept when its score is greater. `calibrated`: as chosen on the validation data and stored in
            the checkpoint (see `calibrate`), 0.5 before that.
        fusion_iou: Kept boxes that overlap more are fused into their score-weighted mean (weighted boxes fusion, arXiv
            1910.13302); null fuses nothing. `calibrated`: as for the threshold.
        n_acc_floor: Share of sentences without a box for which calibration must keep silence.
    """

    threshold: float | Calibrated = "calibrated"
    fusion_iou: float | Calibrated | None = "calibrated"
    n_acc_floor: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.n_acc_floor <= 1:
            raise ConfigError(
                f"n_acc_floor is {self.n_acc_floor:g}", where="model.postprocess", hint="expected a share, 0 to 1"
            )

    def using(self, calibration: Mapping[str, Any] | None) -> Postprocess:
        """Return this with the numbers of a calibration, or provisional ones, in place of `calibrated`."""
        chosen = calibration or {"threshold": PROVISIONAL, "fusion_iou": PROVISIONAL}
        threshold = chosen["threshold"] if self.threshold == "calibrated" else self.threshold
        fusion_iou = chosen["fusion_iou"] if self.fusion_iou == "calibrated" else self.fusion_iou
        return replace(self, threshold=threshold, fusion_iou=fusion_iou)

    @property
    def least_score(self) -> float:
        """The threshold as a number."""
        return PROVISIONAL if self.threshold == "calibrated" else self.threshold

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
        kept = found.above(self.least_score)
        fusion_iou = PROVISIONAL if self.fusion_iou == "calibrated" else self.fusion_iou
        if fusion_iou is None or len(kept.scores) < 2:
            return kept
        return _fuse(kept, fusion_iou)


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
