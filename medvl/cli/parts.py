"""What every trainer of ours carries: recorder, checkpoints, plain progress lines, loggers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO, MixedPrecision, Precision

from medvl.cli.last import LastCheckpoint
from medvl.cli.lost import LostRows
from medvl.cli.metrics_file import MetricsFile
from medvl.cli.norms import NormCheck
from medvl.cli.progress import plain_lines
from medvl.cli.recording import RunRecorder, WholeCheckpointIO, default_checkpoint
from medvl.cli.resuming import Resumption
from medvl.errors import ConfigError

PRECISIONS = ("None", "32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")


def trainer_parts(
    config: Namespace,
    folder: Path,
    subcommand: str,
    recorder: RunRecorder,
    monitor: tuple[str, str],
    save_every: int | None,
) -> dict[str, list[Any]]:
    """Return `callbacks`, `plugins` and `logger`: the user's own and ours, ours only where the user names none.

    Args:
        config: The trainer's part of the configuration, its classes built.
        folder: The run folder.
        subcommand: `fit`, `validate`, `test` or `predict`.
        recorder: Comes first, since it makes the folder.
        monitor: Metric and mode by which the best checkpoint is chosen.
        save_every: Optimiser steps between saves of `last`, besides those after validation.
    """
    callbacks = [recorder, Resumption(), NormCheck(), LostRows(), *as_list(config.callbacks)]
    checkpointing = config.enable_checkpointing is not False and not config.fast_dev_run
    if checkpointing and not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        callbacks.append(default_checkpoint(folder, monitor))
    callbacks += [LastCheckpoint(save_every)] if checkpointing else []
    callbacks += plain_lines(config.enable_progress_bar, callbacks)
    plugins = as_list(config.plugins)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpointIO())
    loggers = [MetricsFile(folder, subcommand), *as_list(None if config.logger is True else config.logger)]
    if config.logger in (None, True):
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version="", purge_step=recorder.done or None))
    return {"callbacks": callbacks, "plugins": plugins, "logger": loggers}


def check_precision(precision: Any) -> None:
    """Refuse what would round a batch's coordinates, boxes and millimetres.

    Raises:
        ConfigError: The trainer's precision does not keep 32 bits beside the halves.
    """
    if str(precision) not in PRECISIONS:
        hint = "a batch holds coordinates in 32 bits; use 32-true, bf16-mixed or 16-mixed"
        raise ConfigError(f"no training in precision {precision}", where="trainer.precision", hint=hint)


def let_fused_be_clipped(trainer: Trainer) -> Trainer:
    """Return `trainer`, with the gradients of fused optimisers clipped in bfloat16 too, where no scaler is in the way.

    Lightning refuses that in any mixed precision (its issue #21435, mended behind 2.6.6).
    """
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
        plugin.clip_gradients = partial(Precision.clip_gradients, plugin)  # type: ignore[method-assign]
    return trainer


def as_list(value: Any) -> list[Any]:
    """Return `value` as a new list: empty for None and False."""
    if value is None or value is False:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
