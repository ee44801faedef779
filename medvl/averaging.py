"""An exponential moving average of the weights, which is what is validated, kept as `best` and used afterwards."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(WeightAveraging):
    """Lightning's average of the weights as an exponential one, with six things settled.

    A young average forgets faster, `min(decay, (1 + n) / (10 + n))` after `n` steps, so that it does not drag random
    weights along. It lives on the device that trains: Lightning makes it before the model gets there, and each step
    would copy all weights to the CPU. Buffers are copied, not averaged: whole numbers among them would be truncated.
    It takes over the buffers that the model's own `setup` has changed, for those of another shape cannot be swapped.
    What a validation finds for the model to keep, a threshold say, is in its checkpoint.
    Nothing is said where a checkpoint is only used: its `state_dict` holds the average, so that needs no callback.

    A checkpoint holds the weights in training beside the average, so that a run goes on as it was.

    Args:
        decay: Share of the average that a step keeps in the end; about `1 / (1 - decay)` steps are averaged.
    """

    def __init__(self, decay: float = 0.9998) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=self.update)
        self.decay = decay

    def update(self, average: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
        """Move the average of `count` steps to the weights of another one."""
        young = float((1 + count) / (10 + count))
        get_ema_multi_avg_fn(min(self.decay, young))(average, weights, count)  # type: ignore[no-untyped-call]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average, where the model will be."""
        self._device, self._complete = trainer.strategy.root_device, False
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the average, unless it is that of a run that goes on."""
        self._adopt_buffers(pl_module)

    def _adopt_buffers(self, pl_module: LightningModule) -> None:
        if self._average_model is None or self._complete:
            return
        averaged = dict(self._average_model.module.named_modules())
        for name, module in pl_module.named_modules():
            if module._buffers and name in averaged:  # metrics, which have none, may be made anew
                kept = {key: None if value is None else value.clone() for key, value in module._buffers.items()}
                averaged[name]._buffers = kept
        self._complete = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy buffers again before a checkpoint is saved: validation calibrates the weights in training."""
        if self._average_model is not None and self._complete:
            for own, found in zip(self._average_model.module.buffers(), pl_module.buffers(), strict=True):
                own.copy_(found)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average of a run that goes on."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._adopt_buffers(pl_module)
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
