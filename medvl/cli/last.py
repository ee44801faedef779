"""`last.ckpt`: when it is written, so that a run that was killed or told to stop goes on as if nothing had been."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from medvl.cli import slurm
from medvl.cli.checkpoints import LAST
from medvl.cli.runs import CHECKPOINTS

TERMINATED = 128 + signal.SIGTERM


class Stopped(SystemExit):
    """Ends a run that a signal stopped, once its checkpoint is written."""


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: after each validation, every so many steps, at the end, and when a signal asks to stop.

    A save waits for the end of an optimiser step, for half-summed gradients are not kept, and for the validation that
    the step calls for, since a run that goes on would leave it out. It comes before the end of the epoch or the run is
    booked, so that `fit --ckpt_path last` with a larger `--trainer.max_steps` goes on within the epoch.

    SIGTERM saves after the step and stops, with status 143; under SLURM the signal to requeue (SIGUSR1, unless the
    `SLURMEnvironment` names another) does the same and asks for the job to be started again. Both wait for a running
    validation, and skip one that is due: the time is short.

    Args:
        every: Optimiser steps between saves; None saves with validations only.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.owed = False
        self.asked: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals, in place of Lightning, whose handlers save in the middle of a step; it takes them back."""
        numbers = [signal.SIGTERM, *([again] if (again := _requeue_signal(trainer)) else [])]
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where that is due."""
        if trainer.fit_loop._should_accumulate():
            return
        if self._stop(trainer):
            self.save(trainer)
            raise stop_by(self.asked, trainer)
        self.owed |= self._due(trainer)
        loop = trainer.fit_loop
        if self.owed and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, or owe it until the gradients that are being summed are used."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self.owed = True
        if not trainer.fit_loop._should_accumulate():
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write `last.ckpt`; every rank takes part."""
        self.owed = False
        trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINTS / LAST)

    def _due(self, trainer: Trainer) -> bool:
        """Tell whether this step is one to save at."""
        step, loop = trainer.global_step, trainer.fit_loop
        ends = loop.epoch_loop._num_ready_batches_reached()
        last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        return bool(
            (self.every and step % self.every == 0)
            or trainer.should_stop
            or step == trainer.max_steps
            or (ends and (last_epoch or not trainer.enable_validation))
        )

    def _stop(self, trainer: Trainer) -> bool:
        """Tell whether any rank was asked to stop: signals need not reach all of them, nor in the same step."""
        asked = self.asked is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked


def stop_by(number: int | None, trainer: Trainer) -> Stopped:
    """Ask for a new start where the signal says so, tell what was done, and return what ends the run.

    Args:
        number: The signal; None on a rank that got none.
        trainer: Of the run.
    """
    if not trainer.is_global_zero:
        return Stopped(0)  # a launcher that sees another rank fail would kill the first
    again = slurm.requeue() if number is not None and number == _requeue_signal(trainer) else None
    name = signal.Signals(number).name if number is not None else "a signal on another rank"
    print(
        f"{name}: saved at step {trainer.global_step}" + (f", job {again} requeued" if again else ""), file=sys.stderr
    )
    return Stopped(0 if again else TERMINATED)


def _requeue_signal(trainer: Trainer) -> int | None:
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None
