"""Where training starts: from the weights of an earlier stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from medvl.errors import CheckpointError


class StartFrom(Callback):
    """Starts `fit` from the weights of another run of the same model: stage two from stage one, on other data.

    Only the weights are taken; optimiser, schedule and calibration begin anew. A run that goes on with `--ckpt_path
    last` keeps what it had.

    Args:
        checkpoint: A checkpoint, or a run folder, of which the best one counts.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint, self._missing = checkpoint, False

    @property
    def file(self) -> Path:
        """The checkpoint's file."""
        given = Path(self.checkpoint).expanduser()
        return given / "checkpoints" / "best.ckpt" if given.is_dir() else given

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the weights, before an average is made of them and before Lightning restores a run that goes on.

        Raises:
            CheckpointError: The checkpoint is damaged or of another model.
        """
        if stage != "fit":
            return
        self._missing = not self.file.is_file()
        if self._missing:
            return
        try:
            held = torch.load(self.file, map_location="cpu", weights_only=True)
            pl_module.load_state_dict(held["state_dict"])
        except Exception as error:  # a broken archive raises whatever its bytes lead to
            reason = (str(error).splitlines() or [""])[:2][-1].strip()[:120]
            raise CheckpointError(
                "the checkpoint to start from is damaged or of another model", where=str(self.file), hint=reason
            ) from error
        rank_zero_info(f"weights from {self.file}, step {held.get('global_step', '?')}")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Need nothing: a run that goes on has its weights."""
        self._missing = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to start from nothing.

        Raises:
            CheckpointError: There is no such checkpoint.
        """
        if self._missing:
            raise CheckpointError(
                "no such checkpoint to start from", where=str(self.file), command="medvl fit ... of the stage before"
            )
