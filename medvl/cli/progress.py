"""Progress as plain lines, for logs: where standard output is no terminal, a bar would show nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

PLURAL = {"step": "steps", "batch": "batches"}
SHARE, QUIET = 0.1, 600.0  # a line for each tenth of the work, and after ten minutes without one


def plain_lines(enabled: bool | None, callbacks: Sequence[Callback]) -> list[Callback]:
    """Return the callback that takes the place of Lightning's bar, where nobody could see that and nobody chose one."""
    chosen = enabled is False or any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [] if chosen or sys.stdout.isatty() else [PlainProgress()]


class PlainProgress(ProgressBar):
    """Prints, on standard error and from rank 0, how far the run is: at each tenth of it and after each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self._begin(0)

    def disable(self) -> None:
        """Say nothing."""
        self.enabled = False

    def enable(self) -> None:
        """Speak again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on counts from where it was."""
        self._begin(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print step, loss, speed and time left, now and then."""
        if self._due(trainer.global_step, trainer.estimated_stepping_batches):
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            shown = {} if loss is None else {"loss": loss}
            self._tell("step", trainer.global_step, trainer.estimated_stepping_batches, shown)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what a validation found."""
        if self.enabled and not trainer.sanity_checking:
            found = dict(trainer.progress_bar_metrics)
            found.pop("loss", None)  # that of the last training step
            self.print(f"step {trainer.global_step} validated{numbers(found)}", file=sys.stderr, flush=True)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin(0)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin(0)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print how many batches are tested, now and then."""
        self._count(batch_idx + 1, trainer.num_test_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print how many batches are predicted, now and then."""
        self._count(batch_idx + 1, trainer.num_predict_batches[dataloader_idx])

    def _begin(self, step: int) -> None:
        self.first = self.last = step
        self.started = self.spoken = time.monotonic()

    def _due(self, step: int, total: float) -> bool:
        """Tell whether a line is due: never twice at a step, as with accumulated gradients."""
        if not self.enabled or step == self.last:
            return False
        crossed = int(step / total / SHARE + 1e-9) > int(self.last / total / SHARE + 1e-9)
        return crossed or time.monotonic() - self.spoken > QUIET

    def _count(self, done: int, total: float) -> None:
        if self._due(done, total):
            self._tell("batch", done, total, {})

    def _tell(self, unit: str, done: int, total: float, shown: dict[str, Any]) -> None:
        self.last, self.spoken = done, time.monotonic()
        rate = (done - self.first) / max(self.spoken - self.started, 1e-9)
        line = f"{unit} {done}" + ("" if total == float("inf") else f"/{total:.0f}") + numbers(shown)
        line += f", {rate:.3g} {PLURAL[unit]}/s"
        if total != float("inf"):
            line += f", {timedelta(seconds=round((total - done) / rate))} left"
        self.print(line, file=sys.stderr, flush=True)


def numbers(values: dict[str, Any]) -> str:
    """Return `: name value, name value`; nothing for nothing."""
    told = ", ".join(f"{name} {float(value):.4g}" for name, value in values.items())
    return f": {told}" if told else ""
