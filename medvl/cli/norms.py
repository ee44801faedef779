"""A warning about BatchNorm on several ranks, whose statistics are each rank's own unless they are shared."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class NormCheck(Callback):
    """Warns once, where training begins on several ranks, of BatchNorm that is neither frozen nor synchronised."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the model, after Lightning has put SyncBatchNorm in if asked to."""
        count = trainer.world_size > 1 and len(training_norms(pl_module))
        if count:
            rank_zero_warn(
                f"{count} BatchNorm layers learn from what each rank sees alone, so {trainer.world_size} ranks do not "
                "train as one process: --trainer.sync_batchnorm true shares their statistics; `norm: frozen` or "
                "`norm: group` of the encoder does without"
            )


def training_norms(model: nn.Module) -> list[str]:
    """Return the names of the layers whose output depends on which other items this rank's batch holds."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm) and layer.training
    ]
