"""What a run leaves behind: whole checkpoints, and the config inside and beside them."""

from __future__ import annotations

import errno
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from medvl.cli import slurm
from medvl.cli.checkpoints import LAST, checksum, intact, keep_predecessor, sidecar, write_sidecar
from medvl.cli.metrics_file import rewind
from medvl.cli.runs import CHECKPOINTS, point_latest, write_newest
from medvl.cli.weights_file import SUFFIX, read_weights, write_weights
from medvl.errors import CheckpointError
from medvl.io.atomic import replacing, sync_folder, write_text

CONFIG_KEY = "medvl_config"
DATA = "data.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads primitives and tensors only.

    What `last.ckpt` was becomes `previous.ckpt`, unless it is damaged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrote: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write whole or not at all, with a checksum beside it.

        Raises:
            CheckpointError: The disk is full; what was saved before stays.
        """
        target = Path(path)
        if target.suffix == SUFFIX:  # exported weights that `medvl calibrate` has gone over
            return write_weights(target, checkpoint)
        try:
            with replacing(target) as draft:
                with draft.open("wb") as file:
                    torch.save(checkpoint, file)
                digest = checksum(draft)
                if target.name == LAST and target.is_file() and (target in self.wrote or intact(target)):
                    keep_predecessor(target)
                sidecar(target).unlink(missing_ok=True)  # from here to its rewrite the file stands without a checksum
            write_sidecar(target, digest)
        except (OSError, RuntimeError) as error:
            raise (no_room(error, target) or error) from error
        sync_folder(target.parent)
        self.wrote.add(target)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; `weights_only` is True whatever is asked.

        Raises:
            CheckpointError: The file is damaged, is no checkpoint, or holds more than tensors and primitives.
        """
        if Path(path).suffix != SUFFIX and not intact(Path(path)):
            raise CheckpointError("the checkpoint is damaged (its checksum differs)", where=str(path))
        return load_primitives(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its checksum."""
        super().remove_checkpoint(path)
        sidecar(Path(path)).unlink(missing_ok=True)


def no_room(error: BaseException, where: Path) -> CheckpointError | None:
    """Return what to tell if an error, or one behind it, is that there is no room left; else None."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in FULL:
            what = f"no room to write ({os.strerror(chain.errno)})"
            run = where.parent.parent if where.parent.name == CHECKPOINTS else where
            hint = "what was saved before is whole; make room, then go on"
            return CheckpointError(what, where=str(where), hint=hint, command=f"medvl fit --run {run} --ckpt_path last")
        chain = chain.__cause__ or chain.__context__
    return None


def load_primitives(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`, or exported weights; or say in one line why that cannot be."""
    if path.suffix == SUFFIX:
        return read_weights(path, map_location)
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
        done: Optimiser steps that a run which goes on has done.
    """

    def __init__(self, folder: Path, config: str, stage: str, newest: bool, done: int = 0) -> None:
        self.folder, self.config, self.stage, self.newest, self.done = folder, config, stage, newest, done
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
            if self.stage == "fit":  # what test and predict are asked about need not be what was learnt from
                write_newest(self.folder / DATA, _facts(trainer))
                slurm.mark(self.folder)
                rewind(self.folder, self.done)
            if self.newest:
                point_latest(self.folder)
        self.begun = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: data and model are there, and have gone through the sanity check."""
        self.begin(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write again what is known of the data: of some there may be less than in the beginning."""
        if trainer.is_global_zero and (self.folder / DATA).is_file():
            write_text(self.folder / DATA, [_facts(trainer)])

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

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the config into the checkpoint as a string, so that it alone suffices for inference."""
        checkpoint[CONFIG_KEY] = self.config


def _facts(trainer: Trainer) -> str:
    facts = getattr(getattr(trainer, "datamodule", None), "facts", {})
    return json.dumps(facts, indent=2) + "\n"


def default_checkpoint(folder: Path, monitor: tuple[str, str]) -> ModelCheckpoint:
    """Return the callback that keeps `best.ckpt` (by `monitor`: metric, `min` or `max`)."""
    metric, mode = monitor
    return ModelCheckpoint(
        dirpath=folder / CHECKPOINTS,
        filename="best",
        monitor=metric,
        mode=mode,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        save_on_train_epoch_end=False,  # with the validation, before `last.ckpt` is written
    )


def write_report(folder: Path) -> Path:
    """Write `report.html`; a report that fails must not lose the run."""
    try:
        from medvl.viz.report import write_report as write

        return write(folder)
    except Exception as error:
        print(f"warning: no report ({type(error).__name__}: {error})", file=sys.stderr)
        return folder / "metrics.jsonl"
