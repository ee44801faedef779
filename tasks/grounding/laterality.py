"""Laterality check: mirror the image and swap left and right in the words, and the boxes must mirror.

A model that passes over the words left and right, or shows one side by habit, gives itself away without any gold box.
What the check cannot see: a model that goes by the words alone, or takes left for right throughout, mirrors perfectly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules.batches import GroundingBatch
from medvl.metrics import GroundingMetrics
from medvl.sides import names_side, swap_sides
from tasks.grounding.predictions import SentenceResult

Answer = Callable[[GroundingBatch], Sequence[SentenceResult]]


def mirror(batch: GroundingBatch) -> GroundingBatch:
    """Return the batch as the mirror shows it: pixels, boxes, and the words left and right.

    Sentences that have no true wording there (see `swap_sides`) keep theirs. Boxes predicted for it come back in the
    pixels of the original image, since the transforms undo the mirror.
    """
    return replace(
        batch,
        images=batch.images.flip(-1),
        valid=batch.valid.flip(-1),
        phrases=[swap_sides(phrase) or phrase for phrase in batch.phrases],
        boxes=[_mirrored(boxes) for boxes in batch.boxes],
        image_boxes=[_mirrored(boxes) for boxes in batch.image_boxes],
        transforms=[transform.mirrored() for transform in batch.transforms],
    )


def _mirrored(boxes: Tensor) -> Tensor:
    """Mirror xyxy boxes `(n, 4)` in [0, 1] left to right."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([1 - x1, y0, 1 - x0, y1], dim=-1)


class Laterality(nn.Module):
    """Adds up how far answers for images agree with those for their mirror images.

    `compute` returns shares of the sentences for which boxes are shown, NaN without any: `laterality/sided`, that get
    the same boxes (one to one at the IoU) in the mirror, of sentences that say left or right; `laterality/plain`, of
    the others. The second is how well the model bears mirrored anatomy at all; a first that is far lower is a confusion
    of sides.

    Args:
        iou_threshold: IoU from which two boxes are the same.
    """

    def __init__(self, iou_threshold: float = 0.5) -> None:
        super().__init__()
        self.sided = GroundingMetrics(threshold=-math.inf, iou_threshold=iou_threshold)
        self.plain = GroundingMetrics(threshold=-math.inf, iou_threshold=iou_threshold)

    def update(self, batch: GroundingBatch, results: Sequence[SentenceResult], answer: Answer) -> None:
        """Ask again in the mirror.

        Args:
            batch: Images and sentences.
            results: What the model says of them.
            answer: The model.
        """
        again = answer(mirror(batch))
        fair = [i for i, phrase in enumerate(batch.phrases) if swap_sides(phrase) is not None]
        for metric, wanted in ((self.sided, True), (self.plain, False)):
            chosen = [i for i in fair if names_side(batch.phrases[i]) == wanted]
            metric.update(
                [{"boxes": again[i].kept.boxes, "scores": again[i].kept.scores} for i in chosen],
                [{"boxes": results[i].kept.boxes} for i in chosen],
            )

    def compute(self) -> dict[str, Tensor]:
        """Return the shares named above, and start anew."""
        parts = {"sided": self.sided, "plain": self.plain}
        values = {f"laterality/{name}": part.compute()["p_at_f1/boxed"] for name, part in parts.items()}
        self.sided.reset()
        self.plain.reset()
        return values


class LateralityCheck(Callback):
    """Logs `test/laterality/...`, at the price of a second pass: `--trainer.callbacks+=LateralityCheck`."""

    def __init__(self) -> None:
        self.laterality = Laterality()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count where the model is: sums are reduced between ranks there."""
        self.laterality.to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GroundingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask again in the mirror."""
        self.laterality.update(batch, outputs, lambda mirrored: pl_module.predict_step(mirrored, batch_idx))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares."""
        pl_module.log_dict({f"test/{name}": value for name, value in self.laterality.compute().items()}, sync_dist=True)
