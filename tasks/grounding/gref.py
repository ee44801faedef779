"""The figures of GREC's public code beside ours, so that a run can be held against tables that were made with it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.batches import GroundingBatch
from medvl.metrics import GREF, GroundingMetrics

_NAMES = ("p_at_f1", "n_acc", "t_acc")  # what that code computes; the rest has no threshold of its own there


class GrefMetrics(Callback):
    """Logs `test/gref/...`, what gRefCOCO's code makes of a test: `--trainer.callbacks+=GrefMetrics`.

    GIoU in place of IoU, greedy matching, and every query that scores >= 0.7: neither the calibrated threshold nor
    fusion has a part in it.
    """

    def __init__(self) -> None:
        self.metrics = GroundingMetrics(**GREF)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew, where the model is: sums are reduced between ranks there."""
        self.metrics.to(pl_module.device).reset()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GroundingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add every query of a batch."""
        found = [{"boxes": result.found.boxes, "scores": result.found.scores} for result in outputs]
        self.metrics.update(found, [{"boxes": result.gold()} for result in outputs])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures, with their subsets."""
        values = {name: value for name, value in self.metrics.compute().items() if name.split("/")[0] in _NAMES}
        pl_module.log_dict({f"test/gref/{name}": value for name, value in values.items()}, sync_dist=True)
