"""What could be read no more on the way: counted over the ranks, told, and logged beside the metrics."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn


class LostRows(Callback):
    """Asks the data at the end of each epoch (`SourceData.settle`) what it has lost, and logs it.

    As `train/lost`, `val/lost` and `test/lost`: a figure of evaluation is of fewer rows then, and whoever reads it must
    know. Nothing is logged where nothing is lost.
    """

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._settle(trainer, pl_module, "train")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._settle(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._settle(trainer, pl_module, "test")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._settle(trainer, pl_module, "")

    def _settle(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        settle = getattr(getattr(trainer, "datamodule", None), "settle", None)
        lost: dict[str, int] = settle() if settle is not None else {}
        for split, rows in lost.items():
            if rows > self.told.get(split, 0):
                rank_zero_warn(f"{rows} rows of {split} could be read no more and are not in their batches")
        self.told = lost
        if lost.get(stage):
            module.log(f"{stage}/lost", float(lost[stage]), sync_dist=True)  # the same on every rank
