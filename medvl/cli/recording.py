"""What a run leaves behind: `metrics.jsonl`, whole checkpoints, and the config inside and beside them."""

from __future__ import annotations

import json
import math
import os
import sys
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from medvl.cli.runs import CHECKPOINTS, checksum, intact, point_latest, sidecar, write_newest
from medvl.errors import CheckpointError
from medvl.io.atomic import replacing, write_text

CONFIG_KEY = "medvl_config"


class MetricsFile(Logger):
    """Appends one JSON object per log call to `metrics.jsonl`: `step`, `epoch`, `stage` and the metrics of the moment.

    Args:
        folder: The run folder. A value that is not finite is written as null, since JSON has no NaN.
        stage: `fit`, `validate` or `test`: a later validation may be of other data.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        super().__init__()
        self.folder, self.stage = folder, stage

    @property
    def name(self) -> str:
        """Not a part of the path: everything lies in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Not a part of the path either."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder: Lightning takes its `log_dir` from the first logger."""
        return str(self.folder)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line."""
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        line: dict[str, float | str | None] = {"step": step, "epoch": int(metrics.get("epoch", 0)), "stage": self.stage}
        line |= {key: value if math.isfinite(value) else None for key, value in values.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the whole config is in `fit.yaml`."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads primitives and tensors only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write whole or not at all, with a checksum beside it."""
        target = Path(path)
        with replacing(target) as draft:
            torch.save(checkpoint, draft)
            digest = checksum(draft)
            sidecar(target).unlink(missing_ok=True)  # between here and its rewrite the file stands without a checksum
        write_text(sidecar(target), [f"{digest}  {target.name}\n"])

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; `weights_only` is True whatever is asked.

        Raises:
            CheckpointError: The file is damaged, is no checkpoint, or holds more than tensors and primitives.
        """
        if not intact(Path(path)):
            raise CheckpointError("the checkpoint is damaged (its checksum differs)", where=str(path))
        return load_primitives(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its checksum."""
        super().remove_checkpoint(path)
        sidecar(Path(path)).unlink(missing_ok=True)


def load_primitives(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`, or say in one line why it cannot be."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError("not a whole checkpoint", where=str(path))
    try:
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # which kinds torch raises, pickle's own among them, differs between versions
        raise CheckpointError(
            "the checkpoint is damaged, or holds more than tensors and plain values", where=str(path)
        ) from error
    return loaded


class RunRecorder(Callback):
    """Ties the trainer to its run folder: same folder on every rank, config beside and inside the checkpoints.

    Args:
        folder: The run folder, as rank 0 named it; other ranks learn theirs from it.
        config: The resolved config as YAML.
        stage: Stem of the file that holds it: `fit`, `test`, ...
        newest: Whether `latest` names this run from when it begins.
    """

    def __init__(self, folder: Path, config: str, stage: str, newest: bool) -> None:
        self.folder, self.config, self.stage, self.newest = folder, config, stage, newest
        self.begun = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        # What `trainer.default_root_dir` answers; the property has no setter.
        trainer._default_root_dir = str(self.folder)  # type: ignore[attr-defined]

    def begin(self, trainer: Trainer) -> None:
        """Write, once, the config and what training is about to see: a start that failed leaves nothing."""
        if trainer.is_global_zero and not self.begun:
            write_newest(self.folder / f"{self.stage}.yaml", self.config)
            facts = getattr(getattr(trainer, "datamodule", None), "facts", {})
            if self.stage == "fit":  # what test and predict are asked about need not be what was learnt from
                write_newest(self.folder / "data.json", json.dumps(facts, indent=2) + "\n")
            if self.newest:
                point_latest(self.folder)
        self.begun = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: data and model are there, and have gone through the sanity check."""
        self.begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, if this is no part of training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self.begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self.begin(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last steps too: others save after validation, which need not be where the run ends."""
        if trainer.checkpoint_callbacks and trainer.global_step:
            trainer.save_checkpoint(self.folder / CHECKPOINTS / "last.ckpt")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the config into the checkpoint as a string, so that it alone suffices for inference."""
        checkpoint[CONFIG_KEY] = self.config


def default_checkpoint(folder: Path, monitor: tuple[str, str]) -> ModelCheckpoint:
    """Return the callback that keeps `best.ckpt` (by `monitor`: metric, `min` or `max`) and `last.ckpt`."""
    metric, mode = monitor
    return ModelCheckpoint(
        dirpath=folder / CHECKPOINTS,
        filename="best",
        monitor=metric,
        mode=mode,
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


def write_report(folder: Path) -> Path:
    """Write `report.html`; a report that fails must not lose the run."""
    try:
        from medvl.viz.report import write_report as write

        return write(folder)
    except Exception as error:
        print(f"warning: no report ({type(error).__name__}: {error})", file=sys.stderr)
        return folder / "metrics.jsonl"
